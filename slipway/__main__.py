"""`python -m slipway` is the command `slipway`, of the interpreter that one names."""

from slipway.cli.main import run

if __name__ == "__main__":
    run()

"""`slipway`, and `python -m slipway`, which is the same of the interpreter that one names."""

import sys


def run() -> None:
    """The entry point. Ctrl-C is no accident, not even while the command itself is still being imported."""
    try:
        from slipway.cli.main import run as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()

"""What the control plane promises, measured on this machine. `scripts/prove` runs it."""

from __future__ import annotations

import argparse
import sys

from benchmarks.proofs import fleet, neighbours

PROOFS = {"neighbours": neighbours.prove, "fleet": fleet.prove}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proofs", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PROOFS, []], help="all where none is named")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size: does it run at all?")
    given = parser.parse_args()
    kept = [PROOFS[name](quick=given.quick) for name in given.names or PROOFS]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Check this package on a GPU: parity, speed, memory and calibration, in one table.

    python benchmarks/gpu_check.py [--out build/gpu-check.md] [--seconds 420] [--device cuda]

It needs Python 3.10 or newer with torch, safetensors and NumPy; other packages are taken from the
wheels in build/gpu (`make gpu-wheels`), without an installation and without a network. On a machine
without a GPU the same steps run on the CPU, with small sizes.

Each row of the table is measured on its own: an error becomes a row "FAILED: reason", and the exit
code is then 1. Rows are printed as they are done. What does not fit in --seconds is skipped, and
its row says so; 45 seconds after that, the program stops at whatever it is doing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CARRIED = ROOT / "build" / "gpu"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-check.md")
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--device", help="default: cuda if there is one, else cpu")
    parser.add_argument("--carry", action="store_true", help="write the digits to build/gpu only")
    given = parser.parse_args()
    _find_packages()
    if given.carry:
        from gpu_check_digits import carry_digits

        carry_digits(CARRIED)
        return 0
    from gpu_check_steps import run_all

    return run_all(given.out, given.seconds, given.device, CARRIED)


def _find_packages() -> None:
    """Find this package in the repository, and what is not installed in the wheels."""
    sys.path.insert(0, str(ROOT))
    # Python imports from a wheel of pure Python as it is; installed packages go first.
    sys.path += sorted(str(wheel) for wheel in CARRIED.glob("wheels/*-none-any.whl"))


if __name__ == "__main__":
    sys.exit(main())

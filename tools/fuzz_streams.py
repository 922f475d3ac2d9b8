"""Fuzzed upstream streams through a real gateway: prints how they ended, and exits 1 with the seeds that failed.

python tools/fuzz_streams.py --streams 10000 --seed 1
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "gateway"))

from fuzz import FailedError, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            counts = run(options.streams, options.seed, Path(folder))
        except FailedError as error:
            print(error)
            return 1
    ended = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(f"{options.streams} streams of seed {options.seed} in {time.monotonic() - started:.0f} s: {ended}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m benchmarks``."""

import importlib.util
import sys

if __name__ == "__main__":
    for needed in ("cffi", "psutil"):
        if importlib.util.find_spec(needed) is None:
            sys.exit(f"benchmarks need {needed}: pip install --group benchmarks")
    from benchmarks.command import main
    from benchmarks.suite import SUITE

    sys.exit(main(SUITE))

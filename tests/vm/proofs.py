"""Prove on real kernels what a Tracker says is idle, and what reclaim and touch do.

    python tests/vm/proofs.py                      on Debian's 6.1, 6.12 and newest
    python tests/vm/proofs.py --only amd64/6.12    on one of them
    python tests/vm/proofs.py --of reclaim         of one of the two
    python tests/vm/proofs.py --kernel DIRECTORY   on one of your own: `vmlinuz` there
                                                   has zram, virtio and xfs built in,
                                                   and CONFIG_IDLE_PAGE_TRACKING

    python tests/vm/proofs.py --experiment store --runs 3     an experiment instead

idle_guest.py and reclaim_guest.py are what runs there.  The exit status is 0 only if
every check passed in every guest, 1 if one failed, 2 if nothing could be run.
"""

import argparse
import concurrent.futures
import dataclasses
import sys
import tempfile
from pathlib import Path

import guest
import matrix
import wheels
from cells import CELLS, Cell
from debian import Archive, VmError
from suites import SELFTEST_RESULT, Suite, pure_packages

NAMES = ("amd64/6.12", "amd64/newest", "amd64/6.1")
OLD = "amd64/6.1"
"""Has no source of idle memory but mappings, which every kernel has: not by default."""
PROOFS = ("idle", "reclaim")
FIGURES = ("sharing",)
"""For the guide: run when they are asked for."""
SHARED = ("command_guest", "guest_groups", "guest_targets")
HERE = Path(__file__).parent


def suite(cell: Cell, options: argparse.Namespace) -> Suite:
    """Return what runs in a guest: the checks, or so many runs of the experiment."""
    proof = HERE / "proof.py"
    if options.experiment is None:
        names = options.of or (("reclaim",) if cell.name == OLD else PROOFS)
        modules = [f"{name}_guest" for name in names]
        files = [HERE / f"{name}.py" for name in (*modules, *SHARED)]
        command = " ".join([f"/cell/{proof.name}", *modules])
        pure = pure_packages(("click", "humanize", "rich"))  # of the command
        return Suite(command, SELFTEST_RESULT, (proof, *files, pure))
    experiments = wheels.ROOT / "docs/examples/pressured"
    return Suite(
        f"/cell/{proof.name} experiment {options.experiment} {options.runs}",
        SELFTEST_RESULT,
        (proof, experiments, pure_packages(("rich",))),
        ("mount",),
    )


def run(
    cell: Cell,
    archive: Archive,
    wheelhouse: Path,
    options: argparse.Namespace,
) -> matrix.Result:
    """Boot a cell's kernel, or one's own, and judge it."""
    wheel = matrix.wheels_by_architecture([cell], wheelhouse)[cell.arch]
    what = suite(cell, options)
    outcome = guest.boot(cell, archive, what, wheel, options.timeout, options.kernel)
    return matrix.judge(cell, outcome, SELFTEST_RESULT)


def main() -> int:
    """Boot each guest, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", choices=NAMES, help="one cell")
    add("--kernel", type=Path, metavar="DIRECTORY", help="of a kernel of your own")
    add("--of", choices=PROOFS + FIGURES, action="append", help="one of the proofs")
    add("--experiment", metavar="NAME", help="run an experiment of pressured instead")
    add("--runs", type=int, default=1, metavar="N", help="of the experiment (1)")
    add("--timeout", type=float, default=600, metavar="S", help="for a guest (600 s)")
    add("--mirror", metavar="URL", help="of Debian; else as in the machine's sources")
    add("--wheelhouse", type=Path, metavar="DIR", help="wheels to test, none is built")
    options = parser.parse_args()
    cells = sorted(
        (cell for cell in CELLS if cell.name in NAMES),
        key=lambda cell: NAMES.index(cell.name),  # those that take longest first
    )
    if options.only:
        cells = [cell for cell in cells if cell.name == options.only]
    if options.kernel:
        (options.kernel / "modules").mkdir(exist_ok=True)
        cells = [dataclasses.replace(cells[0], name="own", by_pip=False)]
    try:
        matrix.require(matrix.packages(cells, building=options.wheelhouse is None))
        with (
            Archive(options.mirror, False) as archive,
            tempfile.TemporaryDirectory(prefix="pmadvise-vm-") as scratch,
        ):
            wheelhouse = options.wheelhouse or Path(scratch)
            if options.wheelhouse is None:
                wheels.build(wheels.ROOT, [cells[0].machine], wheelhouse)
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                runs = [
                    pool.submit(run, cell, archive, wheelhouse, options)
                    for cell in cells
                ]
                results = [one.result() for one in runs]
    except VmError as error:
        print(f"proofs.py: {error}", file=sys.stderr)
        return 2
    for result in results:
        print(result.console, result, sep="\n")
    return 1 if any(result.why for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())

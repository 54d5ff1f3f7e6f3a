"""Run the selftest of each wheel on real kernels, old and new, of its architecture.

    python tests/vm/matrix.py                       every cell
    python tests/vm/matrix.py --cells 'amd64/*'     some of them
    python tests/vm/matrix.py --list                their names

Each cell is a Debian kernel booted by qemu in software emulation, with swap on
zram; the cell's wheel is installed there by pip, and `python -m pmadvise.selftest`
runs as root.  The exit status is 0 only if every cell asked for passed, 1 if
one failed, 2 if nothing could be run.
"""

import argparse
import concurrent.futures
import fnmatch
import functools
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import guest
import suites
import wheels
from cells import CELLS, MACHINES, Cell
from debian import KEYRING, Archive, VmError

MARKS = "<!-- vm-matrix:begin -->\n", "<!-- vm-matrix:end -->\n"

# The programs that are called, and the Debian packages that have them.
PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-ppc64": "qemu-system-ppc",
    "qemu-system-s390x": "qemu-system-misc",
    "x86_64-linux-gnu-gcc": "gcc libc6-dev",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "powerpc64le-linux-gnu-gcc": "gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross",
    "s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu libc6-dev-s390x-cross",
    "readelf": "binutils",
    "cpio": "cpio",
    "depmod": "kmod",
    "xz": "xz-utils",
    "zstd": "zstd",
    "mkfs.xfs": "xfsprogs",
    KEYRING: "debian-archive-keyring",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a cell: `why` says what was wrong with it, '' if it passed."""

    cell: str
    why: str
    kernel: str = ""
    page_size: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0
    console: str = ""

    def __str__(self) -> str:
        """Say it in a line."""
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        verdict = f"FAILED, {self.why}" if self.why else "ok"
        return f"{self.cell:15} {self.kernel:28} {verdict}: {counts}, {self.seconds} s"


def judge(cell: Cell, outcome: guest.Outcome, result_line: str) -> Result:
    """Believe a guest if exit status and result line agree, and it skipped nothing."""
    found = list(re.finditer(result_line, outcome.console, re.MULTILINE))
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    if len(found) == 1:
        counts |= {name: int(n or 0) for name, n in found[0].groupdict().items()}
    status = outcome.said(r"cell: exit (\d+)")
    skipped = set(re.findall(r"^skip (\w+) - ", outcome.console, re.MULTILINE))
    if not outcome.ended:
        why = "killed: it did not end in time"
    elif status != "0":
        why = f"exit status {status}" if status else "it ended without a result"
    elif not counts["passed"] or counts["failed"]:
        why = "exit status 0, but no result line that says so"
    elif skipped - cell.may_skip:
        why = f"skipped {', '.join(sorted(skipped - cell.may_skip))}"
    else:
        why = ""
    return Result(
        cell.name,
        why,
        outcome.said(guest.STARTED),
        int(outcome.said(r"cell: page (\d+)") or 0),
        **counts,
        seconds=round(outcome.seconds, 1),
        console=outcome.console,
    )


def table(results: Iterable[Result]) -> str:
    """Render the results in Markdown."""
    rows = [
        "| cell | kernel | pages | result | passed | failed | skipped | seconds |",
        "|---|---|--:|---|--:|--:|--:|--:|",
    ]
    for result in results:
        pages = f"{result.page_size // 1024} KiB" if result.page_size else ""
        rows.append(
            f"| {result.cell} | {result.kernel} | {pages} |"
            f" {'**failed**' if result.why else 'ok'} | {result.passed} |"
            f" {result.failed} | {result.skipped} | {result.seconds} |"
        )
    return "\n".join(rows) + "\n"


def rewrite(page: Path, block: str) -> None:
    """Put the table between the marks of a page."""
    before, begin, rest = page.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise VmError(f"{page} lacks the lines {MARKS[0]!r} and {MARKS[1]!r}")
    page.write_text(before + begin + block + end + after)


def chosen(patterns: list[str]) -> list[Cell]:
    """Return the cells that the patterns name, each of which must name one."""
    names = [cell.name for cell in CELLS]
    wanted: set[str] = set()
    for pattern in ",".join(patterns).split(","):
        named = fnmatch.filter(names, pattern)
        if not named:
            raise VmError(f"no cell is named {pattern!r}: see --list")
        wanted.update(named)
    return [cell for cell in CELLS if cell.name in wanted]


def packages(cells: list[Cell], building: bool) -> dict[str, str]:
    """Map the programs that these cells need to their Debian packages."""
    programs = {"cpio", "depmod", "xz", "zstd", "mkfs.xfs", KEYRING}
    programs |= {cell.machine.qemu for cell in cells}
    if building:
        programs |= {f"{cell.machine.compiler}-gcc" for cell in cells} | {"readelf"}
    return {name: PACKAGES[name] for name in PACKAGES if name in programs}


def require(needed: dict[str, str]) -> None:
    """Raise unless all of these programs are there."""
    missing = [
        package
        for program, package in needed.items()
        if not (shutil.which(program) or Path(program).is_file())
    ]
    if missing:
        raise VmError(f"Debian packages that are missing: {' '.join(missing)}")


def require_root_and_swap() -> None:
    """Raise unless this is root, and 256 MiB of swap are free."""
    if os.geteuid():
        raise VmError("not root: run it with sudo")
    found = re.search(r"^SwapFree: +(\d+)", Path("/proc/meminfo").read_text(), re.M)
    if not found or int(found[1]) << 10 < 256 << 20:
        raise VmError("less than 256 MiB of swap are free: .ci/host up DIRECTORY")


def wheels_by_architecture(cells: list[Cell], wheelhouse: Path) -> dict[str, Path]:
    """Find the wheel of each of the cells' architectures."""
    found = {}
    for arch in {cell.arch for cell in cells}:
        pattern = f"*-abi3-manylinux*_{MACHINES[arch].wheel}.whl"
        matching = sorted(wheelhouse.glob(pattern))
        if len(matching) != 1:
            raise VmError(f"{wheelhouse}: {len(matching)} wheels are named {pattern}")
        found[arch] = matching[0]
    return found


def run_cell(
    cell: Cell,
    archive: Archive,
    wheel: dict[str, Path],
    suite: suites.Suite,
    timeout: float,
) -> Result:
    """Boot a cell and judge it; a cell that can't be had is a failed one."""
    try:
        outcome = guest.boot(cell, archive, suite, wheel[cell.arch], timeout)
    except VmError as error:
        return Result(cell.name, str(error))
    return judge(cell, outcome, suite.result_line)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--list", action="store_true", help="name the cells")
    add("--packages", action="store_true", help="name the Debian packages they need")
    add("--cells", action="append", metavar="PATTERN", help="some cells: 'amd64/*,...'")
    add("--jobs", type=int, default=2, metavar="N", help="cells at a time (2)")
    add("--timeout", type=float, default=300, metavar="S", help="for a cell (300 s)")
    add("--json", type=Path, metavar="FILE", help="write the results there")
    add("--table", type=Path, metavar="FILE", help="write the table between its marks")
    add("--mirror", metavar="URL", help="of Debian; else as in the machine's sources")
    add("--refresh", action="store_true", help="fetch anew what the cache has")
    add("--source", type=Path, default=wheels.ROOT, metavar="TREE", help="to build")
    add("--wheelhouse", type=Path, metavar="DIR", help="wheels to test, none is built")
    add("--selftest-args", default="", metavar="ARGS", help="more for the selftest")
    add("--pytest", action="store_true", help="run the portable tests instead")
    options = parser.parse_args(argv)
    if options.table and (options.cells or options.pytest):
        parser.error("--table wants the selftest's whole table")
    return options


def matrix(options: argparse.Namespace) -> int:
    """Run the cells that were asked for, and report."""
    cells = chosen(options.cells or ["*"])
    if options.list:
        print(*(cell.name for cell in cells), sep="\n")
        return 0
    needed = packages(cells, building=options.wheelhouse is None)
    if options.packages:
        print(*needed.values())
        return 0
    require(needed)

    start = time.monotonic()
    results = []
    with (
        Archive(options.mirror, options.refresh) as archive,
        tempfile.TemporaryDirectory(prefix="pmadvise-vm-") as scratch,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
    ):
        machines = [
            MACHINES[arch] for arch in MACHINES if arch in {c.arch for c in cells}
        ]
        wheelhouse = options.wheelhouse or Path(scratch)
        if options.wheelhouse is None:
            wheels.build(options.source, machines, wheelhouse)
        run = functools.partial(
            run_cell,
            archive=archive,
            wheel=wheels_by_architecture(cells, wheelhouse),
            suite=suites.portable_tests(options.source)
            if options.pytest
            else suites.selftest(options.selftest_args),
            timeout=options.timeout,
        )
        # The emulators named last are the slowest: they begin first.
        begun = [pool.submit(run, cell) for cell in reversed(cells)]
        for result in (one.result() for one in reversed(begun)):
            print(result.console if result.why else "", result, sep="", flush=True)
            results.append(result)

    bad = [result for result in results if result.why]
    seconds = time.monotonic() - start
    print(f"\n{table(results)}\n{len(cells)} cells, {len(bad)} failed, {seconds:.0f} s")
    if options.json:
        rows = [asdict(result) for result in results]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.table and not bad:
        rewrite(options.table, table(results))
    return 1 if bad else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; say in a line why nothing could be run."""
    options = arguments(argv)
    try:
        return matrix(options)
    except VmError as error:
        print(f"matrix.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

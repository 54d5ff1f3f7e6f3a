"""What a cell runs: the selftest, or those tests that any host can run."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from debian import CACHE, made_once, run

# Tests of arithmetic, parsing and layout, which differ by endianness and page size; not
# of thousands of mappings, which take minutes there.
PORTABLE_TESTS = "tests/unit --ignore tests/unit/test_engine_hostile.py"
FROM_DEBIAN = ("python3-numpy",)
PURE_PACKAGES = ("pytest", "pytest-timeout", "hypothesis")
PINS = Path(__file__).parents[2] / ".github/requirements.txt"

SELFTEST_RESULT = (
    r"^(?P<passed>\d+) passed, (?P<failed>\d+) failed, (?P<skipped>\d+) skipped$"
)
PYTEST_RESULT = (
    r"^(?:(?P<failed>\d+) failed, )?(?P<passed>\d+) passed"
    r"(?:, (?P<skipped>\d+) skipped)?.* in \d.*s.*$"
)


@dataclass(frozen=True, slots=True)
class Suite:
    """A command for the guest's Python, the line that it ends with, what it needs."""

    command: str
    result_line: str
    payload: tuple[Path, ...] = ()
    packages: tuple[str, ...] = ()


def selftest(arguments: str) -> Suite:
    """Return the whole selftest of the wheel."""
    return Suite(
        f"-m pmadvise.selftest {arguments}",
        SELFTEST_RESULT,
    )


def portable_tests(source: Path) -> Suite:
    """Return the tests of a tree that need nothing of the host."""
    return Suite(
        "-m pytest -q --color=no -p no:cacheprovider --hypothesis-profile=emulated "
        "--timeout=0 -o faulthandler_exit_on_timeout=false " + PORTABLE_TESTS,
        PYTEST_RESULT,
        (source / "pyproject.toml", source / "tests", pure_packages()),
        FROM_DEBIAN,
    )


def pure_packages(packages: tuple[str, ...] = PURE_PACKAGES) -> Path:
    """Return a directory with packages of pure Python."""
    versions = PINS.read_bytes() + " ".join(packages).encode()
    # The guest has it under the last part of its path.
    product = CACHE / "python" / hashlib.sha256(versions).hexdigest()[:12] / "pure"
    with made_once(product) as scratch:
        if scratch:
            run(
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"),
                *("--only-binary=:all:", "--implementation=py", "--platform=any"),
                *("--abi=none", "--python-version=3.11", "--target", scratch),
                *("--constraint", PINS),
                *packages,
            )
    return product

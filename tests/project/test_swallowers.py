"""An OSError of a caller's signal handler goes through: no source takes it."""

from __future__ import annotations

import pytest
from helpers.layers import read_package
from helpers.needs import ROOT
from helpers.swallowers import swallowers

pytestmark = [pytest.mark.no_swap, pytest.mark.needs_sources]


def test_none_is_lost() -> None:
    """No module takes an OSError whose origin it does not know."""
    assert swallowers(read_package(ROOT / "pmadvise")) == []


@pytest.mark.parametrize(
    "source",
    [
        "os.path.exists(path)",
        "from os.path import isfile as is_a_file",
        "pathlib.Path(path).is_dir()",
        "shutil.which('sh')",
        "with contextlib.suppress(OSError): pass",
        "with suppress(ValueError, ProcessLookupError): pass",
        "try: pass\nexcept OSError: pass",
        "try: pass\nexcept (ValueError, builtins.TimeoutError): pass",
    ],
)
@pytest.mark.parametrize("module", ["maps", "hold.handle"])
def test_a_loss_is_found(module: str, source: str) -> None:
    """However it is written."""
    assert len(swallowers({module: source})) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("maps", "from pmadvise._proc.files import exists\nexists(path)"),
        ("maps", "try: pass\nexcept own(OSError): pass"),
        ("maps", "with suppress(MemoryError): pass"),
        ("maps", "[entry for entry in entries if entry.is_dir()]"),
        ("hold.ptrace", "try: pass\nexcept OSError: pass"),
        ("command.app", "os.path.exists(path)"),
    ],
)
def test_what_loses_none(module: str, source: str) -> None:
    """What knows the origin, runs where no handler does, or is a program's own."""
    assert swallowers({module: source}) == []

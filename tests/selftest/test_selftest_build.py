"""The selftest of a build that is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.builds import build_in_place, copy_sources
from helpers.selftest_runs import run


@pytest.mark.needs_root
@pytest.mark.needs_sources
@pytest.mark.needs_compiler
@pytest.mark.parametrize(
    ("call", "number"),
    [("PROCESS_MADVISE", 441), ("PROCESS_MADVISE", 9999), ("PIDFD_OPEN", 9999)],
)
def test_wrong_number_in_a_build(tmp_path: Path, call: str, number: int) -> None:
    """A build with the wrong number of a system call fails, and does not skip all."""
    copy_sources(tmp_path)
    header = tmp_path / "csrc/syscall_nr.h"
    text = re.sub(r"#ifdef __NR_.*?#endif\n", "", header.read_text(), flags=re.DOTALL)
    changed = re.sub(rf"(NR_{call} = PMADVISE_NR_BASE \+) \d+", rf"\1 {number}", text)
    assert changed != text
    header.write_text(changed)
    build_in_place(tmp_path)
    done = run("--size", "4", cwd=tmp_path)
    assert done.status == 1
    assert "wrong in this build" in done.failed["syscall"]

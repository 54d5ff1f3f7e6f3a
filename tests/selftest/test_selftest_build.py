"""The selftest of a build that is wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from helpers.builds import plain, rebuild
from helpers.selftest_runs import run


@pytest.mark.needs_root
@pytest.mark.needs_sources
@pytest.mark.needs_compiler
@pytest.mark.parametrize(
    ("call", "number"),
    [("PROCESS_MADVISE", 441), ("PROCESS_MADVISE", 9999), ("PIDFD_OPEN", 9999)],
)
def test_wrong_number_in_a_build(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, call: str, number: int
) -> None:
    """A build with the wrong number of a system call fails, and does not skip all."""
    shutil.copytree(plain(tmp_path_factory), tmp_path, dirs_exist_ok=True)
    header = tmp_path / "csrc/syscall_nr.h"
    text = re.sub(r"#ifdef __NR_.*?#endif\n", "", header.read_text(), flags=re.DOTALL)
    changed = re.sub(rf"(NR_{call} = PMADVISE_NR_BASE \+) \d+", rf"\1 {number}", text)
    assert changed != text
    header.write_text(changed)
    sources = (tmp_path / "csrc").glob("*.c")
    rebuild(tmp_path, [path for path in sources if header.name in path.read_text()])
    done = run("--size", "4", cwd=tmp_path)
    assert done.status == 1
    assert "wrong in this build" in done.failed["syscall"]

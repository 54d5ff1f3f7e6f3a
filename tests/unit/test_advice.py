"""The Advice enum, and what the extension exports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pmadvise
from pmadvise import Advice, _ffi

PACKAGE = Path(pmadvise.__file__).parent


@pytest.mark.parametrize("advice", Advice, ids=lambda advice: advice.name)
def test_value_is_the_extension_s(advice: Advice) -> None:
    """Each value is the one that the C header asserts against the kernel's."""
    assert getattr(_ffi.lib, f"PMADVISE_MADV_{advice.name}") == advice


def test_every_advice_of_the_extension() -> None:
    """No advice of the C header is missing."""
    names = [n for n in dir(_ffi.lib) if n.startswith("PMADVISE_MADV_")]
    assert len(names) == len(Advice)


def test_every_advice_of_the_host_s_headers() -> None:
    """Every MADV_* of the kernel's headers on this machine is there, with its value."""
    header = Path("/usr/include/asm-generic/mman-common.h")
    if not header.exists():
        pytest.skip("no kernel headers: apt install linux-libc-dev")
    found = re.findall(r"#define\s+MADV_(\w+)\s+(\d+)", header.read_text())
    assert found
    assert {n: int(v) for n, v in found}.items() <= {
        a.name: a.value for a in Advice
    }.items()


def test_remote() -> None:
    """Four advices go to another process, no more."""
    remote = {Advice.COLD, Advice.PAGEOUT, Advice.WILLNEED, Advice.COLLAPSE}
    assert {advice for advice in Advice if advice.remote} == remote


def test_destructive() -> None:
    """What can lose data is called destructive, and is never remote."""
    assert {advice.name for advice in Advice if advice.destructive} == {
        "DONTNEED",
        "FREE",
        "REMOVE",
        "DONTNEED_LOCKED",
        "HWPOISON",
        "GUARD_INSTALL",
    }


def test_stub_has_the_names_of_lib() -> None:
    """The hand-written stub names what the extension exports, no more and no less."""
    tree = ast.parse((PACKAGE / "_ffi.pyi").read_text())
    (lib,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "_Lib")
    named = {
        n.target.id
        for n in lib.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    named |= {n.name for n in lib.body if isinstance(n, ast.FunctionDef)}
    assert named == set(dir(_ffi.lib))


def test_only_sys_imports_the_extension() -> None:
    """One module touches the extension, so that one place types it."""
    importers = {
        path.name
        for path in PACKAGE.glob("*.py")
        if re.search(r"^\s*(from|import) .*\b_ffi\b", path.read_text(), re.MULTILINE)
    }
    assert importers == {"_sys.py"}


def test_import_is_light() -> None:
    """Importing pmadvise loads no tool's modules into a daemon."""
    code = "import sys, pmadvise; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    loaded = set(run.stdout.split())
    heavy = {
        "argparse",
        "asyncio",
        "ctypes",
        "dataclasses",
        "json",
        "logging",
        "subprocess",
        "tempfile",
        "threading",
        "typing_extensions",
        "pmadvise.selftest",
    }
    assert loaded & heavy == set()

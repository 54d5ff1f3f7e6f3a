"""The extension and its stub, and what an import loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pmadvise
from pmadvise import _ffi

PACKAGE = Path(pmadvise.__file__).parent


def test_stub_has_the_names_of_lib() -> None:
    """The hand-written stub has the names that the extension exports."""
    tree = ast.parse((PACKAGE / "_ffi.pyi").read_text())
    (lib,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "_Lib")
    named = {
        n.target.id
        for n in lib.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    named |= {n.name for n in lib.body if isinstance(n, ast.FunctionDef)}
    assert named == set(dir(_ffi.lib))


def test_one_package_imports_the_extension() -> None:
    """Only _native touches the extension, so that one place types it."""
    pattern = re.compile(r"^\s*(from|import) .*\b_ffi\b", re.MULTILINE)
    importers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if pattern.search(path.read_text())
    }
    assert importers == {"_native/base.py"}


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
        "pmadvise._support",
        "pmadvise.hold",
        "pmadvise.process",
        "pmadvise.selftest",
    }
    assert loaded & heavy == set()

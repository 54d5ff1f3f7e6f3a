"""The extension and its stub."""

from __future__ import annotations

import ast
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

"""The import without the extension: a sentence that has the remedy."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from types import SimpleNamespace

import pytest

from pmadvise._native import base


def import_again() -> None:
    """Import the module anew, under another name."""
    spec = importlib.util.spec_from_file_location("another", base.__file__)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize(
    ("interpreter", "words"),
    [
        ("cpython", r"not built for this Python in .*pmadvise: .*pip install -e \."),
        ("pypy", "pmadvise needs CPython: it does not work on pypy"),
    ],
)
def test_without_the_extension(
    monkeypatch: pytest.MonkeyPatch, interpreter: str, words: str
) -> None:
    """It says what to do, or which interpreter it needs."""
    monkeypatch.setitem(sys.modules, "pmadvise._ffi", None)
    of_it = {**vars(sys.implementation), "name": interpreter}
    monkeypatch.setattr(sys, "implementation", SimpleNamespace(**of_it))
    with pytest.raises(ImportError, match=words) as caught:
        import_again()
    assert caught.value.name == "pmadvise._ffi"


class Lacking(importlib.abc.MetaPathFinder):
    """Finds that a module which the extension imports is missing."""

    def find_spec(self, name: str, *_: object) -> None:
        """Raise the error of that module."""
        if name == "pmadvise._ffi":
            raise ModuleNotFoundError("no cffi", name="_cffi_backend")


def test_without_cffi(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is missing keeps its own error."""
    monkeypatch.delitem(sys.modules, "pmadvise._ffi")
    monkeypatch.setattr(sys, "meta_path", [Lacking(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match="no cffi"):
        import_again()

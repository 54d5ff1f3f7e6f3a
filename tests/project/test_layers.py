"""A module imports only from the layers below it, and the check can fail."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from helpers.layers import LAYERS, levels, read_package, room, violations
from helpers.needs import ROOT

pytestmark = [pytest.mark.no_swap, pytest.mark.needs_sources]

PACKAGE = ROOT / "pmadvise"


def test_every_import_goes_down() -> None:
    """No module imports from its own layer or a higher one, or touches cffi."""
    assert violations(read_package(PACKAGE)) == []


def test_every_layer_exists() -> None:
    """The table names every folder and module, and none that is gone."""
    assert set(levels()) - {"_ffi"} == set(map(room, read_package(PACKAGE)))


def test_contributing_has_the_table() -> None:
    """CONTRIBUTING's table of layers has the rows of this one, in their order."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.search(r"\| layer \|[^\n]*\n\|[-|]*\n((?:\|.*\n)+)", text)
    assert table is not None
    cells = [row.split("|")[1] for row in table[1].split("\n") if row]
    rows = [re.findall(r"`([\w.]+)/?`", cell) for cell in cells]
    wanted = [row.split() for row in LAYERS.split("\n") if row.strip()]
    assert rows == wanted


def test_a_native_module_for_each_c_file() -> None:
    """_native mirrors csrc/, a module for each file, and adds `base` alone."""
    modules = {path.stem for path in (PACKAGE / "_native").glob("*.py")}
    sources = {path.stem for path in (ROOT / "csrc").glob("*.c")}
    assert modules - {"__init__", "base"} == sources


@pytest.mark.parametrize(
    "source",
    [
        "import pmadvise.process",
        "import pmadvise.process as p",
        "from pmadvise import process",
        "from pmadvise.process import Process",
        "from pmadvise.process import *",
        "from . import process",
        "from .process import Process",
        "def f():\n    from pmadvise import process",
        "if TYPE_CHECKING:\n    from pmadvise import process",
        "try:\n    pass\nfinally:\n    import pmadvise.process",
        "_process = importlib.import_module('pmadvise.process')",
        "_process = importlib.import_module(name='pmadvise.process')",
    ],
)
def test_an_import_upward_is_found(source: str) -> None:
    """However it is written, an import of a higher layer is a violation."""
    assert violations({"maps": source}) == [
        "maps: imports process, which is not below it"
    ]


@pytest.mark.parametrize(
    ("module", "source", "imported"),
    [
        ("advice", "from pmadvise import ranges", "ranges"),
        ("_advise.run", "from ..process import Process", "process"),
        ("hold.handle", "from ..process import Process", "process"),
        ("maps", "from .process import Process", "process"),
        ("calls", "import pmadvise_process, os.path", ""),
        ("calls", "import pmadvise", "__init__"),
        ("calls", "from pmadvise import Process", "__init__"),
        ("_native.base", "from pmadvise._native.ranges import x", ""),
        ("command.show", "from pmadvise._proc.files import read", "_proc.files"),
        ("command.show", "from pmadvise._advise import limits", "_advise"),
        ("command.show", "from pmadvise.process import Process", ""),
    ],
)
def test_names_are_resolved(module: str, source: str, imported: str) -> None:
    """Relative imports, packages and siblings are recognized; others' are not ours."""
    wanted = [f"{module}: imports {imported}, which is not below it"]
    assert violations({module: source}) == (wanted if imported else [])


@pytest.mark.parametrize(
    "sources",
    [
        {"hold.fds": "from pmadvise.hold import fds"},
        {"hold.fds": "from . import fds"},
        {"hold.fds": "from .stop import x", "hold.stop": "from .fds import x"},
        {"hold.fds": "from pmadvise.hold import x", "hold": "from .fds import x"},
    ],
    ids=str,
)
def test_a_circle_in_a_folder_is_found(sources: dict[str, str]) -> None:
    """Files of one folder may import each other, in no circle."""
    [problem] = violations(sources)
    assert "is in a circle" in problem


@pytest.mark.parametrize(
    "source",
    [
        "from pmadvise import _ffi",
        "import pmadvise._ffi",
        "from pmadvise._ffi import lib",
        "from ._ffi import lib",
        "_ffi = importlib.import_module('pmadvise._ffi')",
    ],
)
def test_the_extension_outside_native_is_found(source: str) -> None:
    """The extension is imported by _native alone."""
    assert violations({"process": source}) == ["process: imports _ffi, outside _native"]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("n = array.cdata[0]", "touches a cffi object, outside _native"),
        ("from typing import Any\nx: Any = 1", "uses Any, outside _native"),
        ("import typing\nx: typing.Any = 1", "uses Any, outside _native"),
        ("from pmadvise._native.base import lib", "imports lib, outside _native"),
        ("from pmadvise._native.base import *", "imports *, outside _native"),
        (
            "text.splitlines()",
            "calls splitlines(), which cuts at what a target may write",
        ),
    ],
)
def test_a_misuse_is_found(source: str, what: str) -> None:
    """Untyped cffi objects stay in _native, and text of /proc is cut at one byte."""
    assert violations({"maps": source}) == [f"maps: {what}"]


def test_native_may_use_cffi() -> None:
    """What the other layers may not do is the work of _native."""
    source = "from typing import Any\nfrom pmadvise._ffi import lib\nx: Any = y.cdata"
    assert violations({"_native.base": source}) == []


def test_a_module_without_a_layer_is_found() -> None:
    """A new module has to be put into the table, and so has one that is imported."""
    assert violations({"novel": "", "process": "import pmadvise.novel"}) == [
        "novel: is in no layer",
        "process: imports novel, which is in no layer",
    ]


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        (
            "_proc/files.py",
            "from pmadvise.maps import Vma",
            "_proc.files: imports maps, which is not below it",
        ),
        (
            "_advise/pacer.py",
            "from pmadvise._ffi import lib",
            "_advise.pacer: imports _ffi, outside _native",
        ),
    ],
)
def test_files_of_every_folder_are_read(
    tmp_path: Path, path: str, line: str, found: str
) -> None:
    """A line added to a file in a sub-package turns the check red."""
    copy = tmp_path / "pmadvise"
    shutil.copytree(PACKAGE, copy)
    before = violations(read_package(copy))
    with (copy / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    assert set(violations(read_package(copy))) - set(before) == {found}

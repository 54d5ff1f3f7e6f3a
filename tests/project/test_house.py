"""The picture of the house: it is drawn from the sources, and shows the true way."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import house
import pytest
from helpers.layers import PATH, levels, room
from helpers.needs import ROOT
from helpers.targets import MIB, Target

from pmadvise import Process
from pmadvise._native import mm
from pmadvise._native.base import lib

pytestmark = [pytest.mark.no_swap, pytest.mark.needs_sources]


@pytest.mark.parametrize("document", house.PARTS)
def test_documents_have_the_pictures(document: str) -> None:
    """README and CONTRIBUTING are as `python tests/house.py` writes them."""
    assert (ROOT / document).read_text(encoding="utf-8") == house.drawn(document)


class Watched:
    """The functions of C; it notes who calls them."""

    def __init__(self, lib: Any) -> None:
        self.lib = lib
        self.ways: list[list[tuple[str, str]]] = []

    def __getattr__(self, name: str) -> Any:
        if name == "pmadvise_mm_advise":
            self.ways.append([*callers(sys._getframe(1)), ("_ffi", name)])
        return getattr(self.lib, name)


def callers(frame: FrameType | None) -> list[tuple[str, str]]:
    """Return the functions of the package that led to a frame, the first one first."""
    found = []
    while frame is not None:
        package, _, module = frame.f_globals["__name__"].partition(".")
        if package == "pmadvise":
            found.append((module, frame.f_code.co_name))
        frame = frame.f_back
    return found[::-1]


@pytest.mark.needs_root
def test_the_way_of_a_pageout(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real pageout() walks through the functions of the picture, and no others."""
    target.filled(MIB)
    watched = Watched(lib)
    monkeypatch.setattr(mm, "lib", watched)
    with Process(target.pid) as process:
        process.pageout()
    functions = [(module, name.rpartition(".")[2]) for module, name in PATH]
    assert watched.ways[0] == functions


def test_every_layer_is_drawn() -> None:
    """Each row of the table of layers is in the picture, and each step of the way."""
    picture = house.house()
    missing = [
        name
        for name in [*levels(), *(name for _, name in PATH)]
        if name not in picture and name != "_ffi"
    ]
    assert missing == []
    assert [room(module) in levels() for module, _ in PATH] == [True] * len(PATH)


def test_marks_are_needed() -> None:
    """A document without a place for a part is an error, not left as it is."""
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    assert house.written(text, "x", "new\n") == text.replace("old", "new")
    with pytest.raises(ValueError, match="y:begin"):
        house.written(text, "y", "new\n")

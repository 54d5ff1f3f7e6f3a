"""AddressSpace.changed(); needs no kernel feature."""

from __future__ import annotations

from helpers.maps_model import (
    PAGE,
    Line,
    TextMm,
    address_spaces,
    any_lines,
    changed,
    text_of,
)
from hypothesis import given
from hypothesis import strategies as st

from pmadvise import AddressSpace, Ranges


def changed_of(old: bytes, now: bytes) -> list[tuple[int, int]]:
    """Return the changes of a snapshot when maps has another text by now."""
    mm = TextMm(old)
    space = AddressSpace(mm)
    mm.octets = now
    return list(space.changed())


@given(address_spaces(), address_spaces())
def test_changed(old: list[Line], now: list[Line]) -> None:
    """The parts that differ are named as the model names them, page by page."""
    assert changed_of(text_of(old), text_of(now)) == changed(old, now)


@given(address_spaces(), st.data())
def test_changed_names_what_was_unmapped(old: list[Line], data: st.DataObject) -> None:
    """Of an address space that lost some VMAs, these are named and no other."""
    gone = data.draw(st.sets(st.sampled_from(old))) if old else set()
    now = [line for line in old if line not in gone]
    assert changed_of(text_of(old), text_of(now)) == [
        (line.start, line.end - line.start) for line in old if line in gone
    ]


@given(address_spaces(), st.integers(0, 60))
def test_boundaries_are_no_change(old: list[Line], at: int) -> None:
    """A VMA that was split, with nothing else of it changed, is the same."""
    boundary = at * PAGE
    now = []
    for line in old:
        if line.start < boundary < line.end:
            offset = line.offset + (boundary - line.start if line.inode else 0)
            now.append(line._replace(end=boundary))
            now.append(line._replace(start=boundary, offset=offset))
        else:
            now.append(line)
    assert changed_of(text_of(old), text_of(now)) == []


@given(any_lines(), any_lines())
def test_changed_of_what_is_in_no_order(old: list[Line], now: list[Line]) -> None:
    """Hostile text in no order at all gives an answer within the old VMAs."""
    found = Ranges(changed_of(text_of(old), text_of(now)))
    assert found - Ranges((line.start, line.end - line.start) for line in old) == (
        Ranges()
    )

"""Places of an advice: all that an entry of pmadvise.advice.REMOTE needs beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from helpers.needs import ROOT

from pmadvise import Advice, Process
from pmadvise._advise import profiles
from pmadvise.advice import REMOTE
from pmadvise.command import advise, app
from pmadvise.selftest import CHECKS

pytestmark = pytest.mark.needs_sources


def is_called_by_its_method(advice: Advice) -> bool:
    """Return whether Process has a method of that name, which gives that advice."""
    method = vars(Process).get(advice.name.lower())
    return method is not None and advice.name in method.__code__.co_names


def is_in(page: str, row: str) -> Callable[[Advice], bool]:
    """Return whether a document has a line for an advice.

    Args:
        page: Its path in the tree.
        row: The regular expression of such a line: {name} in lower case, {NAME} and
            {release} are of the advice.
    """

    def has_row(advice: Advice) -> bool:
        pattern = row.format(
            name=advice.name.lower(), NAME=advice.name, release=REMOTE[advice]
        )
        text = (ROOT / page).read_text(encoding="utf-8")
        return re.search(pattern, text, re.MULTILINE) is not None

    return has_row


PLACES: dict[str, Callable[[Advice], bool]] = {
    "a method of Process": is_called_by_its_method,
    "pmadvise/_advise/profiles.py": lambda advice: (
        profiles.profile_of(advice).select is not None
    ),
    "VERBS of pmadvise/command/advise.py": lambda advice: advice in advise.VERBS,
    "VERBS of pmadvise/command/app.py": lambda advice: (
        app.VERBS.get(advice.name.lower()) == "advise"
    ),
    "a check of the selftest": lambda advice: advice.name.lower() in CHECKS,
    "the advices of docs/process.md": is_in("docs/process.md", r"^\| `{name}\(\)` \|"),
    "the releases of docs/kernels.md": is_in(
        "docs/kernels.md", r"^\|.*\b{NAME}\b.* of another process \| Linux {release}\b"
    ),
    "the checks of docs/kernels.md": is_in("docs/kernels.md", r"^\| `{name}[`_]"),
    "the verbs of docs/command.md": is_in("docs/command.md", r"`(pmadvise )?{name}\b"),
    "docs/calls.md": is_in("docs/calls.md", r"\b{NAME}\b"),
    "README.md": is_in("README.md", r"\b{NAME}\b"),
}
"""Each place, and whether an advice is there."""


def forgotten() -> list[str]:
    """Return the places where an advice to other processes is missing."""
    return [
        f"{advice.name}: {place}"
        for advice in REMOTE
        for place, is_there in PLACES.items()
        if not is_there(advice)
    ]


def test_every_advice_is_in_every_place() -> None:
    """An advice for another process has its method, profile, verb, check and words."""
    assert forgotten() == []


def test_a_new_advice_is_missing_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more entry of REMOTE, and nothing else, is reported for each place."""
    monkeypatch.setitem(REMOTE, Advice.GUARD_INSTALL, "9.9")
    assert forgotten() == [f"GUARD_INSTALL: {place}" for place in PLACES]


@pytest.mark.parametrize(
    ("place", "owner", "key"),
    [
        ("pmadvise/_advise/profiles.py", profiles._PROFILES, Advice.PAGEOUT),
        ("VERBS of pmadvise/command/advise.py", advise.VERBS, Advice.PAGEOUT),
        ("VERBS of pmadvise/command/app.py", app.VERBS, "pageout"),
        ("a check of the selftest", CHECKS, "pageout"),
    ],
)
def test_a_place_is_missed(place: str, owner: dict[Any, Any], key: object) -> None:
    """An advice that is missing in one place alone is reported for that place."""
    entries = dict(owner)
    del owner[key]
    try:
        assert forgotten() == [f"PAGEOUT: {place}"]
    finally:  # in its order, which monkeypatch.delitem() does not keep
        owner.clear()
        owner.update(entries)


def test_a_method_of_another_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that gives another advice than that of its name is reported."""
    monkeypatch.setattr(Process, "pageout", Process.cold)
    assert forgotten() == ["PAGEOUT: a method of Process"]

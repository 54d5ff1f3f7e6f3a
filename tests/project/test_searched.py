"""tests/searched.py, which .ci/docs runs: what a search index finds, and what not."""

from __future__ import annotations

import json

import pytest
from searched import Index, Language, lost

INDEX = {
    "docnames": ["api/a", "errors", "options"],
    "terms": {"process": [0, 1], "exit": 1, "mmapsem": 0, "pid": [1, 2]},
    "titleterms": {"option": 2},
    "objects": {"": [[2, 0, 1, "", "--all"]], "pmadvise": [[0, 1, 1, "", "Process"]]},
}


@pytest.fixture
def index() -> Index:
    """An index of three pages."""
    language = Language(lambda word: word.removesuffix("s"), frozenset({"the", "all"}))
    return Index(f"Search.setIndex({json.dumps(INDEX)})", language)


@pytest.mark.parametrize(
    ("query", "pages"),
    [
        ("Exits", {"errors"}),
        ("the process exits", {"api/a", "errors"} - {"api/a"}),
        ("options", {"options"}),
        ("mmap", {"api/a"}),  # a part of a longer word
        ("--all", {"options"}),  # an object, though a stop word
        ("pmadvise.Process", {"api/a"}),
        ("process x 12", {"api/a", "errors"}),  # what is short or a number is optional
        ("process nowhere", set()),
        ("the", set()),
        ("", {"api/a", "options"}),
    ],
)
def test_search(index: Index, query: str, pages: set[str]) -> None:
    """A page is found by all of its words, an object by a part of its name."""
    assert index.search(query) == pages


@pytest.mark.needs_sources
def test_what_is_lost_is_named(index: Index) -> None:
    """Names, options, fields and messages that an index lacks are named."""
    missing = list(lost(index))
    assert "the name Process" not in missing
    for line in (
        "the name Report",
        "the option --budget of pageout",
        "the option --strict of selftest",
        "the field skipped.errno of --json",
        "the message or remedy 'the cgroup has been removed'",
    ):
        assert line in missing

"""The messages of the package on the guide's pages of errors by their text."""

from __future__ import annotations

import re

import pytest
from helpers.needs import ROOT
from helpers.templates import HOLE, of_errors, of_reasons
from remedies import remedies

pytestmark = [pytest.mark.no_swap, pytest.mark.needs_sources]

PAGES = ("messages.md", "messages-of-callers.md")
ROW = re.compile(r"^\| (`.+) \| (.+) \|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")


def table() -> list[tuple[list[str], str]]:
    """Return each row: its messages, and what to do."""
    text = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES)
    return [(CODE.findall(messages), cure) for messages, cure in ROW.findall(text)]


def of_template(template: str) -> re.Pattern[str]:
    """Return a pattern of a template's constant words, in their order."""
    words = [re.escape(part.strip(" :")) for part in template.split(HOLE)]
    return re.compile(".*?".join(words), re.DOTALL)


def without(templates: set[str], texts: list[str]) -> list[str]:
    """Return the templates whose constant words are in none of the texts."""
    patterns = {template: of_template(template) for template in templates}
    return sorted(
        template
        for template, pattern in patterns.items()
        if not any(pattern.search(text) for text in texts)
    )


def test_every_reason_is_there() -> None:
    """A search for a reason of a refusal, or for its remedy, finds the page."""
    texts = [text for messages, cure in table() for text in (*messages, cure)]
    assert without(of_reasons(), [*texts, *remedies().values()]) == []


def test_every_error_is_there() -> None:
    """A search for what any other part of the package refuses with finds a page."""
    texts = [text for messages, _ in table() for text in messages]
    assert without(of_errors() - of_reasons(), texts) == []


def test_every_message_is_one() -> None:
    """There is no message on the pages that the package does not have."""
    known = [of_template(template) for template in of_reasons() | of_errors()]
    named = [message for messages, _ in table() for message in messages]
    assert len(named) > 100
    assert [m for m in named if not any(p.search(m) for p in known)] == []


def test_every_message_has_a_cure() -> None:
    """Each row says what to do."""
    assert [messages for messages, cure in table() if not re.search(r"\w", cure)] == []


def test_a_template_that_is_nowhere_is_found() -> None:
    """A template is found by its constant words, in order, and not by half of them."""
    template = f"process {HOLE} is not here: {HOLE}"
    assert without({template}, ["process 1 is not here: gone"]) == []
    assert without({template}, ["process 1 is here: gone"]) == [template]

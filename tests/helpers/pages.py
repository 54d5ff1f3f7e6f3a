"""The pages of the guide, and README: their sections, and the code in each.

A section is what stands between two headings. Its code blocks are one session, in the
order written. What they need of the host is in a comment below the heading:
``<!-- needs: root swap -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from helpers.needs import ROOT

_HEADING = re.compile(r"#+ (.+)")
_NEEDS = re.compile(r"<!-- needs: (.+) -->")
_OPENING = re.compile(r"( *)(`{3,}|~{3,}|:{3,})(.*)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code."""

    kind: str
    code: str
    line: int
    """Of its first line of code, from 1."""


@dataclass(slots=True)
class Section:
    """The code between two headings of a page."""

    page: Path
    heading: str
    needs: tuple[str, ...] = ()
    blocks: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the page and the heading, for messages."""
        return f"{self.page.relative_to(ROOT)}: {self.heading}"


def pages() -> list[Path]:
    """Return README and every page of the guide."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def sections(page: Path, text: str | None = None) -> Iterator[Section]:
    """Yield the sections of a page that have code.

    Raises:
        ValueError: Code is written in a way that no test would find.
    """
    lines = iter(enumerate((text or page.read_text(encoding="utf-8")).split("\n"), 1))
    section, before = Section(page, ""), ""
    for number, line in lines:
        if heading := _HEADING.match(line):
            if section.blocks:
                yield section
            section = Section(page, heading[1])
        elif needs := _NEEDS.fullmatch(line):
            section.needs += tuple(needs[1].split())
        elif opening := _OPENING.match(line):
            indent, fence, kind = opening.groups()
            if indent or fence != "```":
                raise ValueError(f"{section.name}, line {number}: a fence is ```")
            code = []
            for _, inner in lines:
                if inner == fence:
                    break
                code.append(inner + "\n")
            else:
                raise ValueError(f"{section.name}, line {number}: not closed")
            section.blocks.append(Block(kind, "".join(code), number + 1))
        elif line.startswith("    ") and not before:
            raise ValueError(f"{section.name}, line {number}: indented code")
        before = line
    if section.blocks:
        yield section

"""The page of --json, docs/json.md: its fields, read from its tables."""

from __future__ import annotations

import re
from collections.abc import Iterator

ROW = re.compile(r"^\| `([\w.]+)` \| (.+) \|$", re.MULTILINE)

Fields = dict[str, set[str]]
"""The fields of each object, by the anchor of its heading: "status", "status.rss"."""


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as Markdown makes it."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


def fields_of(text: str) -> Fields:
    """Return the fields of each table of a page, and below them those it links to."""
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    rows = {
        anchor(heading): dict(ROW.findall(body))
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }

    def expand(name: str) -> Iterator[str]:
        for field, cell in rows[name].items():
            yield field
            for link in re.findall(r"\]\(#([\w-]+)\)", cell):
                yield from (f"{field}.{inner}" for inner in expand(link))
            if field.endswith(".NAME"):
                yield field.removesuffix(".NAME")

    return {name: set(expand(name)) for name in rows}

"""Look for every name in the search index of the built guide, as its readers would.

    python tests/searched.py HTML       the directory that Sphinx wrote: .ci/docs does

What is looked for is read from the code: the public names, the options of each verb of
the command, the fields of --json, and the messages with their remedies.  What is not
found is printed, with exit status 1.  The rules are those of Sphinx's searchtools.js: a
page is found by all of its words, an object by a part of its name.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
WORD = re.compile(r"\w+")
LEAST = 3
"""Letters of a word that a page has to have, and that is found in longer ones."""


class Language(NamedTuple):
    """How words are read: Sphinx's for English."""

    stem: Callable[[str], str]
    stopwords: frozenset[str]


class Index:
    """A search index.

    Args:
        text: Of searchindex.js.
        language: That of the guide.
    """

    def __init__(self, text: str, language: Language) -> None:
        found = json.loads(text.partition("(")[2].rpartition(")")[0])
        self._language = language
        self._pages: list[str] = found["docnames"]
        self._terms = [found["terms"], found["titleterms"]]
        self._objects = [
            (f"{prefix}.{entry[4]}" if prefix else entry[4], entry[0])
            for prefix, entries in found["objects"].items()
            for entry in entries
        ]

    def search(self, query: str) -> set[str]:
        """Return the pages that a query finds."""
        words = WORD.findall(query)
        lowered = {word.lower() for word in words}
        numbers = {
            page
            for name, page in self._objects
            if all(word in name.lower() for word in lowered)
        }
        return {self._pages[number] for number in numbers | self._by_words(words)}

    def _by_words(self, words: list[str]) -> set[int]:
        wanted = {
            self._language.stem(word.lower())
            for word in words
            if word.lower() not in self._language.stopwords and not word.isdigit()
        }
        pages = {word: self._pages_of(word) for word in wanted}
        long = [found for word, found in pages.items() if len(word) >= LEAST]
        return set.intersection(*(long or pages.values())) if pages else set()

    def _pages_of(self, word: str) -> set[int]:
        found: set[int] = set()
        for terms in self._terms:
            within = [word]
            if word not in terms and len(word) >= LEAST:
                within = [term for term in terms if word in term]
            for term in within:
                numbers = terms.get(term, [])
                found.update(numbers if isinstance(numbers, list) else [numbers])
        return found


def lost(index: Index) -> Iterator[str]:
    """Yield what the index does not find where it stands."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "docs")]
    import verbs  # noqa: PLC0415 - of this tree, as are the next
    from helpers.json_page import fields_of  # noqa: PLC0415
    from helpers.templates import HOLE, of_errors, of_reasons  # noqa: PLC0415

    import pmadvise  # noqa: PLC0415

    for name in pmadvise.__all__:
        if not any(page.startswith("api/") for page in index.search(name)):
            yield f"the name {name}"
    for group in verbs.groups():
        for option in group.options:
            name = option.names.split()[0]
            for verb in group.verbs:
                if "options" not in index.search(name):
                    yield f"the option {name} of {verb}"
    page = (ROOT / "docs/json.md").read_text(encoding="utf-8")
    for field in sorted(set().union(*fields_of(page).values())):
        if "json" not in index.search(f"json {field}"):
            yield f"the field {field} of --json"
    for template in sorted(of_reasons() | of_errors()):
        if not index.search(template.replace(HOLE, " ")):
            yield f"the message or remedy {template!r}"


def main() -> int:
    """Print what is lost; return the exit status."""
    from sphinx.search.en import SearchEnglish  # noqa: PLC0415 - not beside the tests

    if len(sys.argv) != 2:
        print("usage: python tests/searched.py HTML", file=sys.stderr)
        return 2
    english = SearchEnglish({})
    language = Language(english.stem, frozenset(english.stopwords))
    text = Path(sys.argv[1], "searchindex.js").read_text(encoding="utf-8")
    missing = list(lost(Index(text, language)))
    for line in missing:
        print(f"the search of the guide does not find {line}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

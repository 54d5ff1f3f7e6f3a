"""Templates of messages: the words that the package puts into what it refuses.

Each is the source of a string, an f-string's holes as "…".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HOLE = "…"
PACKAGE = Path(__file__).parents[2] / "pmadvise"
_MAKERS = re.compile(
    r"\w*Error|\w*refusal|\w*refuse\w*|error|gone|unfit|_unfit|no_memory|\w*Parameter"
)
"""Functions and classes whose arguments are a message."""
_WORDS = re.compile(r"[A-Za-z]{2,}.* .*[A-Za-z]{2,}")
_OWN = ("selftest", "_pyinstaller")
"""Parts whose errors are for those who work on the package."""


def of_reasons() -> set[str]:
    """Return all texts of pmadvise/_reasons but the docstrings."""
    found: set[str] = set()
    for path in (PACKAGE / "_reasons").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found.update(_texts(tree))
    return found


def of_errors() -> set[str]:
    """Return the texts that the package raises anywhere, or refuses with."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in _OWN:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _MAKERS.fullmatch(_name(node.func)):
                for argument in node.args:
                    found.update(_texts(argument))
    return found


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _texts(node: ast.AST) -> Iterator[str]:
    """Yield the texts below a node, but docstrings and those without two words."""
    if isinstance(node, ast.JoinedStr):
        pieces = (_text(value) for value in node.values)
        text = "".join(HOLE if piece is None else piece for piece in pieces)
    else:
        text = _text(node) or ""
    if _WORDS.search(text):
        yield text
    if not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            if not (isinstance(child, ast.Expr) and _text(child.value) is not None):
                yield from _texts(child)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return None

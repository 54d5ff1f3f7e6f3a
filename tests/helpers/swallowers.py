"""A reader of sources that finds where the OSError of a caller's handler is lost."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping

from helpers.layers import PACKAGE, ring

SWALLOWERS = {
    *("exists", "lexists", "isfile", "isdir", "islink", "ismount", "isjunction"),
    *("is_file", "is_dir", "is_symlink", "is_mount", "is_junction", "is_block_device"),
    *("is_char_device", "is_fifo", "is_socket", "realpath", "resolve", "walk", "fwalk"),
    *("which", "rmtree", "glob", "iglob", "rglob", "get_terminal_size"),
    *("gettempdir", "getuser", "find_library"),
}
"""Functions of the standard library, in Python, that take an OSError for an answer."""


def swallowers(sources: Mapping[str, str]) -> list[str]:
    """Return each place where an OSError that is not the kernel's may be lost.

    Programs have no handler of a caller's (ring 3), nor does the thread of a stop: of
    `hold` only the module `handle` runs in threads of the caller.
    """
    return [
        f"{module}:{line}: {what}"
        for module, source in sources.items()
        if ring(module) < 3
        for line, what in _found(
            ast.parse(source),
            has_handlers=not module.startswith("hold.") or module == "hold.handle",
        )
    ]


def _found(tree: ast.Module, has_handlers: bool) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in SWALLOWERS:
            # An os.DirEntry does it in C, where no handler runs.
            if not (isinstance(node.value, ast.Name) and node.value.id == "entry"):
                yield node.lineno, f"{node.attr}() takes an OSError for an answer"
        elif isinstance(node, ast.ImportFrom) and not _is_ours(node):
            for alias in node.names:
                if alias.name in SWALLOWERS:
                    yield node.lineno, f"{alias.name}() takes an OSError for an answer"
        elif not has_handlers:
            continue
        elif isinstance(node, ast.Call) and _name(node.func) == "suppress":
            if any(map(_is_of_the_system, node.args)):
                yield node.lineno, "suppress() takes an OSError of any origin"
        elif isinstance(node, ast.ExceptHandler) and _is_of_the_system(node.type):
            yield node.lineno, "except takes an OSError of any origin"


def _is_ours(node: ast.ImportFrom) -> bool:
    return node.level > 0 or (node.module or "").partition(".")[0] == PACKAGE


def _is_of_the_system(node: ast.expr | None) -> bool:
    """Return whether an except clause, or an argument of suppress(), has an OSError."""
    if isinstance(node, ast.Tuple):
        return any(map(_is_of_the_system, node.elts))
    kind = getattr(builtins, _name(node), None)
    return isinstance(kind, type) and issubclass(kind, OSError)


def _name(node: ast.expr | None) -> str:
    """Return the name of a thing, without the module that it is of."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""

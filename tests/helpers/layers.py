"""Layers of pmadvise/, and a reader of sources that finds imports against them."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

# Lowest first: a row is a layer, a name a folder or a module of pmadvise/. It imports
# only from rows above its own here; files of a folder import each other, in no circle.
LAYERS = """
    _ffi
    _native
    _origin  _record  _interrupt
    advice  ranges
    _arguments  _streams
    _proc
    _reasons
    _handle
    calls
    maps  residency  memory  status  _members
    _idle
    idle
    report
    _advise
    hold
    process
    group  pressure  cgroup
    _support
    __init__
    selftest
    command
    __main__
    _pyinstaller
"""

# Not below it for these, whatever the rows say.
CLOSED = {"command": {"_native", "_proc", "_handle", "_advise"}}
"""The command decides nothing: it has words, tables and options."""

# The rings, each usable without the next: the two calls, checked; what makes them safe
# for a whole process; what helps people. A name is a layer, or a module of a layer that
# has files of two rings. The second ring has every layer that no other names.
RINGS = {
    1: """
        _ffi
        _native  _native.base  _native.descriptor  _native.process_madvise
        _native.ranges  _native.read
        _origin  _record  advice  ranges  _arguments
        _proc  _proc.cgroup_tree  _proc.files  _proc.pidfds  _proc.rights
        _reasons  _reasons.access  _reasons.answer  _reasons.hidden
        calls  __init__
    """,
    3: "_interrupt  _streams  selftest  command  __main__  _pyinstaller",
}
SPLIT = {"_ffi", "_native", "_proc", "_reasons"}
"""Layers that have files of two rings; a file of C has that of its module."""

PATH = [
    ("process", "Process.pageout"),
    ("process", "Process._advise"),
    ("_advise.run", "Run.run"),
    ("_advise.run", "Run.run_covered"),
    ("_advise.run", "Run.steps"),
    ("_advise.engine", "Engine.steps"),
    ("_advise.engine", "Engine._advise_next"),
    ("_advise.kernel", "Kernel.advise"),
    ("_native.mm", "mm_advise"),
    ("_ffi", "pmadvise_mm_advise"),
]
"""The way of a pageout() to the system call: modules, and their functions."""

PACKAGE = "pmadvise"
BASE = "pmadvise._native.base"
CFFI = {"*", "NULL", "ffi", "grown", "lib", "uninitialized"}
"""What this module has for _native alone."""


def levels(layers: str = LAYERS) -> dict[str, int]:
    """Map each folder and module of the table to the number of its row."""
    rows = [line.split() for line in layers.splitlines() if line.strip()]
    return {name: level for level, row in enumerate(rows) for name in row}


def room(module: str) -> str:
    """Return the folder of a module, or the module where it is in none."""
    return module.partition(".")[0]


def ring(module: str) -> int:
    """Return the ring of a module, or of a layer."""
    layer = room(module)
    name = module if layer in SPLIT else layer
    return next((ring for ring, names in RINGS.items() if name in names.split()), 2)


def outward(sources: Mapping[str, str]) -> list[str]:
    """Return each import of an outer ring, in words.

    `__init__` has names of two rings, and loads those of the second on first use.
    """
    return [
        f"{module}: imports {imported}, of ring {ring(imported)}"
        for module, source in sources.items()
        for imported in imports_of(module, ast.parse(source), sources)
        if ring(imported) > (2 if module == "__init__" else ring(module))
    ]


def imports_of(
    module: str, tree: ast.Module, sources: Mapping[str, str]
) -> Iterator[str]:
    """Yield the modules of the package that a module imports."""
    known = {*sources, *levels()}
    packages = {name.rpartition(".")[0] for name in known}
    is_package = module in packages or module == "__init__"
    yield from _imports(tree, module, is_package, known)


def read_package(directory: Path) -> dict[str, str]:
    """Return the source of each module of the package in `directory`, by its name."""
    sources = {}
    for path in sorted(directory.rglob("*.py")):
        parts = path.relative_to(directory).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        sources[".".join(parts)] = path.read_text(encoding="utf-8")
    return sources


def violations(sources: Mapping[str, str]) -> list[str]:
    """Return each thing that a module does and may not, in words."""
    level = levels()
    problems = []
    imports: dict[str, set[str]] = {}
    for module, source in sources.items():
        tree = ast.parse(source)
        own = room(module)
        if own not in level:
            problems.append(f"{module}: is in no layer")
            continue
        for imported in imports_of(module, tree, sources):
            other = room(imported)
            if other not in level:
                problems.append(f"{module}: imports {imported}, which is in no layer")
            elif other == own and "." in module + imported:
                imports.setdefault(module, set()).add(imported)
            elif level[other] >= level[own] or other in CLOSED.get(own, ()):
                problems.append(f"{module}: imports {imported}, which is not below it")
            elif imported == "_ffi" and own != "_native":
                problems.append(f"{module}: imports _ffi, outside _native")
        problems += [f"{module}: {what}" for what in _misuses(tree, own == "_native")]
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        problems.append(f"{error.args[1][0]}: is in a circle: {error.args[1]}")
    return problems


def _misuses(tree: ast.Module, native: bool) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "splitlines":
            yield "calls splitlines(), which cuts at what a target may write"
        if native:
            continue
        if isinstance(node, ast.Attribute) and node.attr == "cdata":
            yield "touches a cffi object, outside _native"
        if isinstance(node, ast.ImportFrom) and node.module == BASE:
            for alias in node.names:
                if alias.name in CFFI:
                    yield f"imports {alias.name}, outside _native"
        if (isinstance(node, ast.Name) and node.id == "Any") or (
            isinstance(node, ast.Attribute) and node.attr == "Any"
        ):
            yield "uses Any, outside _native"


def _imports(
    tree: ast.Module, module: str, is_package: bool, known: set[str]
) -> Iterator[str]:
    """Yield the modules that a module names in imports, and in calls that import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _within(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield from _within(name if _is_module(name, known) else base)
        elif isinstance(node, ast.Call):
            for value in (*node.args, *(keyword.value for keyword in node.keywords)):
                text = value.value if isinstance(value, ast.Constant) else None
                if isinstance(text, str) and _is_module(text, known):
                    yield from _within(text)


def _is_module(name: str, known: set[str]) -> bool:
    """Return whether a name is that of a known module below the package."""
    package, _, module = name.partition(".")
    return package == PACKAGE and module in known


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """Return the name of the module that a `from` imports from."""
    if node.level == 0:
        return node.module or ""
    inner = [] if module == "__init__" else module.split(".")
    up = node.level - (1 if is_package else 0)
    parts = [PACKAGE, *inner]
    parts = parts[: len(parts) - up]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _within(name: str) -> Iterator[str]:
    """Yield the name below the package, nothing if it is another's."""
    if name == PACKAGE:
        yield "__init__"
    elif name.startswith(f"{PACKAGE}."):
        yield name.removeprefix(f"{PACKAGE}.")

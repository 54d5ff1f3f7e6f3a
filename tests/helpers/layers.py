"""Who may import whom in pmadvise/, and a reader of sources that tells who does."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

# Lowest first. A module imports only from rows above its own.
LAYERS = """
    _lazy  _ffi  _native  _proc  _advise
    _native.base
    _native.descriptor  _native.pidfd_info  _native.pidfd_open  _native.pidfd_send_signal  _native.ranges  _native.read  _native.status  _native.task
    _native.batch  _native.maps  _native.mm  _native.pagemap  _native.process_madvise
    _native.procmap_query  _native.ptrace

    advice  ranges
    _proc.files
    _proc.mounts  _proc.pidfds  _proc.rights
    _reasons.answer
    _reasons.access
    _reasons
    calls
    _proc.identity
    _proc.mm  _proc.cgroups
    _proc.smaps

    maps  residency  memory  status
    report

    _advise.keywords
    _advise.limits  _advise.profiles  _advise.pacer  _advise.budget  _advise.account
    _advise.clock  _advise.kernel
    _advise.engine  _advise.target
    _advise.run

    hold.deadline  hold.fds
    hold.stop  hold.target
    hold.ptrace  hold.shared  hold.sigstop  hold.watchdog
    hold.frozen  hold.holders
    hold.freezer
    hold.choice
    hold.handle
    hold

    process
    group  pressure

    _support.host
    _support.kernel  _support.target
    _support

    __init__

    selftest.libc
    selftest.program  selftest.requirements
    selftest.child
    selftest.checks.accounting  selftest.checks.effects  selftest.checks.host
    selftest.checks.targets
    selftest.checks  selftest.report
    selftest.command
    selftest  selftest.__main__

    command.text  command.types
    command.output
    command.targets
    command.options
    command.forecast  command.guard  command.mappings  command.selection
    command.picture  command.sharers  command.work
    command.check  command.effects  command.progress  command.screen
    command.result  command.show
    command.advise
    command.app
    command  command.manual
    __main__
"""  # noqa: E501 - a row is a layer

PACKAGE = "pmadvise"
BASE = "pmadvise._native.base"
CFFI = {"*", "NULL", "ffi", "grown", "lib", "uninitialized"}
"""What this module has for _native alone."""


def levels(layers: str = LAYERS) -> dict[str, int]:
    """Map each module of the table to the number of its row."""
    rows = [line.split() for line in layers.splitlines() if line.strip()]
    return {module: level for level, row in enumerate(rows) for module in row}


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
    known = {*sources, *level}
    packages = {module.rpartition(".")[0] for module in known}
    found = []
    for module, source in sources.items():
        tree = ast.parse(source)
        if module not in level:
            found.append(f"{module}: is in no layer")
            continue
        is_package = module in packages or module == "__init__"
        for imported in _imports(tree, module, is_package, known):
            if imported not in level:
                found.append(f"{module}: imports {imported}, which is in no layer")
            elif level[imported] >= level[module]:
                found.append(f"{module}: imports {imported}, which is not below it")
            elif imported == "_ffi" and not _is_native(module):
                found.append(f"{module}: imports _ffi, outside _native")
        found += [f"{module}: {what}" for what in _misuses(tree, _is_native(module))]
    return found


def _is_native(module: str) -> bool:
    return module.partition(".")[0] == "_native"


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
                if any(name == f"{PACKAGE}.{one}" for one in known):
                    yield from _within(name)
                else:
                    yield from _within(base)
        elif isinstance(node, ast.Call):
            for value in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    name = value.value
                    if any(name == f"{PACKAGE}.{one}" for one in known):
                        yield from _within(name)


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

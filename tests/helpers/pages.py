"""The pages of the guide, and README: their sections, and the code in each, run.

A section is what stands between two headings. Its code blocks are one session, in the
order written. What they need of the host is in a comment below the heading:
``<!-- needs: root swap -->``.
"""

from __future__ import annotations

import configparser
import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers.command import IMPORT_PATH, environment
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


Names = dict[str, Any]
_COMMAND = re.compile(r"^\$ (.+)\n", re.MULTILINE)


def run_section(section: Section, names: Names, scratch: Path) -> None:
    """Run the blocks of a section, in order, with the same names.

    Raises:
        AssertionError: One does not do what is written.
        KeyError: No way is known to run its language.
    """
    for block in section.blocks:
        RUN[block.kind](block, section.name, names, scratch)


def run_pycon(block: Block, name: str, names: Names, scratch: Path) -> None:
    """Run a Python session, and compare what it prints."""
    parser = doctest.DocTestParser()
    example = parser.get_doctest(block.code, {}, name, name, block.line - 1)
    assert example.examples
    example.globs = names  # not a copy: later blocks go on with them
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(example, out=report.append, clear_globs=False)
    assert report == [], "".join(report)


def run_python(block: Block, name: str, names: Names, scratch: Path) -> None:
    """Run definitions, which later blocks use."""
    exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), names)


def run_console(block: Block, name: str, names: Names, scratch: Path) -> None:
    """Run commands of a shell, and compare what they print on stdout and stderr."""
    before, *pieces = _COMMAND.split(block.code)
    assert (before, bool(pieces)) == ("", True), name
    variables = _variables(names, scratch)
    for command, wanted in zip(pieces[::2], pieces[1::2], strict=True):
        done = _bash(["-c", command], variables)
        found = (done.returncode, done.stdout)
        is_alike = _is_alike(wanted, done.stdout)
        assert (found if is_alike else wanted) == (0, done.stdout), (name, command)


def run_bash(block: Block, name: str, names: Names, scratch: Path) -> None:
    """Run a script as it is pasted; later blocks have its variables, and its output.

    It ends at the first command that fails, which is a fault.
    """
    kept = scratch / "variables"
    script = f"set -ae\n{block.code}env -0 >{shlex.quote(str(kept))}\n"
    done = _bash(["-c", script], names.get("variables") or _variables(names, scratch))
    assert done.returncode == 0, (name, block.code, done.stdout)
    pairs = (line.split("=", 1) for line in kept.read_text().split("\0")[:-1])
    names["variables"] = {key: value for key, value in pairs if key != "_"}
    names["output"] = done.stdout


def compare_text(block: Block, name: str, names: Names, scratch: Path) -> None:
    """Compare what the script above it has printed, but for the width of columns."""
    output = names.pop("output")
    is_alike = _is_alike(block.code, output, doctest.NORMALIZE_WHITESPACE)
    assert (output if is_alike else block.code) == output, (name, output)


def _variables(names: Names, scratch: Path) -> dict[str, str]:
    """Return the environment of a shell, which finds `pmadvise` and `python`."""
    for program, module in (("pmadvise", "-m pmadvise"), ("python", "")):
        shim = scratch / program
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        shim.chmod(0o755)
    return environment(
        PATH=f"{scratch}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=IMPORT_PATH,
        pid=str(names["pid"]),
        **names.get("given", {}),
        COLUMNS="80",
    )


def _bash(
    arguments: list[str], variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", *arguments],
        cwd=ROOT,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def _is_alike(wanted: str, found: str, more: int = 0) -> bool:
    return doctest.OutputChecker().check_output(wanted, found, doctest.ELLIPSIS | more)


def parse_ini(block: Block, name: str, names: Names, scratch: Path) -> None:
    """Parse a file of systemd: every section has keys."""
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, delimiters=("=",)
    )
    parser.read_string(block.code, name)
    assert all(parser.items(section) for section in parser.sections())
    assert parser.sections() != []


RUN: dict[str, Callable[[Block, str, Names, Path], None]] = {
    "pycon": run_pycon,
    "python": run_python,
    "console": run_console,
    "bash": run_bash,
    "text": compare_text,
    "ini": parse_ini,
}
"""Language of a block: the function that runs it."""
TASKS = ROOT / "docs/tasks"
"""The pages of tasks, which tests run with what each expects around it."""
_SPHINX = re.compile(r"\{(toctree|eval-rst|include|literalinclude)\}( \.\./[\w./-]+)?")


def is_directive(kind: str) -> bool:
    """Return whether a block is for Sphinx: no code."""
    return _SPHINX.fullmatch(kind) is not None


def without_directives(section: Section) -> Section:
    """Return a section without what Sphinx alone reads, and the set-up commands."""
    blocks = [block for block in section.blocks if block.kind in RUN]
    return Section(section.page, section.heading, section.needs, blocks)


def runnable(wanted: Callable[[Path], bool]) -> list[Section]:
    """Return the sections with code to run, of the pages that are wanted."""
    found = [
        without_directives(section)
        for page in pages()
        if wanted(page)
        for section in sections(page)
    ]
    return [section for section in found if section.blocks]


def markers(section: Section) -> list[Any]:
    """Return the markers of what a section needs, for pytest.param()."""
    return [getattr(pytest.mark, f"needs_{need}") for need in section.needs]

"""What a file may look like, and where one may be: the rules of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.needs import ROOT

pytestmark = pytest.mark.needs_sources

TESTS = sorted((ROOT / "tests").rglob("*.py"))
MODULES = sorted((ROOT / "pmadvise").rglob("*.py"))
CODE = [*TESTS, *MODULES, *sorted((ROOT / "benchmarks").glob("*.py"))]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

TOP = {
    *(".ci", ".github", ".gitignore", "benchmarks", "csrc", "docs", "pmadvise"),
    *("tests", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("SECURITY.md", "build_pmadvise.py", "pyproject.toml", "setup.py"),
}
# A rule, or a comment that stands alone and so is about all that follows.
BANNER = re.compile(r"^\s*#\s*[-=#*~_─]{3,}|\n\n# [^\n]+\n\n", re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_of(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def test_top_level() -> None:
    """Users own the names at the top: nothing else is put there."""
    listed = subprocess.run(
        [
            *("git", "-c", "safe.directory=*", "ls-files", "-z"),
            *("--cached", "--others", "--exclude-standard"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    ).stdout.decode()
    names = {path.partition("/")[0] for path in listed.split("\0") if path}
    assert names - TOP == set()


@pytest.mark.needs_sources
def test_modules_are_short() -> None:
    """A module that has more than 350 lines is two modules."""
    assert MODULES
    assert [name(path) for path in MODULES if lines_of(path) > 350] == []


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_test_module_is_short(path: Path) -> None:
    """A module of tests or helpers has about 300 lines."""
    assert lines_of(path) <= 320


@pytest.mark.parametrize("path", CODE, ids=name)
def test_no_banners(path: Path) -> None:
    """No file needs to be divided by banners."""
    assert BANNER.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line", ["# ---", "    # === two ===", "####", "#-----x", "\n\n# Vectors\n\n"]
)
def test_a_banner_is_found(line: str) -> None:
    """The test above sees banners of several styles."""
    assert BANNER.search(f"x = 1\n{line}\n")


def imported(path: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_no_import_of_tests(path: Path) -> None:
    """What several test modules need is in tests/helpers/."""
    last = {module.rpartition(".")[2] for module in imported(path)}
    assert {module for module in last if re.match("test_|conftest$", module)} == set()


def functions_of(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node


@pytest.mark.parametrize(
    "path", [path for path in TESTS if path.name.startswith("test_")], ids=name
)
def test_tests_have_docstrings(path: Path) -> None:
    """Every test has its promise as a docstring of one paragraph."""
    assert [
        test.name
        for test in functions_of(path)
        if not re.fullmatch(r"[^\n].*[.:]", ast.get_docstring(test) or "", re.DOTALL)
        or "\n\n" in (ast.get_docstring(test) or "")
    ] == []


def test_names_of_test_modules_differ() -> None:
    """One name is one module: the folder of each is on the path."""
    stems = [path.stem for path in TESTS if path.stem.startswith("test_")]
    assert sorted(set(stems)) == sorted(stems)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_documents_name_what_exists(document: Path) -> None:
    """Every path of a document is one in the tree, and so is what it links to."""
    text = document.read_text(encoding="utf-8")
    folders = "tests|csrc|benchmarks|docs|pmadvise|\\.ci|\\.github"
    paths = re.findall(rf"(?<![\w/~.-])(?:{folders})/[\w./-]*\w", text)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    repository = "pmadvise/pmadvise"
    assert [
        path
        for path in paths
        if not ((ROOT / path).exists() or "NAME" in path or path == repository)
    ] == []
    assert [link for link in links if not (document.parent / link).exists()] == []

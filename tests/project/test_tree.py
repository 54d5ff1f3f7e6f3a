"""The rules of CONTRIBUTING.md on files: their length, their form and their place."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest
from helpers.needs import ROOT

pytestmark = pytest.mark.needs_sources

Texts = dict[str, str]
"""The text of each file, by its path in the tree."""

TOP = {
    *(".ci", ".github", ".gitignore", "benchmarks", "csrc", "docs", "pmadvise"),
    *("tests", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("SECURITY.md", "build_pmadvise.py", "pyproject.toml", "setup.py"),
}
MODULE_LINES, TEST_LINES = 350, 320
QUESTION = re.compile(r"(how|what|when|where|whether|which|who|whom|whose|why)\b", re.I)
DOCSTRINGS = {"pmadvise/process.py": 450}
"""Lines of a module that has little but the docstrings of its public names."""
# A rule, or a comment that stands alone and so is about all that follows.
BANNER = re.compile(r"^\s*#\s*[-=#*~_─]{3,}|\n\n# [^\n]+\n\n", re.MULTILINE)


def read(*patterns: str) -> Texts:
    """Return the files of the tree that match; there are some for each pattern."""
    texts: Texts = {}
    for pattern in patterns:
        paths = sorted(ROOT.glob(pattern))
        assert paths, pattern
        for path in paths:
            texts[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    return texts


def stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".py")


@pytest.fixture(scope="module")
def modules() -> Texts:
    """The package."""
    return read("pmadvise/**/*.py")


@pytest.fixture(scope="module")
def tests() -> Texts:
    """The tests and their helpers."""
    return read("tests/**/*.py")


def strangers(paths: Iterable[str]) -> list[str]:
    """Return the names at the top of the tree that are not of TOP."""
    return sorted({path.partition("/")[0] for path in paths} - TOP)


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
    assert strangers(listed.split("\0")[:-1]) == []


def longer_than(lines: int, texts: Texts) -> list[str]:
    """Return the files that have more lines than are allowed."""
    return [
        path
        for path, text in texts.items()
        if text.count("\n") > DOCSTRINGS.get(path, lines)
    ]


def test_modules_are_short(modules: Texts) -> None:
    """A module that has more than 350 lines is two modules."""
    assert longer_than(MODULE_LINES, modules) == []


def test_test_modules_are_short(tests: Texts) -> None:
    """A module of tests or helpers has about 300 lines."""
    assert longer_than(TEST_LINES, tests) == []


def banners(texts: Texts) -> list[str]:
    """Return the banners of files."""
    return [
        f"{path}: {banner.strip()}"
        for path, text in texts.items()
        for banner in BANNER.findall(text)
    ]


def test_no_banners(modules: Texts, tests: Texts) -> None:
    """No file needs to be divided by banners."""
    assert banners(modules | tests | read("benchmarks/*.py")) == []


def without_a_noun(texts: Texts) -> list[str]:
    """Return the modules whose docstring is missing or begins with a question word."""
    docstrings = {
        path: ast.get_docstring(ast.parse(text)) or "" for path, text in texts.items()
    }
    return [
        f"{path}: {docstring[:7]}"
        for path, docstring in docstrings.items()
        if not docstring or QUESTION.match(docstring)
    ]


def test_modules_are_named_by_nouns(modules: Texts) -> None:
    """The docstring of a module begins with what the module is, not with a question."""
    assert without_a_noun(modules) == []


def imports_of_tests(texts: Texts) -> list[str]:
    """Return the imports of test modules, and of conftest."""
    return [
        f"{path}: {module}"
        for path, text in texts.items()
        for module in imported(text)
        if re.match(r"test_|conftest$", module.rpartition(".")[2])
    ]


def imported(text: str) -> Iterator[str]:
    """Yield the names of the modules that a file imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_no_import_of_tests(tests: Texts) -> None:
    """The code that several test modules need is in tests/helpers/."""
    assert imports_of_tests(tests) == []


def without_promise(texts: Texts) -> list[str]:
    """Return the tests whose docstring is not one paragraph that ends."""
    return [
        f"{path}: {test.name}"
        for path, text in texts.items()
        if stem(path).startswith("test_")
        for test in ast.walk(ast.parse(text))
        if isinstance(test, ast.FunctionDef)
        and test.name.startswith("test_")
        and not is_promise(ast.get_docstring(test) or "")
    ]


def is_promise(docstring: str) -> bool:
    ends = re.fullmatch(r".+[.:]", docstring, re.DOTALL)
    return ends is not None and "\n\n" not in docstring


def test_tests_have_docstrings(tests: Texts) -> None:
    """Every test has its promise as a docstring of one paragraph."""
    assert without_promise(tests) == []


def shared_names(texts: Texts) -> list[str]:
    """Return the names that several test modules have."""
    count = Counter(stem(path) for path in texts)
    return [
        name for name, files in count.items() if name.startswith("test_") and files > 1
    ]


def test_names_of_test_modules_differ(tests: Texts) -> None:
    """A name belongs to one module: the folder of each is on the path."""
    assert shared_names(tests) == []


def dead_paths(texts: Texts) -> list[str]:
    """Return the paths in documents that are not in the tree."""
    folders = "tests|csrc|benchmarks|docs|pmadvise|\\.ci|\\.github"
    repository = "pmadvise/pmadvise"
    return [
        f"{document}: {path}"
        for document, text in texts.items()
        for path in re.findall(rf"(?<![\w/~.-])(?:{folders})/[\w./-]*\w", text)
        if not ((ROOT / path).exists() or "NAME" in path or path == repository)
    ]


def dead_links(texts: Texts) -> list[str]:
    """Return the links of documents to files that do not exist."""
    return [
        f"{document}: {link}"
        for document, text in texts.items()
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text)
        if not (ROOT / document).parent.joinpath(link).exists()
    ]


@pytest.fixture(scope="module")
def documents() -> Texts:
    """The documents and the guide."""
    return read("*.md", "docs/**/*.md")


def test_documents_name_existing_files(documents: Texts) -> None:
    """Every path in a document is one in the tree."""
    assert dead_paths(documents) == []


def test_links_lead_somewhere(documents: Texts) -> None:
    """Every file that a document links to exists."""
    assert dead_links(documents) == []


FAULTS: list[tuple[Callable[[Texts], list[str]], Texts, list[str]]] = [
    (strangers, {"csrc/a.c": "", "novel/b": "", "novel.py": ""}, ["novel", "novel.py"]),
    (partial(longer_than, 2), {"a.py": "\n" * 2, "b.py": "\n" * 3}, ["b.py"]),
    (
        banners,
        {
            "a.py": "x = 1\n# ---\n    # === two ===\n####\n#-----x\nx = 2\n",
            "b.py": "x = 1\n\n# Vectors\n\nx = 2\n",
            "c.py": "x = 1\n\n# Why x is 2:\nx = 2  # ---\n",
        },
        ["a.py: # ---", "a.py: # ===", "a.py: ####", "a.py: #-----", "b.py: # Vectors"],
    ),
    (
        without_a_noun,
        {
            "a.py": "'What a is.'",
            "b.py": '"""Whether b is:\n\nMore."""\nx = 1\n',
            "c.py": "'which c is'",
            "d.py": "x = 1\n",
            "e.py": "'Whole things: which they are, and why.'",
            "f.py": "'Howls: how they sound.'\n",
        },
        ["a.py: What a ", "b.py: Whether", "c.py: which c", "d.py: "],
    ),
    (
        imports_of_tests,
        {
            "a.py": "import b.test_c, test_d, attest\nfrom conftest import e",
            "b.py": "def f():\n    from test_e import x\nfrom . import conftests",
        },
        ["a.py: b.test_c", "a.py: test_d", "a.py: conftest", "b.py: test_e"],
    ),
    (
        without_promise,
        {
            "test_a.py": "def test_none(): pass\n"
            "def test_endless(): 'No end'\n"
            "def test_long(): 'One.\\n\\nTwo.'\n"
            "def test_good(): 'A promise\\nof two lines.'\n"
            "def helper(): pass\n"
            "class A:\n"
            "    def test_inner(): pass\n",
            "helpers.py": "def test_none(): pass\n",
        },
        [f"test_a.py: test_{test}" for test in ("none", "endless", "long", "inner")],
    ),
    (
        shared_names,
        {"a/test_x.py": "", "b/test_x.py": "", "a/x.py": "", "b/x.py": ""},
        ["test_x"],
    ),
    (
        dead_paths,
        {
            "a.md": "pmadvise/no.py, `csrc/no`, .ci/no; but pmadvise/NAME.py, "
            "pmadvise/pmadvise, csrc/pmadvise.h, .ci/run and /home/tests/no are none."
        },
        ["a.md: pmadvise/no.py", "a.md: csrc/no", "a.md: .ci/no"],
    ),
    (
        dead_links,
        {
            "docs/a.md": "[a](no.md) [b](../no.md#c) [c](../README.md#no) [d](hold.md) "
            "[e](https://example.org/no.md) [f](#no)"
        },
        ["docs/a.md: no.md", "docs/a.md: ../no.md"],
    ),
]


@pytest.mark.parametrize(("check", "texts", "offenders"), FAULTS)
def test_a_fault_is_found(
    check: Callable[[Texts], list[str]], texts: Texts, offenders: list[str]
) -> None:
    """Each check returns the faults of a tree, and nothing else."""
    assert check(texts) == offenders

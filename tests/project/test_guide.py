"""README and the guide: every block of code is run, and every name is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.needs import NEEDS, ROOT
from helpers.pages import (
    RUN,
    TASKS,
    Names,
    Section,
    is_directive,
    markers,
    pages,
    run_section,
    runnable,
    sections,
)
from helpers.targets import MIB, Target
from helpers.waiting import wait_for_state

import pmadvise
from pmadvise import _reasons, selftest

DOCS = ROOT / "docs"
SECTIONS = [section for page in pages() for section in sections(page)]
RUNNABLE = [
    pytest.param(section, marks=markers(section), id=section.name)
    for section in runnable(lambda page: page.parent != TASKS)
]


def test_there_are_pages() -> None:
    """The guide is beside the tests."""
    assert len(pages()) > 12
    assert len(RUNNABLE) > 30


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_are_of_known_kinds(page: Path) -> None:
    """There is no block that no test runs: `sh` in README alone, where CI runs it."""
    kinds = {block.kind for section in sections(page) for block in section.blocks}
    others = {"sh"} if page.parent == ROOT else set(filter(is_directive, kinds))
    assert kinds - set(RUN) - others == set()


@pytest.mark.parametrize(
    "text", ["~~~sh\nx\n~~~\n", "````pycon\n````\n", "\n    x\n", " ```sh\n", "```sh\n"]
)
def test_hidden_code_is_found(text: str) -> None:
    """Code in another form than a fence of three backquotes is refused."""
    with pytest.raises(ValueError, match=r"README\.md"):
        list(sections(ROOT / "README.md", text))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_needs_are_known(section: Section) -> None:
    """What a section needs is what tests can ask for, as a misspelt need is none."""
    assert {f"needs_{need}" for need in section.needs} - set(NEEDS) == set()


@pytest.mark.slow
@pytest.mark.parametrize("section", RUNNABLE)
def test_section(target: Target, tmp_path: Path, section: Section) -> None:
    """What a section shows is what its reader sees."""
    names: Names = {
        "__name__": "__main__",
        "pmadvise": pmadvise,
        "pid": target.pid,
        "address": target.filled(64 * MIB),
    }
    target.filled(3 * MIB // 2)  # what a program has besides
    wait_for_state(target.pid, "S")  # at rest, as the guide says
    run_section(section, names, tmp_path)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("pycon", ">>> pid == 0\nTrue\n"),
        ("pycon", "no prompt\n"),
        ("python", "assert pid == 0\n"),
        ("console", "$ echo yes\nno\n"),
        ("console", "$ exit 3\n"),
        ("console", "echo without a prompt\n"),
        ("bash", "exit 3\n"),
        ("bash", "false\ntrue\n"),
        ("text", "no output\n"),
        ("ini", "[Service]\n"),
        ("yaml", "a: 1\n"),
    ],
)
def test_wrong_code_is_found(kind: str, code: str, tmp_path: Path) -> None:
    """A block that does not do what it shows fails, in each language."""
    (section,) = sections(ROOT / "README.md", f"# A\n```{kind}\n{code}```\n")
    with pytest.raises((AssertionError, KeyError)):
        run_section(section, {"pid": 1}, tmp_path)


def test_sections_go_on(tmp_path: Path) -> None:
    """The blocks of a section are one session."""
    text = "# A\n```python\nx = 1\n```\n\n```pycon\n>>> y = x + 1\n>>> y\n2\n```\n"
    (section,) = sections(ROOT / "README.md", text)
    names: Names = {}
    run_section(section, names, tmp_path)
    assert names["y"] == 2


def test_scripts_go_on(tmp_path: Path) -> None:
    """A script has the variables of the one before it, and text is its output."""
    text = '# A\n```bash\nx="1 2"\n```\n\n```bash\necho "$x" $pid\n```\n'
    wrong, right = (
        next(sections(ROOT / "README.md", f"{text}\n```text\n{output}\n```\n"))
        for output in ("1 2 8", "1 ... 7")
    )
    run_section(right, {"pid": 7}, tmp_path)
    with pytest.raises(AssertionError):
        run_section(wrong, {"pid": 7}, tmp_path)


def test_every_name_is_documented() -> None:
    """The pages of the API have every name of `pmadvise.__all__` once, and no other."""
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("api/*.md"))
    found = re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)", text, re.MULTILINE)
    assert sorted(found) == sorted(pmadvise.__all__)


def test_containers_are_told_alike() -> None:
    """What the guide and the messages say about containers is the same."""
    page = (DOCS / "rights.md").read_text(encoding="utf-8")
    section = page.partition("\n## Containers\n")[2].partition("\n## ")[0]
    remedy = _reasons.how_to_allow("process_madvise") + _reasons.how_to_add("SYS_NICE")
    for words in (
        "docker run --cap-add=SYS_PTRACE",
        "podman run --cap-add=SYS_PTRACE",
        'securityContext.capabilities.add: ["SYS_PTRACE"]',
        'securityContext.capabilities.add: ["SYS_NICE"]',
        "--cap-add=SYS_NICE",
        "SystemCallFilter=process_madvise",
        "AmbientCapabilities=CAP_SYS_NICE",
    ):
        assert (words in section, words in remedy) == (True, True), words


def test_plain_hosts_are_told_alike() -> None:
    """The options that a message names for a plain host are those of the task."""
    page = (TASKS / "rights.md").read_text(encoding="utf-8")
    remedy = _reasons.how_to_add("SYS_NICE")
    assert "guide: tasks/rights" in remedy
    for words in ("setpriv", "--inh-caps", "--ambient-caps", "+sys_nice"):
        assert (words in page, words in remedy) == (True, True), words


def test_checks_are_described() -> None:
    """The guide names every check of the selftest, and none that is not there."""
    page = (DOCS / "kernels.md").read_text(encoding="utf-8")
    table = page.partition("| `ok` proves | by |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = re.findall(r"`(\w+)`", "".join(rows))
    assert sorted(named) == sorted(selftest.CHECKS)

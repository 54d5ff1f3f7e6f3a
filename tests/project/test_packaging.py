"""Lists that have to agree: tools and pins, Pythons and CI, versions and changes."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from helpers.needs import ROOT

pytestmark = [
    pytest.mark.needs_sources,
    pytest.mark.skipif(
        sys.version_info < (3, 11), reason="machine: TOML is read by Python 3.11"
    ),
]

CI = ROOT / ".github/workflows/ci.yml"


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """The project's configuration."""
    import tomllib  # noqa: PLC0415 - Python 3.10 has none

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins() -> dict[str, list[str]]:
    """The versions that CI takes, by the name of the tool."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / ".github/requirements.txt").read_text().split("\n"):
        if line and not line.startswith("#"):
            pin = re.fullmatch(r"([\w-]+)==([\w.]+)(; python_version .+)?", line)
            assert pin, f"not an exact version: {line}"
            found.setdefault(pin[1], []).append(pin[2])
    return found


def test_every_tool_is_pinned(
    pyproject: dict[str, Any], pins: dict[str, list[str]]
) -> None:
    """CI takes an exact version of each tool, and none that nobody uses."""
    wanted = [
        *pyproject["build-system"]["requires"],
        *pyproject["project"]["dependencies"],
        *pyproject["project"]["optional-dependencies"]["cli"],
        *pyproject["project"]["optional-dependencies"]["test"],
        *(tool for group in pyproject["dependency-groups"].values() for tool in group),
    ]
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in wanted}
    assert set(pins) == names | {"pip"}


def test_tests_have_what_the_command_needs(pyproject: dict[str, Any]) -> None:
    """The extra `test` takes in all of the extra `cli`, word for word."""
    extras = pyproject["project"]["optional-dependencies"]
    assert set(extras["cli"]) - set(extras["test"]) == set()


def test_pythons_are_tested(pyproject: dict[str, Any]) -> None:
    """CI tests each Python that the metadata names, the oldest one included."""
    matrix = re.search(r"^ +python: \[(.+)\]$", CI.read_text(), re.MULTILINE)
    assert matrix
    tested = re.findall(r'"(.+?)"', matrix[1])
    prefix = "Programming Language :: Python :: 3."
    named = [
        classifier.removeprefix(prefix.removesuffix("3."))
        for classifier in pyproject["project"]["classifiers"]
        if classifier.startswith(prefix)
    ]
    assert tested == named
    assert pyproject["project"]["requires-python"] == f">={named[0]}"


def test_urls_are_of_one_place(pyproject: dict[str, Any]) -> None:
    """The metadata, the forms and the documents name one repository."""
    home = pyproject["project"]["urls"]["Homepage"]
    texts = [*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.yml")]
    found = {
        url
        for path in texts
        for url in re.findall(r"https://github\.com/pm\w+/\w+", path.read_text())
    }
    assert found == {home}


def test_every_workflow_tool_is_constrained() -> None:
    """No step of a workflow or of CI's scripts installs a version of the day."""
    files = [*(ROOT / ".github/workflows").glob("*.yml"), *(ROOT / ".ci").iterdir()]
    for path in files:
        text = path.read_text(encoding="utf-8")
        installs = re.findall(r"^.*\b(?:pipx run|npm install|npx)\b.*$", text, re.M)
        assert installs == [], path
        if "PIP_CONSTRAINT: .github/requirements.txt" not in text.partition("jobs:")[0]:
            free = re.findall(r"^.*\bpip install (?!.*--constraint).*$", text, re.M)
            assert path.name == "run" or free == [], path


def test_changelog_is_in_form(pyproject: dict[str, Any]) -> None:
    """Keep a Changelog: versions with dates, known kinds of change, and links."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    for version in versions:
        named = re.fullmatch(r"\[(Unreleased|\d\S+\] - \d{4}-\d\d-\d\d)\]?", version)
        assert named, version
        assert re.search(rf"^\[{version[1:].partition(']')[0]}\]: http", text, re.M)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds
    assert "[Unreleased]" in versions or any(
        version.startswith(f"[{pyproject['project']['version']}]")
        for version in versions
    )

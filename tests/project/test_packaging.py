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
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
LOCKED = ROOT / ".github/locked"


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
        *(
            tool
            for group in pyproject["dependency-groups"].values()
            for tool in group
            if isinstance(tool, str)  # not another group
        ),
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


def test_locked_has_the_pins(pins: dict[str, list[str]]) -> None:
    """The files with hashes have each pin at its version, a hash each, and no other."""
    versions: dict[str, set[str]] = {}
    for path in LOCKED.glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        for name, version, rest in re.findall(
            r"^([\w-]+)==(\S+)(.*(?:\n    .*)*)", text, re.MULTILINE
        ):
            assert "--hash=sha256:" in rest, (path, name)
            versions.setdefault(name, set()).add(version)
    tools = {name: versions.get(name, set()) - set(pins[name]) for name in pins}
    assert {name for name, others in tools.items() if others} == set()
    assert set(pins) - set(versions) == set()


def test_workflows_install_by_hash() -> None:
    """A workflow installs what has a hash, and of the rest only what it has built."""
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"^.*\b(?:pipx run|npm install|npx)\b.*$", text, re.M) == []
        installs = re.findall(r"\bpip install (.*)$", text, re.MULTILINE)
        by_hash = re.compile(r"--require-hashes -r \.github/locked/(\w+)\.txt")
        names = [by_hash.fullmatch(install) for install in installs]
        for install, name in zip(installs, names, strict=True):
            assert (
                (LOCKED / f"{name[1]}.txt").exists()
                if name
                else install.startswith("--no-deps ")
            ), (path, install)


def test_scripts_install_what_is_pinned() -> None:
    """No script of CI installs a version of the day."""
    for path in (ROOT / ".ci").iterdir():
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"^.*\b(?:pipx run|npm install|npx)\b.*$", text, re.M) == []
        free = re.findall(r"^[^#\n]*\bpip install (?!.*--constraint).*$", text, re.M)
        assert "PIP_CONSTRAINT=" in text or free == [], path


def test_actions_are_pinned() -> None:
    """An action is a commit, whose version is beside it; one action is one commit."""
    commits: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for used in re.findall(r"\buses: (?!\./)(.+)$", path.read_text(), re.MULTILINE):
            pin = re.fullmatch(
                r"([\w-]+/[\w-]+)\S*@([0-9a-f]{40}) # v\d+\.\d+\.\d+", used
            )
            assert pin, f"{path}: {used}"
            commits.setdefault(pin[1], set()).add(pin[2])
    assert len(commits) > 9
    assert {action for action, found in commits.items() if len(found) > 1} == set()


def test_rights_of_workflows_are_least() -> None:
    """A workflow has no right, a job names its own, and to write is told why."""
    for path in WORKFLOWS:
        top, _, jobs = path.read_text(encoding="utf-8").partition("\njobs:\n")
        assert "\npermissions: {}\n" in top, path
        named = re.findall(r"^  (\w+):\n(?:    .*\n|\n)*?    permissions:", jobs, re.M)
        assert named == re.findall(r"^  (\w+):$", jobs, re.MULTILINE), path
        writes = re.findall(r"^      ([\w-]+: write)\b(.*)$", jobs, re.MULTILINE)
        assert [right for right, why in writes if " # " not in why] == [], path


def test_one_version(pyproject: dict[str, Any]) -> None:
    """The forms and the manifests name the version that the metadata has."""
    version = pyproject["project"]["version"]
    form = (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text(encoding="utf-8")
    assert f"placeholder: {version}, " in form
    manifest = ROOT / "docs/examples/pressured/daemonset.yaml"
    assert f"/pressured:{version}\n" in manifest.read_text(encoding="utf-8")


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
    assert any(
        version.startswith(f"[{pyproject['project']['version']}] - ")
        for version in versions
    )

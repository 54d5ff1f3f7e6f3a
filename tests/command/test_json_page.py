"""docs/json.md and --json: the same fields, of every verb."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.command import COMMAND, environment, run, run_here
from helpers.fake_reclaim import account
from helpers.json_page import Fields, fields_of
from helpers.needs import ROOT
from helpers.targets import MIB, Target

import pmadvise.cgroup
from pmadvise.command.app import VERBS
from pmadvise.idle import SOURCES

pytestmark = pytest.mark.needs_root

ADVICES = ("cold", "pageout", "willneed", "collapse")


def paths(value: Any, names: re.Pattern[str], path: str = "") -> Iterator[str]:
    """Yield the fields in a value of JSON; names that stand for a field are NAME."""
    if isinstance(value, list):
        for item in value:
            yield from paths(item, names, path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            by_name = path.endswith(("advice", "idle")) and names.fullmatch(key)
            below = ".".join(filter(None, [path, "NAME" if by_name else key]))
            yield below
            yield from paths(inner, names, below)


def written(*objects: Any) -> set[str]:
    """Return the fields of objects that the command has written."""
    return set(paths([*objects], re.compile("|".join((r"MADV_\w+", *SOURCES)))))


@pytest.fixture(scope="module")
def page() -> Fields:
    """The fields on the page."""
    return fields_of((ROOT / "docs/json.md").read_text(encoding="utf-8"))


@pytest.fixture
def dead() -> int:
    """The ID of a process that has gone."""
    process = Target()
    process.close()
    return process.pid


def test_every_verb_is_there(page: Fields) -> None:
    """Each verb has its fields on the page; the four advices have the same."""
    named = [name.removeprefix("fields-of-") for name in page if "fields-of-" in name]
    headings = ["-".join(ADVICES), *(verb for verb in VERBS if verb not in ADVICES)]
    assert sorted(named) == sorted([*headings, "--json"])


def test_top(page: Fields, target: Target) -> None:
    """Of top."""
    assert written(*run("top", "--json", target.pid).objects) == page["fields-of-top"]


def test_show(page: Fields, target: Target) -> None:
    """Of show, with --ages."""
    target.filled(MIB)
    arguments = ["show", "--json", "--ages", "--watch", "50ms", str(target.pid)]
    with subprocess.Popen(
        [*COMMAND, *arguments], env=environment(), stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        found = json.loads(watching.stdout.readline())
        watching.terminate()
    assert written(found) == page["fields-of-show"]


@pytest.mark.parametrize("advice", ADVICES)
def test_advices(page: Fields, target: Target, dead: int, advice: str) -> None:
    """Of an advice: of an address that nothing is mapped at, idle memory, an error."""
    address = target.filled(4 * MIB)
    areas = [f"--range={address:x}-{address + MIB:x}", "--range=10000-20000"]
    found = [*run(advice, "--json", target.pid, *areas).objects]
    found += run(advice, "--json", dead).objects
    expected = page[f"fields-of-{'-'.join(ADVICES)}"]
    if advice == "willneed":
        expected = {field for field in expected if not field.startswith("idle.")}
    else:
        found += run(advice, "--json", "--idle", "50ms", target.pid).objects
    if advice != "pageout":
        expected = {field for field in expected if not field.startswith("remaining.")}
    assert written(*found) == expected


def test_reclaim(page: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of reclaim, and of its error."""
    command = ("reclaim", "--json", "--cgroup", "/a", "64M")
    monkeypatch.setattr(pmadvise.cgroup, "reclaim", lambda *_, **__: account())
    [done] = run_here(*command).objects
    monkeypatch.undo()
    [failed] = run_here("reclaim", "--json", "--cgroup", "/no-such", "64M").objects
    assert written(done, failed) == page["fields-of-reclaim"]


def test_check(page: Fields, target: Target) -> None:
    """Of check, about a process."""
    [found] = run("check", "--json", target.pid).objects
    assert written(found) == page["fields-of-check"]


def test_selftest(page: Fields) -> None:
    """Of selftest, whose `support` is about no process."""
    found = json.loads(run("selftest", "--json", "--only", "cold").out)
    assert found["support"]["target"] is None
    assert written(found) == {
        field
        for field in page["fields-of-selftest"]
        if not field.startswith("support.target.")
    }


def test_a_field_too_much_is_found() -> None:
    """Fields are those of the tables, and those of tables that they link to."""
    text = (
        "# A\n| field | is |\n|---|---|\n| `b` | [a C](#c) |\n| `d.NAME` | e |\n"
        "## C\n| `f` | g |\n"
    )
    assert fields_of(text) == {"a": {"b", "b.f", "d", "d.NAME"}, "c": {"f"}}

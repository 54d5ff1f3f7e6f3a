"""What the selftest prints, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest
from helpers.privileges import become_nobody
from helpers.selftest_runs import run, run_here, run_with

from pmadvise import selftest
from pmadvise.selftest.requirements import Skip

root = pytest.mark.needs_root


def test_a_line_a_check() -> None:
    """It prints a line for each check, in order, and nothing on stderr."""
    done = run("--size", "4")
    assert list(done.checks) == list(selftest.CHECKS)
    assert (done.errors, done.failed) == ("", {})


@root
@pytest.mark.needs_swap
@pytest.mark.needs_cgroup2
def test_nothing_is_skipped_where_everything_is_there() -> None:
    """As root with swap and cgroups every check passes, and --require all holds."""
    done = run("--require", "all")
    assert (done.status, done.skipped, done.failed) == (0, {}, {})


def test_list() -> None:
    """--list prints the names of the checks."""
    assert run("--list").output.split() == list(selftest.CHECKS)


def test_only() -> None:
    """--only takes names, repeated or with commas."""
    done = run("--only", "resident,host", "--only", "maps")
    assert list(done.checks) == ["host", "maps", "resident"]


def test_help_describes_each_check() -> None:
    """--help has a line for each check."""
    text = run("--help").output
    undescribed = [
        name
        for name in selftest.CHECKS
        if not re.search(rf"^  {name} +[A-Z].*\.$", text, re.M)
    ]
    assert undescribed == []


def test_json_is_one_document() -> None:
    """--json prints the host's facts, the results and the verdict, and nothing else."""
    done = run("--json", "--only", "host,maps")
    document = json.loads(done.output)
    assert document["support"]["kernel"] == os.uname().release
    assert [r["name"] for r in document["results"]] == ["host", "maps"]
    assert document["summary"] == "2 passed, 0 failed, 0 skipped"
    assert (document["passed"], document["interrupted"]) == (2, None)
    assert set(document["verdict"]) == {"ok", "text"}


@root
def test_verdict_is_yes() -> None:
    """The line before the counts is yes where another process can be advised."""
    done = run("--only", "host")
    assert done.verdict.startswith("uid 0 can advise another process on this host")
    assert done.status == 0


@root
def test_verdict_is_no() -> None:
    """Where that is refused the verdict has what is missing, and the status is 1."""
    done = run_with(become_nobody, "--only", "host")
    assert done.verdict.startswith("uid 65534 cannot advise another process")
    assert "CAP_SYS_NICE" in done.verdict
    assert "docker run --cap-add=SYS_NICE" in done.verdict
    assert (done.status, done.failed) == (1, {})


@root
def test_verdict_in_json() -> None:
    """JSON has the same verdict."""
    done = run_with(become_nobody, "--only", "host", "--json")
    verdict = json.loads(done.output)["verdict"]
    assert (verdict["ok"], done.status) == (False, 1)
    assert "CAP_SYS_NICE" in verdict["text"]


@root
def test_no_verdict() -> None:
    """With --no-verdict only the checks decide on the status."""
    done = run_with(become_nobody, "--only", "host", "--no-verdict")
    assert (done.verdict, done.status) == ("", 0)


@root
def test_verdict_names_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that failed is named, although a process can be advised."""

    def check_maps(size: int) -> str:
        raise AssertionError("broken")

    monkeypatch.setitem(selftest.CHECKS, "maps", check_maps)
    done = run_here("--only", "maps,host")
    assert "can advise another process" in done.verdict
    assert "but checks failed: maps" in done.verdict
    assert done.status == 1


@root
def test_verdict_names_a_low_priority() -> None:
    """A caller at nice 19 reads that max_stall can't be kept."""
    done = run("--only", "host", program=("nice", "-n", "19"))
    assert "at nice 19" in done.verdict
    assert done.status == 0


@pytest.mark.parametrize(
    "arguments",
    [("--size", "0"), ("--size", "x"), ("--no",), ("x",), ("--only", "no_such")],
)
def test_misuse(arguments: tuple[str, ...]) -> None:
    """Wrong options are exit status 2, and the message has the value."""
    done = run(*arguments)
    assert (done.status, done.output) == (2, "")
    assert arguments[-1] in done.errors


@pytest.fixture
def no_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check `maps` can't be made."""

    def check_maps(size: int) -> str:
        raise Skip("no maps here: draw some")

    monkeypatch.setitem(selftest.CHECKS, "maps", check_maps)


@pytest.mark.usefixtures("no_maps")
@pytest.mark.parametrize(
    "options", [("--require", "maps"), ("--strict",), ("--require", "all")]
)
def test_required(options: tuple[str, ...]) -> None:
    """A required check that is skipped is a failure with the same reason."""
    done = run_here("--only", "maps,host", *options)
    assert done.failed == {"maps": "required, and skipped: no maps here: draw some"}
    assert done.status == 1


@pytest.mark.usefixtures("no_maps")
def test_not_required() -> None:
    """A check that is not required may be skipped."""
    assert run_here("--only", "maps,host").failed == {}


def test_required_is_made_too() -> None:
    """--require adds its check to those of --only."""
    done = run("--only", "host", "--require", "maps")
    assert (list(done.checks), done.failed) == (["host", "maps"], {})


@pytest.mark.parametrize("ci", ["", "true"])
def test_progress_on_a_terminal(ci: str) -> None:
    """A terminal shows the check that is being made, but not in CI: it is a log."""
    terminal, end = pty.openpty()
    options: dict[str, Any] = {"env": {**os.environ, "CI": ci}}
    subprocess.run(
        [sys.executable, "-m", "pmadvise.selftest", "--only", "host", "--no-verdict"],
        stdout=subprocess.DEVNULL,
        stderr=end,
        check=True,
        **options,
    )
    os.write(end, b"end")
    text = b""
    while not text.endswith(b"end"):
        text += os.read(terminal, 4096)
    for fd in (end, terminal):
        os.close(fd)
    wiped = b"\r\x1b[K"
    shown = b"" if ci else wiped + b"1/1 host ..." + wiped * 2
    assert text == shown + b"end"

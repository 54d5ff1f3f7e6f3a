"""The selftest, as an operator runs it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pmadvise import Advice, selftest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pmadvise.selftest", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_lines() -> None:
    """A line a check, then the counts, and exit status 0 where none failed."""
    done = run("--size", "4")
    *lines, last = done.stdout.splitlines()
    assert [
        line for line in lines if not re.fullmatch(r"(ok|skip) \S+ - .+", line)
    ] == []
    counts = [sum(line.startswith(v) for line in lines) for v in ("ok", "skip")]
    assert last == f"{counts[0]} passed, 0 failed, {counts[1]} skipped"
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs_root
@pytest.mark.needs_swap
def test_nothing_is_skipped_where_everything_is_there() -> None:
    """As root with swap every check is made."""
    assert (
        run().stdout.splitlines()[-1]
        == f"{len(selftest.CHECKS)} passed, 0 failed, 0 skipped"
    )


@pytest.mark.parametrize(
    "arguments", [("--size", "0"), ("--size", "x"), ("--no",), ("x",)]
)
def test_misuse(arguments: tuple[str, ...]) -> None:
    """Wrong options are exit status 2, and name the value."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[-1] in done.stderr


@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.parametrize(
    ("name", "advice"),
    [("cold", Advice.WILLNEED), ("pageout", Advice.COLD), ("willneed", Advice.COLD)],
)
def test_can_fail(monkeypatch: pytest.MonkeyPatch, name: str, advice: Advice) -> None:
    """An advice that does something else is seen to fail."""
    real = selftest.Child.advise

    def advise(self: selftest.Child, asked: Advice) -> int:
        return real(self, advice if asked.name.lower() == name else asked)

    monkeypatch.setattr(selftest.Child, "advise", advise)
    assert selftest.run(name, 64 * selftest.MIB).verdict == "FAIL"


@pytest.mark.needs_root
def test_changed_memory_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not intact is seen to fail."""
    monkeypatch.setattr(
        selftest.Child, "_read_digest", lambda self: id(self.__dict__.get("digest", 0))
    )
    assert selftest.run("cold", selftest.MIB).verdict == "FAIL"

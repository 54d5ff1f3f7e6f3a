"""Verb reclaim: its options, its account, how it ends, and its errors."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from helpers.command import run_here
from helpers.fake_reclaim import AFTER, BEFORE, account
from helpers.forks import Done
from helpers.targets import GIB, MIB

import pmadvise.cgroup
from pmadvise import Swap
from pmadvise.cgroup import Reclaimed
from pmadvise.command import work
from pmadvise.command.reclaim import Order, lines

KEYS = [
    *("cgroup", "requested", "reclaimed", "ended", "calls", "elapsed"),
    *("before", "after", "error"),
]
COMMAND = ("reclaim", "--cgroup", "/a", "64M")
ORDER = Order("/a", 64 * MIB, None, 0, None)
ON, OFF = Swap(GIB, GIB, True), Swap(0, 0, False)

Run = Callable[..., Done]


class Library:
    """A reclaim() that notes its arguments, and does what a test tells it to."""

    def __init__(self) -> None:
        self.result: Reclaimed | BaseException = account()
        self.seen: dict[str, Any] = {}
        self.during: Callable[[], object] = lambda: None

    def __call__(self, cgroup: str, size: int, **options: Any) -> Reclaimed:
        """Note the arguments; return or raise the result."""
        self.seen = {"cgroup": cgroup, "size": size, **options}
        self.during()
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """The library, in its place."""
    made = Library()
    monkeypatch.setattr(pmadvise.cgroup, "reclaim", made)
    monkeypatch.setattr(work, "swap", lambda: ON)
    return made


def failed(number: int, text: str, so_far: Reclaimed | None = None) -> OSError:
    """Return an error of the library, which has the account so far."""
    error = OSError(number, text)
    if so_far is not None:
        error.reclaimed = so_far  # type: ignore[attr-defined]
    return error


def told(result: Reclaimed, order: Order = ORDER, swap: Swap | None = ON) -> list[str]:
    """Return the sentences about an account, without the first."""
    return list(lines(order, result, swap))[1:]


def test_options(library: Library) -> None:
    """Each option is passed on, in bytes and seconds."""
    run_here(*COMMAND, "--swappiness=7", "--swap-floor=10%", "--timeout=1.5min")
    kept = ("cgroup", "size", "swappiness", "swap_floor", "timeout")
    assert [library.seen[name] for name in kept] == [
        *("/a", 64 * MIB, 7, -(-GIB // 10), 90.0)
    ]


def test_no_options(library: Library) -> None:
    """Without options nothing limits it."""
    run_here(*COMMAND)
    kept = ("swappiness", "swap_floor", "timeout")
    assert [library.seen[name] for name in kept] == [None, 0, None]


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("60", 60), ("200", 200), ("max", "max")]
)
def test_swappiness(library: Library, text: str, value: int | str) -> None:
    """Swappiness is 0 to 200, or max."""
    run_here(*COMMAND, "--swappiness", text)
    assert library.seen["swappiness"] == value


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cgroup=/a"],
        ["64M"],
        ["--cgroup=/a", "--cgroup=/b", "64M"],
        ["--cgroup=", "64M"],
        ["--cgroup=/a", "64M", "64M"],
        *(["--cgroup=/a", size] for size in ("10%", "much", "-1", "-5M", "")),
        *(
            ["--cgroup=/a", "64M", "--swappiness", text]
            for text in ("-1", "201", "1000", "1.5", "MAX", "", "²")
        ),
        ["--cgroup=/a", "64M", "--swap-floor=101%"],
        ["--cgroup=/a", "64M", "--timeout=10"],
        ["--cgroup=/a", "64M", "--budget=1M"],
        ["--cgroup=/a", "64M", "--touch"],
        ["--tree=1", "64M"],
    ],
    ids=" ".join,
)
def test_wrong_usage(library: Library, arguments: list[str]) -> None:
    """Wrong usage is exit status 2 and one line, and nothing is reclaimed."""
    done = run_here("reclaim", *arguments)
    assert (done.status, done.out, len(done.errors)) == (2, "", 1)
    assert library.seen == {}


@pytest.mark.parametrize(
    ("ended", "status"),
    [("complete", 0), ("short", 1), ("timeout", 1), ("budget", 1), ("cancelled", 1)],
)
def test_exit_status(library: Library, ended: str, status: int) -> None:
    """Only all that was asked for is status 0."""
    library.result = account(reclaimed=MIB, ended=ended)
    assert run_here(*COMMAND, "--quiet") == (status, "", "")


def test_text(library: Library) -> None:
    """People get what was charged before and after, and one line."""
    done = run_here(*COMMAND)
    rows = [line.split() for line in done.out.split("\n")]
    assert ["in", "memory", "900M", "836M"] in rows
    assert ["anonymous", "500M", "450M"] in rows
    assert ["file", "300M", "286M"] in rows
    assert ["shared", "100M", "100M"] in rows
    assert ["in", "swap", "0B", "50.0M"] in rows
    assert done.out.endswith("\n/a: 64.0 MiB asked, 64.0 MiB reclaimed in 500ms\n")
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (account(), []),
        (
            account(reclaimed=60 * MIB, ended="short"),
            ["4.0 MiB not reclaimed: the kernel found no more that it may take"],
        ),
        (
            account(reclaimed=60 * MIB, ended="timeout"),
            ["4.0 MiB not reclaimed: the time was over"],
        ),
        (
            account(reclaimed=60 * MIB, ended="cancelled"),
            ["4.0 MiB not reclaimed: interrupted"],
        ),
        (
            account(reclaimed=60 * MIB, ended="budget"),
            [
                "4.0 MiB not reclaimed: memory.min or memory.low of the cgroup "
                "protects it"
            ],
        ),
        (
            account(reclaimed=0, ended="timeout", calls=0),
            ["nothing was tried: the time was over"],
        ),
        (
            account(reclaimed=-9 * MIB, ended="short"),
            ["64.0 MiB not reclaimed: the kernel found no more that it may take"],
        ),
        (
            account(reclaimed=30 * MIB),
            [
                "the kernel reported all of it reclaimed: meanwhile the cgroup took "
                "memory"
            ],
        ),
        (account(reclaimed=70 * MIB), []),
        (account(after=None), ["the cgroup has been removed"]),
    ],
)
def test_words(result: Reclaimed, words: list[str]) -> None:
    """How it ended is told in words."""
    assert told(result) == words


@pytest.mark.parametrize(
    ("order", "is_told"),
    [
        (ORDER._replace(swap_floor=MIB), True),
        (ORDER._replace(swap_floor=MIB, swappiness=0), False),
        (ORDER, False),
    ],
)
def test_words_of_the_floor(order: Order, is_told: bool) -> None:
    """The floor may have ended it only where there is one, and swap is used."""
    [text] = told(account(reclaimed=MIB, ended="budget"), order)
    assert ("--swap-floor" in text) == is_told


@pytest.mark.parametrize(
    ("swappiness", "swap", "is_told"),
    [(None, OFF, True), ("max", OFF, True), (0, OFF, False), (None, None, False)],
)
def test_words_of_no_swap(
    swappiness: int | str | None, swap: Swap | None, is_told: bool
) -> None:
    """Where swap is off, that is why the kernel found no more."""
    order = ORDER._replace(swappiness=swappiness)
    text = told(account(reclaimed=MIB, ended="short"), order, swap)
    assert ("swap is off" in text[-1]) == is_told


def test_memory_that_is_unknown(library: Library) -> None:
    """What is not counted, or not there any more, is a dash."""
    library.result = account(after=None, before=pmadvise.CgroupMemory(9, 1, 2, 3, None))
    rows = [line.split() for line in run_here(*COMMAND).out.split("\n")]
    assert ["in", "swap", "-", "-"] in rows
    assert ["in", "memory", "9B", "-"] in rows


@pytest.mark.parametrize("columns", [20, 21, 27, 40, 80, 200])
def test_width(library: Library, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """No line is longer than the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    library.result = account(reclaimed=MIB, ended="budget")
    done = run_here(*COMMAND, "--swap-floor=1M")
    assert max(map(len, done.out.split("\n"))) <= columns
    assert {"900M", "836M"} <= set(done.out.split())


def test_json(library: Library) -> None:
    """--json is one object: the account, the cgroup and the error."""
    done = run_here(*COMMAND, "--json")
    [found] = done.objects
    assert list(found) == KEYS
    assert (found["cgroup"], found["error"], found["ended"]) == ("/a", None, "complete")
    assert (found["before"]["current"], found["after"]["swap"]) == (
        BEFORE.current,
        AFTER.swap,
    )
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("so_far", [None, account(reclaimed=MIB, after=None)])
def test_json_of_an_error(library: Library, so_far: Reclaimed | None) -> None:
    """An error has its errno and message there, and its line on stderr."""
    library.result = failed(errno.ENODEV, "it has been removed", so_far)
    done = run_here(*COMMAND, "--json")
    [found] = done.objects
    assert list(found) == KEYS
    assert found["error"] == {"errno": errno.ENODEV, "message": "it has been removed"}
    assert (found["requested"], found["reclaimed"]) == (64 * MIB, MIB if so_far else 0)
    assert (done.status, done.err) == (1, "pmadvise: it has been removed\n")


def test_a_cgroup_that_is_removed_meanwhile(library: Library) -> None:
    """What was reclaimed until then is told, and the error is one line."""
    so_far = account(reclaimed=MIB, ended="cancelled", after=None)
    library.result = failed(errno.ENODEV, "cgroup '/a': it has been removed", so_far)
    done = run_here(*COMMAND)
    assert "64.0 MiB asked, 1.0 MiB reclaimed" in done.out
    assert "interrupted" not in done.out
    assert (done.status, done.err) == (
        1,
        "pmadvise: cgroup '/a': it has been removed\n",
    )


def test_hidden_swap(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of a swap that is hidden is an error, before anything is reclaimed."""

    def hidden() -> Swap:
        raise PermissionError(errno.EACCES, "/proc hides it")

    monkeypatch.setattr(work, "swap", hidden)
    done = run_here(*COMMAND, "--swap-floor=10%", "--json")
    assert done.objects[0]["error"]["errno"] == errno.EACCES
    assert (done.status, library.seen) == (1, {})


@pytest.mark.parametrize("option", ["--json", "--quiet", ""])
def test_interrupt(library: Library, option: str) -> None:
    """Ctrl-C asks it to stop; the report is printed, and the status is 130."""

    def interrupt() -> None:
        assert not library.seen["stop"]()
        os.kill(os.getpid(), signal.SIGINT)
        assert library.seen["stop"]()

    library.during = interrupt
    library.result = account(reclaimed=MIB, ended="cancelled")
    before = signal.getsignal(signal.SIGINT)
    done = run_here(*COMMAND, *option.split())
    assert (done.status, done.err) == (130, "")
    assert ("interrupted" in done.out) == (option == "")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("so_far", [None, account(reclaimed=MIB, ended="cancelled")])
def test_second_interrupt(library: Library, so_far: Reclaimed | None) -> None:
    """A second Ctrl-C ends it at once, with the account that there is."""
    library.result = KeyboardInterrupt()
    if so_far is not None:
        library.result.reclaimed = so_far  # type: ignore[attr-defined]
    done = run_here(*COMMAND, "--json")
    assert (done.status, done.err) == (130, "")
    assert done.objects[0]["ended"] == "cancelled"
    assert done.objects[0]["reclaimed"] == (MIB if so_far else 0)
    assert run_here(*COMMAND).status == 130

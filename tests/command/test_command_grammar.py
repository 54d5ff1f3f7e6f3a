"""The grammar: arguments that are read, and wrong usage."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable

import click
import pytest
from helpers.command import run
from helpers.targets import PAGE, Target

from pmadvise.command import app, options
from pmadvise.command.examples import EXAMPLES
from pmadvise.command.options import Share

COMMANDS = (
    *("top", "show", "cold", "pageout", "willneed", "collapse", "reclaim", "check"),
)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("4096", 4096),
        ("64K", 64 << 10),
        ("64k", 64 << 10),
        ("64KiB", 64 << 10),
        ("1.5GiB", 3 << 29),
        ("2G", 2 << 30),
        ("0", 0),
    ],
)
def test_size(text: str, n_bytes: int) -> None:
    """A size is a number of bytes, or has a unit of 1024."""
    assert options.size(text) == n_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10ms", 0.01),
        ("2s", 2.0),
        ("1.5min", 90.0),
        ("1h", 3600.0),
        ("500us", 0.0005),
        ("8760h", 31_536_000.0),
    ],
)
def test_time(text: str, seconds: float) -> None:
    """A time has a unit."""
    assert options.time(text) == pytest.approx(seconds)


def test_no_stall_limit() -> None:
    """--max-stall none is no limit."""
    assert options.stall("none") == math.inf


def test_share() -> None:
    """A budget and a floor may be a share."""
    assert (options.share("50%"), options.share("1M")) == (Share(50.0), 1 << 20)


def test_addresses() -> None:
    """A range is written as /proc/PID/maps has it, with or without 0x."""
    assert options.address_range(f"{PAGE:x}-0x{3 * PAGE:x}") == (PAGE, 2 * PAGE)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *(
            (options.size, text)
            for text in ("", "x", "-1", "nan", "inf", "5XiB", "1e99")
        ),
        *((options.time, text) for text in ("", "x", "-1s", "nan", "inf", "5 days")),
        *(
            (options.time, text)
            for text in ("0", "10", "1.5m", "8761h", "9" * 400 + "s")
        ),
        *((options.positive_time, text) for text in ("0s", "0ms", "none")),
        *((options.share, text) for text in ("101%", "-1%", "x%", "nan%", "%")),
        *((options.address_range, text) for text in ("", "1-2", "2000-1000", "x-y")),
        *((options.address_range, text) for text in ("1000", "0-1" + "0" * 16 + "000")),
        *((options.pid, text) for text in ("0", "-1", "x", "", "4294967296", "1.5")),
    ],
)
def test_refused(read: Callable[[str], object], text: str) -> None:
    """What can't be read is a usage error."""
    with pytest.raises(click.BadParameter, match="is not "):
        read(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["pageout"],
        ["show"],
        ["pageout", "abc"],
        ["pageout", "0"],
        ["pageout", "1", "--budget", "much"],
        ["pageout", "1", "--max-stall", "0s"],
        ["pageout", "1", "--swap-floor", "101%"],
        ["show", "1", "--watch", "9999999999s"],
        ["pageout", "1", "--hold", "rope"],
        ["pageout", "1", "--range", "1-2"],
        ["page-out", "1"],
        ["check", "1", "2"],
        ["cold", "1", "--nothing"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str]) -> None:
    """Wrong usage is exit status 2 and one line on stderr."""
    done = run(*arguments)
    assert (done.status, done.out, len(done.errors)) == (2, "", 1)
    assert done.err.startswith("pmadvise: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    """Every command has --help, in 80 columns, with the options that all have."""
    done = run(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert max(map(len, done.out.split("\n"))) <= 80
    for option in ("--json", "--quiet", "--debug", "--help"):
        assert option in done.out


@pytest.mark.parametrize(
    "line", [line for lines in EXAMPLES.values() for line in lines]
)
def test_examples(line: str) -> None:
    """Each example of the help is read without an error, its values too."""
    _, verb, *arguments = shlex.split(line)
    command = app.app.get_command(click.Context(app.app), verb)
    assert command is not None
    assert command.make_context(verb, arguments).params


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "line",
    [
        line
        for lines in EXAMPLES.values()
        for line in lines
        if "1234" in line and not {"--watch", "--swap-floor"} & {*line.split()}
    ],
)
def test_examples_of_a_process(target: Target, line: str) -> None:
    """Each example about a process does what it is there for, for any process."""
    target.filled(4 * PAGE)
    _, *arguments = shlex.split(line.replace("1234", str(target.pid)))
    done = run(*arguments)
    assert (done.status, str(target.pid) in done.out) == (0, True)


def test_every_verb_has_examples() -> None:
    """Each verb has examples, which are the last lines of its help, and its own."""
    assert list(EXAMPLES) == list(app.VERBS)
    for verb, lines in EXAMPLES.items():
        assert {line.split()[:2] == ["pmadvise", verb] for line in lines} == {True}
        if verb != "selftest":  # which has the help of its own parser
            shown = run(verb, "--help").out.split("Examples:\n")[1]
            assert shown == "".join(f"    {line}\n" for line in lines)


def test_options_before_the_command(target: Target) -> None:
    """The options that all commands have may stand before the command too."""
    assert [one["pid"] for one in run("--json", "show", target.pid).objects] == [
        target.pid
    ]


@pytest.mark.parametrize("option", ["--max-stall", "--timeout", "--watch"], ids=str)
def test_a_time_without_a_unit(option: str) -> None:
    """A bare number is refused, with an example of what is wanted."""
    verb = "show" if option == "--watch" else "pageout"
    done = run(verb, 1, option, "10")
    assert (done.status, done.out, len(done.errors)) == (2, "", 1)
    assert "'10'" in done.err
    assert "10ms" in done.err


def test_selftest_takes_its_own_options() -> None:
    """`pmadvise selftest` is the selftest, options and status."""
    listed = run("selftest", "--list")
    assert (listed.status, "pageout" in listed.out.split("\n")) == (0, True)
    wrong = run("selftest", "--size", "none")
    assert (wrong.status, wrong.out, len(wrong.errors)) == (2, "", 1)

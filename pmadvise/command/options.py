"""Options that verbs share, and their values read from text.

A function that reads a value raises click.BadParameter for a text that it can't read,
which is a usage error; it returns a default, which is no text, as it is.
"""

from __future__ import annotations

import functools
import math
import os
import pwd
import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import click

from pmadvise import PAGE_SIZE
from pmadvise.command import completion
from pmadvise.command.output import Output

_SIZE = re.compile(r"([0-9]*\.?[0-9]+) ?([kmgtpe]?)(?:i?b)?", re.IGNORECASE)
_UNITS = ("", *"kmgtpe")
_TIME = re.compile(r"([0-9]*\.?[0-9]+) ?(us|ms|s|min|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_MAX_HOURS = 8760
_RANGE = re.compile(r"(?:0x)?([0-9a-f]+)-(?:0x)?([0-9a-f]+)", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]{1,10}")
_MAX_BYTES = 1 << 64
_MAX_PID = (1 << 31) - 1
_MAX_UID = (1 << 32) - 2
_MAX_NAME = 15
"""Bytes of a name: the kernel cuts it there, TASK_COMM_LEN with its NUL."""
_OF_GLOB = re.compile(r"\[!?\]?[^]]*\]|[^*]", re.DOTALL)
"""A part of a pattern that stands for a character, as fnmatch(3) reads it."""

F = TypeVar("F", bound=Callable[..., object])


def output_of(context: click.Context) -> Output:
    """Return the output of this run of the command."""
    return context.ensure_object(Output)


class Share(NamedTuple):
    """A part of a whole, such as the memory of the targets."""

    percent: float


def _refused(text: str, why: str) -> click.BadParameter:
    return click.BadParameter(f"{text!r} is not {why}")


def pid(text: str) -> int:
    """Return a process ID."""
    if not _DIGITS.fullmatch(text) or not 0 < int(text) <= _MAX_PID:
        raise _refused(text, "a process ID")
    return int(text)


def size(text: str | int) -> int:
    """Return bytes: of 4096, 64K, 1.5GiB. Units are powers of 1024."""
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    n_bytes = float(match[1]) * 1024 ** _UNITS.index(match[2].lower()) if match else -1
    if not 0 <= n_bytes < _MAX_BYTES:
        raise _refused(text, "a size, such as 4096, 64K or 1.5GiB")
    return int(n_bytes)


def time(text: str) -> float:
    """Return seconds: of 10ms, 2s, 1.5min, 1h; up to a year. A unit is required."""
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise _refused(text, "a time with its unit, such as 10ms, 2s, 5min or 1h")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _MAX_HOURS * _SECONDS["h"]:
        raise _refused(text, f"a time of {_MAX_HOURS}h or less")
    return seconds


def positive_time(text: str) -> float:
    """Return seconds, more than 0."""
    seconds = time(text)
    if not seconds > 0:
        raise _refused(text, "more than 0 seconds")
    return seconds


def stall(text: str) -> float:
    """Return seconds, more than 0; infinity for "none"."""
    return math.inf if text == "none" else positive_time(text)


def share(text: str | int) -> int | Share:
    """Return a size, or of N% a Share."""
    if isinstance(text, int) or not text.endswith("%"):
        return size(text)
    try:
        percent = float(text[:-1])
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        raise _refused(text, "a share between 0% and 100%")
    return Share(percent)


class User(NamedTuple):
    """A user, and the text that names it."""

    uid: int
    text: str


def user(text: str) -> User:
    """Return a user, by name or number; a name of digits is a name first."""
    try:
        return User(pwd.getpwnam(text).pw_uid, text)
    except KeyError:
        if _DIGITS.fullmatch(text) and int(text) <= _MAX_UID:
            return User(int(text), text)
    raise click.BadParameter(f"there is no user {text!r}")


def name_glob(text: str) -> str:
    """Return a pattern of names of processes; refuse one that matches no name."""
    parts = _OF_GLOB.findall(text)
    least = sum(len(os.fsencode(part)) if len(part) == 1 else 1 for part in parts)
    if least <= _MAX_NAME:
        return text
    remedy = ""
    if not set(text) & set("*?["):
        kept = os.fsencode(text)[:_MAX_NAME].decode("utf-8", "surrogateescape")
        remedy = f": give {kept!r}"
    raise click.BadParameter(
        f"{text!r} matches no name, as the kernel keeps {_MAX_NAME} bytes of it{remedy}"
    )


def address_range(text: str) -> tuple[int, int]:
    """Return address and length of START-END, as /proc/PID/maps has it."""
    match = _RANGE.fullmatch(text.strip())
    if not match:
        raise _refused(text, "START-END in hexadecimal, as in /proc/PID/maps")
    start, end = int(match[1], 16), int(match[2], 16)
    if not start < end <= _MAX_BYTES:
        raise _refused(text, "a range: START must be less than END, and END 64 bits")
    if start % PAGE_SIZE or end % PAGE_SIZE:
        raise _refused(text, f"of whole pages of {PAGE_SIZE} bytes")
    return start, end - start


def _flag(name: str, text: str) -> Callable[[F], F]:
    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            setattr(output_of(context), name, True)

    return click.option(
        f"--{name}", is_flag=True, expose_value=False, callback=remember, help=text
    )


def together(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return the decorators as one, in the order in which the help has them."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


common = together(
    _flag("json", "Print JSON, an object a line, for programs."),
    _flag("quiet", "Print only errors (and the JSON, with --json)."),
    _flag("debug", "Print the traceback of each error."),
)

UNITS_HELP = "Sizes: 4096, 64K, 1.5GiB (units of 1024). Times: 10ms, 2s, 5min, 1h."
"""The units of values, in the help of each verb that takes them."""

TARGET_HELP = """TARGET is any number of PIDs, --cgroup PATH and --tree PID, which add
up. --name GLOB and --user USER narrow these, or all processes where none of these is
given, to the processes that have one of the names and belong to one of the users."""
"""The rule of targets, in the help of each verb that takes them."""


class Wanted(NamedTuple):
    """The targets as they were given; any() of it tells whether there are any."""

    pids: tuple[int, ...] = ()
    cgroups: tuple[str, ...] = ()
    trees: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    users: tuple[User, ...] = ()


_of_targets: Callable[[Callable[..., object]], Callable[..., object]] = together(
    click.argument(
        "pid",
        type=pid,
        nargs=-1,
        shell_complete=completion.complete_pid,
    ),
    click.option(
        "--cgroup",
        metavar="PATH",
        multiple=True,
        type=click.Path(),
        help="The processes of a cgroup and those below it: its directory, or its "
        "path as /proc/PID/cgroup has it.",
    ),
    click.option(
        "--tree",
        metavar="PID",
        type=pid,
        multiple=True,
        shell_complete=completion.complete_pid,
        help="A process and its descendants.",
    ),
    click.option(
        "--name",
        metavar="GLOB",
        type=name_glob,
        multiple=True,
        shell_complete=completion.complete_name,
        help="Only processes whose name matches: that of /proc/PID/comm, of 15 bytes "
        "at most.",
    ),
    click.option(
        "--user",
        metavar="USER",
        type=user,
        multiple=True,
        shell_complete=completion.complete_user,
        help="Only processes of a user, by name or number: the effective one.",
    ),
)


def targets(function: Callable[..., object]) -> Callable[..., object]:
    """Give a verb the options of targets, and to its function `wanted`, of them."""

    @_of_targets
    @functools.wraps(function)
    def take_targets(
        *arguments: object,
        pid: tuple[int, ...],
        cgroup: tuple[str, ...],
        tree: tuple[int, ...],
        name: tuple[str, ...],
        user: tuple[User, ...],
        **options: object,
    ) -> object:
        wanted = Wanted(pid, cgroup, tree, name, user)
        return function(*arguments, wanted=wanted, **options)

    return take_targets


def require_targets(wanted: Wanted) -> None:
    """Raise click.UsageError where no target was given."""
    if not any(wanted):
        raise click.UsageError(
            "give a TARGET: a PID, --cgroup PATH, --tree PID, --name GLOB or --user "
            "USER"
        )

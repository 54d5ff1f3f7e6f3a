"""Every check of the selftest fails when the thing that it checks is broken."""

from __future__ import annotations

import contextlib
import errno
import os
import types
from collections.abc import Callable
from typing import Any

import pytest
from helpers.targets import MIB

import pmadvise
from pmadvise import (
    Advice,
    Process,
    Ranges,
    Report,
    _support,
    selftest,
)
from pmadvise._native import mm as native_mm
from pmadvise._support import kernel
from pmadvise.maps import AddressSpace
from pmadvise.selftest.checks import host
from pmadvise.selftest.child import clean_up
from pmadvise.selftest.program import Program
from pmadvise.selftest.report import judge

Break = Callable[[pytest.MonkeyPatch], None]


def instead(asked: Advice, done: Advice) -> Break:
    """Give the kernel another advice."""

    def break_it(patch: pytest.MonkeyPatch) -> None:
        real: Callable[..., int] = native_mm.mm_advise

        def mm_advise(*arguments: Any) -> int:
            *before, advice, burst, tally = arguments
            advice = done if advice == asked else advice
            return real(*before, advice, burst, tally)

        patch.setattr(native_mm, "mm_advise", mm_advise)

    return break_it


def lie(patch: pytest.MonkeyPatch) -> None:
    """Let cold() do nothing and report that it did all."""

    def cold(self: Process, ranges: Any = (), **options: Any) -> Report:
        total = Ranges(ranges).total
        return Report(Advice.COLD, total, total, (), 1, 0.0, 0.0, "complete")

    patch.setattr(Process, "cold", cold)


def no_hold(patch: pytest.MonkeyPatch) -> None:
    """Let hold() hold nothing."""
    patch.setattr(
        Process,
        "hold",
        lambda self, method, timeout: contextlib.nullcontext(
            types.SimpleNamespace(method=method, broken=None)
        ),
    )


def setting(owner: Any, name: str, value: Any) -> Break:
    """Replace an attribute."""
    return lambda patch: patch.setattr(owner, name, value)


def refuse(self: Process, advice: int) -> None:
    """Refuse every advice."""
    raise PermissionError(errno.EACCES, "refused")


BREAKS: dict[str, list[Break]] = {
    "host": [
        setting(_support, "PAGE_SIZE", 12345),
        setting(pmadvise.Support, "to_dict", lambda self: {"kernel": self}),
    ],
    "syscall": [
        setting(host, "probe", lambda pidfd, advice: -errno.ENOSYS),
        setting(host, "probe", lambda pidfd, advice: -errno.EINVAL),
        setting(host, "pidfd_open", lambda pid: -errno.ENOSYS),
        setting(host, "pidfd_open", lambda pid: os.open("/", os.O_RDONLY)),
    ],
    "permission": [
        setting(Process, "check", refuse),
        setting(kernel, "advices", lambda *arguments: ({}, None)),
    ],
    "own": [setting(pmadvise, "process_madvise", lambda fd, ranges, advice: 4 * MIB)],
    "maps": [setting(AddressSpace, "changed", lambda self: Ranges())],
    "resident": [setting(Process, "resident", lambda self, within: within)],
    "cold": [
        instead(Advice.COLD, Advice.WILLNEED),
        instead(Advice.COLD, Advice.PAGEOUT),
    ],
    "pageout": [instead(Advice.PAGEOUT, Advice.COLD)],
    "pageout_file": [instead(Advice.PAGEOUT, Advice.COLD)],
    "willneed": [instead(Advice.WILLNEED, Advice.COLD)],
    "collapse": [instead(Advice.COLLAPSE, Advice.COLD)],
    "errors": [setting(pmadvise, "process_madvise_range", lambda *arguments: 0)],
    "partial": [
        lie,
        setting(pmadvise, "process_madvise", lambda *arguments: 3 * MIB),
    ],
    "hole": [lie],
    "locked": [lie],
    "ranges": [lie],
    "large": [lie],
    "stranger": [setting(Process, "check", lambda self, advice: None)],
    "exec": [lie],
    "exit": [lie],
    "hold_ptrace": [no_hold],
    "hold_freezer": [no_hold],
    "hold_sigstop": [no_hold],
}


def test_every_check_has_a_way_to_fail() -> None:
    """A new check needs an entry that breaks it."""
    assert list(BREAKS) == list(selftest.CHECKS)


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.needs_swap
@pytest.mark.parametrize(
    ("name", "break_it"),
    [(name, break_it) for name, ways in BREAKS.items() for break_it in ways],
    ids=[f"{name}{i}" for name, ways in BREAKS.items() for i in range(len(ways))],
)
def test_can_fail(monkeypatch: pytest.MonkeyPatch, name: str, break_it: Break) -> None:
    """With one thing broken the check fails, and without that it passes."""
    whole = selftest.run(name, 8 * MIB)
    assert whole.verdict == "ok", whole
    with monkeypatch.context() as patch:
        break_it(patch)
        result = selftest.run(name, 8 * MIB)
    clean_up()
    assert result.verdict == "FAIL", result


@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.parametrize("name", ["own", "cold", "pageout", "pageout_file", "collapse"])
def test_changed_memory_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A check fails if memory is not intact."""
    monkeypatch.setattr(Program, "do_intact", lambda self, address, size: False)
    result = selftest.run(name, 8 * MIB)
    assert (result.verdict, "memory has changed" in result.detail) == ("FAIL", True)


@pytest.mark.needs_root
def test_verdict_can_be_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that advises nothing is no success, whatever it reports."""
    monkeypatch.setattr(
        Process,
        "cold",
        lambda self, ranges: Report(Advice.COLD, 4096, 0, (), 0, 0.0, 0.0, "timeout"),
    )
    assert judge([]).ok is False

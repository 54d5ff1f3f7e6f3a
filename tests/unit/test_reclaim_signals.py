"""reclaim() and signals: they wait for a request, and what handlers raise leaves it."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.fake_cgroup import FakeCgroup

import pmadvise
from pmadvise import cgroup

MIB = 1 << 20


class StopHere(Exception):
    """Of a handler."""


def test_a_signal_in_a_request(
    fake: FakeCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its handler raises comes behind the request, which is in the account."""

    def interrupted(fd: int, data: bytes) -> int:
        os.kill(os.getpid(), signal.SIGUSR1)
        return fake.write(fd, data)

    def handler(*_: object) -> None:
        raise StopHere

    monkeypatch.setattr(cgroup.os, "write", interrupted)  # type: ignore[attr-defined]
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(StopHere) as caught:
            pmadvise.reclaim(fake.root, 50 * MIB)
    finally:
        signal.signal(signal.SIGUSR1, before)
    done = vars(caught.value)["reclaimed"]
    assert (done.calls, done.reclaimed) == (1, 100 * MIB - fake.current)


def test_signals_wait_for_a_request(
    fake: FakeCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One during a request would have os.write() ask for all of it again."""
    masks = []

    def watched(fd: int, data: bytes) -> int:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return fake.write(fd, data)

    monkeypatch.setattr(cgroup.os, "write", watched)  # type: ignore[attr-defined]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pmadvise.reclaim(fake.root, 8 * MIB)
    assert all({signal.SIGINT, signal.SIGALRM} <= mask for mask in masks)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_signal_right_before_a_request(
    fake: FakeCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handler raises in the call that blocks signals: none stays blocked."""
    block = signal.pthread_sigmask

    def interrupted(how: int, mask: Any) -> Any:
        before = block(how, mask)
        if how == signal.SIG_BLOCK and mask:
            raise StopHere
        return before

    before = block(signal.SIG_BLOCK, ())
    answered = SimpleNamespace(**{**vars(signal), "pthread_sigmask": interrupted})
    monkeypatch.setattr(cgroup, "signal", answered)
    try:
        with pytest.raises(StopHere) as caught:
            pmadvise.reclaim(fake.root, 8 * MIB)
        assert block(signal.SIG_BLOCK, ()) == before
    finally:
        block(signal.SIG_SETMASK, before)
    assert (vars(caught.value)["reclaimed"].calls, fake.requests) == (0, [])

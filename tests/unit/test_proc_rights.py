"""The rights of a thread, from texts of /proc that other hosts have."""

from __future__ import annotations

import os

import pytest

from pmadvise._proc import rights
from pmadvise._proc.rights import (
    Seccomp,
    capabilities,
    capability_names,
    initial_namespace,
)


def give_status(monkeypatch: pytest.MonkeyPatch, text: bytes | None) -> None:
    """Let the status of this thread, and no other file, have this text."""
    contents = {"/proc/thread-self/status": text}
    monkeypatch.setattr(rights, "read_or_none", contents.get)


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (b"", set()),
        (b"0000000000000000", set()),
        (b"0000000000000001", {"CAP_CHOWN"}),
        (b"0000000000880000", {"CAP_SYS_PTRACE", "CAP_SYS_NICE"}),
        (b"0000010000000000", {"CAP_CHECKPOINT_RESTORE"}),
        (b"0000020000000000", {"CAP_41"}),
    ],
)
def test_capability_names(mask: bytes, names: set[str]) -> None:
    """A mask has the capabilities of its bits; newer ones by number."""
    assert capability_names(mask) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"CapPrm:\t1\nCapEff:\t0000000000800000\nCapBnd:\t1\n", {"CAP_SYS_NICE"}),
        (b"Name:\ta\n", set()),
        (None, set()),
    ],
)
def test_capabilities(
    monkeypatch: pytest.MonkeyPatch, text: bytes | None, names: set[str]
) -> None:
    """The effective capabilities of the thread count; where unreadable, none."""
    give_status(monkeypatch, text)
    assert capabilities() == names


@pytest.mark.parametrize(
    ("text", "mode", "has_filter_count"),
    [
        (b"Seccomp:\t0\nSeccomp_filters:\t0\n", "disabled", True),
        (b"Seccomp:\t1\nSeccomp_filters:\t0\n", "strict", True),
        (b"Seccomp:\t2\nSeccomp_filters:\t1\n", "filter", True),
        (b"Seccomp:\t2\n", "filter", False),
        (b"Seccomp:\t7\n", None, False),
        (b"Name:\ta\n", "disabled", False),
        (None, None, False),
    ],
)
def test_seccomp(
    monkeypatch: pytest.MonkeyPatch,
    text: bytes | None,
    mode: str | None,
    has_filter_count: bool,
) -> None:
    """The mode is that of status, none without its line, unknown without status."""
    give_status(monkeypatch, text)
    found = Seccomp.of_this_thread()
    assert (found.mode, found.has_filter_count) == (mode, has_filter_count)


@pytest.mark.parametrize(
    ("mode", "has_filter_count", "may"),
    [("filter", True, True), ("filter", False, False), ("disabled", True, False)],
)
def test_may_fake_enosys(mode: str, has_filter_count: bool, may: bool) -> None:
    """A filter may hide the call where the kernel is new enough to have it."""
    assert Seccomp(mode, has_filter_count).may_fake_enosys() is may


@pytest.mark.parametrize(
    ("kind", "inode", "is_initial"),
    [
        ("user", 0xEFFFFFFD, True),
        ("user", 0xEFFFFFFC, False),
        ("pid", 0xEFFFFFFC, True),
    ],
)
def test_initial_namespace(
    monkeypatch: pytest.MonkeyPatch, kind: str, inode: int, is_initial: bool
) -> None:
    """The initial namespace of a kind has an inode number of its own."""
    result = os.stat_result((0, inode, *[0] * 8))
    monkeypatch.setattr(os, "stat", {f"/proc/self/ns/{kind}": result}.__getitem__)
    assert initial_namespace(kind) is is_initial


@pytest.mark.parametrize(("there", "answer"), [({"/proc/self/ns"}, True), ((), None)])
def test_no_namespaces(
    monkeypatch: pytest.MonkeyPatch, there: set[str], answer: bool | None
) -> None:
    """A kernel without namespaces of a kind has one; without /proc it is unknown."""
    monkeypatch.setattr(rights, "exists", lambda path: path in there)
    assert initial_namespace("unheard-of") is answer


def test_a_hidden_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the namespace can't be looked at, it is unknown."""
    monkeypatch.setattr(os, "stat", os.listdir)  # raises: it is no directory
    assert initial_namespace("user") is None

"""Facts for support() from files of /proc and /sys, as other hosts have them."""

from __future__ import annotations

import os

import pytest
from helpers.fake_files import give_files
from helpers.names import names
from hypothesis import example, given
from hypothesis import strategies as st

from pmadvise import Advice, support
from pmadvise._support import host, kernel


@pytest.mark.parametrize(
    ("environment", "contents", "name"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {}, "kubernetes"),
        ({"container": "podman"}, {}, "podman"),
        ({}, {"/run/systemd/container": b"systemd-nspawn\n"}, "systemd-nspawn"),
        ({}, {"/proc/self/cgroup": b"0::/kubepods.slice/cri-1\n"}, "kubernetes"),
        ({}, {"/proc/self/cgroup": b"0::/a\rkubepods\n"}, "kubernetes"),
        ({}, {"/proc/self/cgroup": b"0::/\n"}, ""),
    ],
)
def test_container(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    contents: dict[str, bytes],
    name: str,
) -> None:
    """The container's manager is known by what it leaves there."""
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(host, "exists", lambda path: False)
    give_files(monkeypatch, contents)
    assert host.container() == name


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        ({"a/b": b"max\n", "a": b"8192\n", ".": b"16384\n"}, 4096),
        ({"a/b": b"max\n", "a": b"max\n", ".": b"max\n"}, None),
        ({}, None),
    ],
)
def test_swap_limit(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, bytes], allowed: int | None
) -> None:
    """The tightest memory.swap.max above this cgroup counts, less what is used."""
    contents = {
        "/proc/self/cgroup": b"0::/a/b\n",
        "/proc/self/mountinfo": b"30 1 0:1 / /cg\\040x rw - cgroup2 cgroup2 rw\n",
        "/cg x/a/memory.swap.current": b"4096\n",
    }
    for where, limit in limits.items():
        contents[os.path.normpath(f"/cg x/{where}/memory.swap.max")] = limit
    give_files(monkeypatch, contents)
    assert host.swap_allowed() == allowed


@pytest.mark.parametrize(
    ("mount", "membership", "limit", "stat"),
    [
        (
            b"30 1 0:1 / /cg rw - cgroup2 cgroup2 rw\n",
            b"0::/a\n",
            "memory.max",
            b"file 9\nanon 1000\nshmem 24\n",
        ),
        (
            b"30 1 0:1 / /cg rw - cgroup cgroup rw,memory\n",
            b"4:memory:/a\n0::/\n",
            "memory.limit_in_bytes",
            b"rss 7\ntotal_rss 1000\ntotal_shmem 24\n",
        ),
    ],
    ids=["v2", "v1"],
)
def test_memory_limit(
    monkeypatch: pytest.MonkeyPatch,
    mount: bytes,
    membership: bytes,
    limit: str,
    stat: bytes,
) -> None:
    """The limit of this cgroup is found, and what is left of it beside page cache."""
    contents = {
        "/proc/self/cgroup": membership,
        "/proc/self/mountinfo": mount,
        f"/cg/a/{limit}": b"5120\n",
        "/cg/a/memory.stat": stat,
    }
    give_files(monkeypatch, contents)
    assert host.memory_limit() == (5120, 4096)


def test_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc can't be read its facts are None, and nothing is raised."""
    give_files(monkeypatch, {})
    found = support()
    assert (found.seccomp, found.ptrace_scope, found.huge_page_size) == (None,) * 3
    assert (found.swap_total, found.freezers, bool(found.priority)) == (None, (), True)
    assert (found.swap.ok, found.swap.refused_by) == (False, "proc")


def as_in_mountinfo(name: bytes) -> bytes:
    """Escape a name as show_mountinfo() of fs/proc_namespace.c does."""
    return b"".join(
        b"\\%03o" % octet if octet in b" \t\n\\#" else bytes([octet]) for octet in name
    )


slashes = st.text("/.a", max_size=4).map(str.encode)


@given(others=st.lists(names), own=names)
def test_limits_among_mounts_and_cgroups_of_any_name(
    others: list[bytes], own: bytes
) -> None:
    """Mount points and cgroups of any name change no limit."""
    own = own.replace(b"\n", b"n").replace(b"/", b"s")  # as no cgroup can be named
    lines = [
        b"9 1 0:9 / /a" + as_in_mountinfo(name) + b" rw - tmpfs tmpfs rw\n"
        for name in others
    ]
    lines.insert(len(lines) // 2, b"30 1 0:1 / /cg rw - cgroup2 cgroup2 rw\n")
    directory = os.fsdecode(b"/cg/a" + own)
    contents = {
        "/proc/self/cgroup": b"0::/a" + own + b"\n",
        "/proc/self/mountinfo": b"".join(lines),
        f"{directory}/memory.max": b"8192\n",
        f"{directory}/memory.swap.max": b"4096\n",
    }
    with pytest.MonkeyPatch.context() as patch:
        give_files(patch, contents)
        assert (host.memory_limit(), host.swap_allowed()) == ((8192, 8192), 4096)


@example(mount=b"", root=b"", own=b"//a")  # "///a": the parent of "///" is "///"
@given(mount=names | slashes, root=names | slashes, own=names | slashes)
def test_places_of_any_name_are_walked_to_an_end(
    mount: bytes, root: bytes, own: bytes
) -> None:
    """The way up from a cgroup ends, wherever its hierarchy is mounted."""
    place = b"/" + as_in_mountinfo(root) + b" /" + as_in_mountinfo(mount)
    contents = {
        "/proc/self/cgroup": b"0::/" + own.replace(b"\n", b"n") + b"\n",
        "/proc/self/mountinfo": b"30 1 0:1 " + place + b" rw - cgroup2 cgroup2 rw\n",
    }
    with pytest.MonkeyPatch.context() as patch:
        give_files(patch, contents)
        assert (host.memory_limit(), host.swap_allowed()) == (None, None)
        assert set(host.freezers()) <= {"cgroup2"}


def test_no_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without huge pages COLLAPSE makes none, whatever the kernel says to the call."""
    monkeypatch.setattr(kernel, "huge_page_size", lambda: None)
    answer = support().advice[Advice.COLLAPSE]
    assert (answer.ok, answer.reason) == (
        False,
        "there are no transparent huge pages on this machine",
    )

"""Lines of /proc/self/mountinfo with names that their owners chose."""

from __future__ import annotations

import string

import pytest
from helpers.fake_files import give_files
from helpers.names import names, octal
from hypothesis import given
from hypothesis import strategies as st

from pmadvise._proc import mounts
from pmadvise._proc.files import unescape
from pmadvise._proc.mounts import Mount


@given(names, names)
def test_mounts(root: bytes, point: bytes) -> None:
    """Whatever a mount point is called, each line of mountinfo is one mount."""
    root, point = b"/" + root, b"/" + point
    escaped = b" \t\n\\"
    line = b"30 23 0:26 %s %s rw,nosuid shared:4 - cgroup2 cgroup2 rw,memory\n" % (
        octal(root, escaped),
        octal(point, escaped),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mounts, "read", lambda path: line * 2)
        found = mounts.mounts()
    assert found == [Mount(root, point, b"cgroup2", [b"rw", b"memory"], 26)] * 2


@given(st.binary())
def test_unescape(octets: bytes) -> None:
    """Octal escapes of any bytes are undone."""
    every = bytes(range(256)).translate(None, string.ascii_letters.encode())
    assert unescape(octal(octets, every)) == octets


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            b"1 2 0:3 / /p - cgroup2 none rw",
            [Mount(b"/", b"/p", b"cgroup2", [b"rw"], 3)],
        ),
        (
            b"1 2 x:3 / /p - cgroup2 none rw",
            [Mount(b"/", b"/p", b"cgroup2", [b"rw"], 0)],
        ),
        (b"1 2 0:3 / - cgroup2 none rw", []),
        (b"1 2 0:3 / /p - cgroup2 none", []),
        (b"1 2 0:3 / /p cgroup2 none rw", []),
        (b"x", []),
    ],
)
def test_mounts_of_another_form(
    monkeypatch: pytest.MonkeyPatch, line: bytes, found: list[Mount]
) -> None:
    """A line that lacks fields is no mount; optional fields may be missing."""
    monkeypatch.setattr(mounts, "read", lambda path: line + b"\n")
    assert mounts.mounts() == found


def test_options_of_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel escapes ends an option, and nothing else."""
    line = b"1 2 0:3 / /p - overlay none rw,lowerdir=/a\rb\x0bc\n"
    monkeypatch.setattr(mounts, "read", lambda path: line)
    assert mounts.mounts()[0].options == [b"rw", b"lowerdir=/a\rb\x0bc"]


def test_no_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc no mount is known, which is no error."""
    give_files(monkeypatch, {})
    assert mounts.mounts() == []

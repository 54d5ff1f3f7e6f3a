"""Text of /proc with names that their owners chose; needs no kernel feature."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from helpers.names import SEPARATORS, names, octal
from hypothesis import given
from hypothesis import strategies as st

from pmadvise._handle.smaps import RESIDENT_FIELDS, SWAP_FIELDS, parse_populated
from pmadvise._proc import files
from pmadvise._proc.cgroups import Membership, parse_memberships
from pmadvise._proc.files import (
    Stat,
    fields,
    lines,
    parse_kb_fields,
)

STAT_FIELDS = {1: "{pid}", 2: "({name})", 3: "S", 4: "55", 9: "4194304", 12: "7"} | {
    14: "11",
    15: "12",
    19: "-5",
    20: "3",
    22: "99",
    41: "3",
}
STAT = " ".join(STAT_FIELDS.get(number, "0") for number in range(1, 53)) + "\n"


@given(st.lists(names))
def test_lines(values: list[bytes]) -> None:
    """Text is cut at the newline and nowhere else."""
    escaped = [octal(name, b"\n") for name in values]
    assert lines(b"".join(name + b"\n" for name in escaped)) == escaped


@pytest.mark.parametrize("separator", SEPARATORS, ids=repr)
def test_no_other_separator_cuts(separator: bytes) -> None:
    """Each character at which str or bytes.splitlines() cuts is a part of a line."""
    assert lines(b"a" + separator + b"b: 1 kB\n") == [b"a" + separator + b"b: 1 kB"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, []),
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
    ],
)
def test_ends_of_lines(text: bytes | None, expected: list[bytes]) -> None:
    """A text has the lines between its newlines; the last may lack one."""
    assert lines(text) == expected


@given(names)
def test_a_name_adds_no_field(name: bytes) -> None:
    """Whatever a process is called, the fields of its status are the kernel's."""
    text = b"Name:\t" + octal(name, b"\n\\") + b"\nUmask:\t0022\nVmRSS:\t  8 kB\n"
    assert set(fields(text)) == {"Name", "Umask", "VmRSS"}
    assert parse_kb_fields(text).get("VmRSS") == 8192


@pytest.mark.parametrize(
    "value", [b"a kB", b"9 KB", b"9", b"-9 kB", b"9 kB x", b"x9 kB"]
)
def test_no_size(value: bytes) -> None:
    """A value that is not a number of kB is not a size."""
    assert parse_kb_fields(b"VmRSS:\t" + value + b"\n") == {}


def test_the_first_of_equal_fields() -> None:
    """Of two fields with one name the first counts."""
    assert fields(b"Pid: 1\nPid: 2\n") == {"Pid": b"1"}


@given(names | st.sampled_from([b") S 1 2 3", b"(", b"))", b") Z"]))
def test_stat(name: bytes) -> None:
    """Whatever a process is called, the fields of its stat are the kernel's."""
    before, after = STAT.format(pid=77, name="\0").encode().split(b"\0")
    stat = Stat(before + name + after)
    assert {field: getattr(stat, field) for field in Stat.__slots__} == {
        "pid": 77,
        "state": "S",
        "parent": 55,
        "flags": 4194304,
        "major_faults": 7,
        "user_ticks": 11,
        "system_ticks": 12,
        "threads": 3,
        "start_ticks": 99,
        "nice": -5,
        "policy": 3,
    }


@given(names, names)
def test_memberships(v1: bytes, v2: bytes) -> None:
    """Whatever a cgroup is called, each line of /proc/PID/cgroup is one cgroup."""
    one, two = (b"/" + octal(name, b"\n\\") for name in (v1, v2))
    text = b"7:cpu,freezer:%s\n0::%s\n" % (one, two)
    assert parse_memberships(text) == [
        Membership(2, (), two),
        Membership(1, (b"cpu", b"freezer"), one),
    ]


@given(names, st.sampled_from([b"Rss", b"Private_Hugetlb", b"Shared_Hugetlb"]))
def test_smaps(name: bytes, field: bytes) -> None:
    """Whatever a file is called, smaps is parsed as the kernel wrote it."""
    path = octal(name, b"\n")
    text = b"".join(
        b"%x-%x rw-p 0 08:01 7   /%s\n%s: %d kB\nSwap: %d kB\nVmFlags: rd lo\n"
        % (start, start + 4096, path, field, in_memory, in_swap)
        for start, in_memory, in_swap in ((4096, 4, 0), (8192, 0, 4), (12288, 0, 0))
    )
    assert parse_populated(text, RESIDENT_FIELDS) == [(4096, 4096)]
    assert parse_populated(text, SWAP_FIELDS) == [(8192, 4096)]


@pytest.mark.parametrize("text", [b"7", b"7\n", b"  7 \n"])
def test_read_int(tmp_path: Path, text: bytes) -> None:
    """The number that a file holds is read without the blanks around it."""
    (tmp_path / "file").write_bytes(text)
    assert files.read_int(str(tmp_path / "file")) == 7


@pytest.mark.parametrize("text", [b"", b"max\n", b"-1\n", b"1 2\n", b"\xff"])
def test_no_int(tmp_path: Path, text: bytes) -> None:
    """A file that holds something else has no number."""
    (tmp_path / "file").write_bytes(text)
    assert files.read_int(str(tmp_path / "file")) is None


def test_lines_of_another_form() -> None:
    """A line without a colon is no field."""
    assert files.fields(b"none\nA:\t1\nB 2\nC: 3") == {"A": b"1", "C": b"3"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"A: x\r\n", {"A": b"x\r"}),
        (b"A:\t X \t\n", {"A": b"X"}),
        (b"\xff: 1\nB: 2\n", {"\ufffd": b"1", "B": b"2"}),
    ],
)
def test_other_bytes_of_fields(text: bytes, expected: dict[str, bytes]) -> None:
    """Blanks and tabs alone surround a value, and no byte in a name is an error."""
    assert files.fields(text) == expected


def test_an_unknown_state() -> None:
    """A state that no kernel has is not an error."""
    text = STAT.format(pid=7, name="a").encode().replace(b" S ", b" \xff ")
    assert Stat(text).state == "\ufffd"


def test_a_wait_longer_than_poll_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait goes on where poll(2) takes less than the whole of it at a time."""
    monkeypatch.setattr(files, "_POLL_MAX", 1)
    reader, writer = os.pipe()
    begin = time.monotonic()
    assert files.wait_readable(reader, 0.01) is False
    assert time.monotonic() - begin >= 0.01
    os.write(writer, b"x")
    assert files.wait_readable(reader, 60) is True
    os.close(reader)
    os.close(writer)


def test_waiting_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a library has removed poll(2) from `select`, its select() waits."""
    monkeypatch.delattr("select.poll")
    reader, writer = os.pipe()
    assert files.wait_readable(reader, 0.01) is False
    timer = threading.Timer(0.01, os.write, (writer, b"x"))
    timer.start()
    assert files.wait_readable(reader, 60) is True
    timer.join()
    os.close(reader)
    os.close(writer)

"""Names that a target chooses never reach the terminal as they are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from helpers.command import run, terminal
from helpers.names import names
from helpers.targets import MIB, Target
from hypothesis import given
from hypothesis.strategies import text

from pmadvise._streams import Stream, printable

HOSTILE = [
    b"\x1b[2J\x1b[31m",
    b"\x1b]0;title\x07",
    b"a\rb\nc\td",
    "\u202egnp.exe".encode(),
    "\x9b31m".encode(),
    "\u2028\u200b\ufeff".encode(),
    b"\xff\xfe\x9b2J",
    b"[bold red]x[b]",
    b":smile:",
]


def is_harmless(text: str) -> bool:
    """Return whether a text without any escape sequence may go to a terminal."""
    return all(line.isprintable() for line in text.split("\n"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, bytes]]:
    """Processes, each with a name, a file and memory of that name, by their IDs."""
    directory = os.fsencode(tmp_path_factory.mktemp("files"))
    with contextlib.ExitStack() as stack:
        processes = {}
        for name in HOSTILE:
            target = Target()
            stack.callback(target.close)
            path = directory + b"/" + name.replace(b"/", b"|")
            with open(path, "wb") as file:
                file.write(bytes(MIB))
            target.mapped_file(path, MIB, ", prot=READ|WRITE")
            target.run(f"filled({MIB}, fd=os.open({path!r}, 2), flags=SHARED)")
            target.run(f"prctl(PR_SET_NAME, {name[:15]!r})")
            processes[target.pid] = name
        yield processes


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "arguments",
    [("top",), ("show",), ("show", "--all"), ("cold", "--path", "*")],
    ids=" ".join,
)
def test_text_is_harmless(
    hostile: dict[int, bytes], arguments: tuple[str, ...]
) -> None:
    """Through a pipe there is no control character but the newline, and no bidi."""
    done = run(*arguments, *hostile)
    texts = [line for line in (done.out + done.err).split("\n") if line]
    assert [line for line in texts if not line.isprintable()] == []
    assert [pid for pid in hostile if str(pid) not in done.out] == []


@pytest.mark.needs_root
def test_terminal_is_not_commanded(hostile: dict[int, bytes]) -> None:
    """On a terminal without colours nothing of a name is a control character."""
    with terminal("cold", *hostile, variables={"NO_COLOR": "1"}) as running:
        assert running.finish() == 0
    commands = [
        name
        for name in hostile.values()
        if any(octet < 0x20 or octet >= 0x7F for octet in name)
    ]
    assert len(commands) > 5
    assert [name for name in commands if name in running.output] == []
    assert b"\x1b[2J" not in running.output
    assert b"\x1b]" not in running.output


@pytest.mark.needs_root
def test_json_has_the_very_name(hostile: dict[int, bytes]) -> None:
    """JSON has the name itself, in ASCII, each other byte by an escape."""
    done = run("show", *hostile, "--json")
    assert {shown["pid"]: os.fsencode(shown["name"]) for shown in done.objects} == {
        pid: name[:15] for pid, name in hostile.items()
    }
    assert (done.out.isascii(), is_harmless(done.out)) == (True, True)
    paths = {
        shown["pid"]: {os.fsencode(vma["path"]) for vma in shown["mappings"]}
        for shown in done.objects
    }
    assert [
        name
        for pid, name in hostile.items()
        if not any(path.endswith(name) for path in paths[pid])
    ] == []


@given(names)
def test_printable(name: bytes) -> None:
    """Whatever a name is, what is shown of it is printable, in ASCII if that is all."""
    text = os.fsdecode(name)
    assert printable(text).isprintable()
    assert printable(text, ascii_only=True).isascii()


@given(names, names)
def test_names_stay_different(one: bytes, other: bytes) -> None:
    """Two names are never shown as the same."""
    same = printable(os.fsdecode(one)) == printable(os.fsdecode(other))
    assert same == (os.fsdecode(one) == os.fsdecode(other))


@pytest.mark.parametrize("verb", ["show", "cold", "reclaim 1M"])
def test_a_traceback_is_harmless(verb: str) -> None:
    """With --debug too the name of a cgroup, or a message, is escaped, on one line."""
    name = "/x\x1b[2J\npmadvise: all is well\u202e"
    done = run(*verb.split(), "--cgroup", name, "--debug")
    assert "Traceback" in done.err
    assert is_harmless(done.err)
    assert [line for line in done.errors if line.startswith("pmadvise: all")] == []


@given(text())
def test_a_stream_is_harmless(written: str) -> None:
    """Whatever is written to a Stream, only the newline is a control character."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file:
        stream = Stream(writer, "utf-8", is_buffered=True)
        stream.write(written)
        stream.flush()
        os.close(writer)
        assert is_harmless(file.read().decode())


def test_a_usage_error_is_one_line() -> None:
    """What the user typed is shown without control characters as well."""
    done = run("show", "\x1b[2J\n")
    assert (done.status, len(done.errors), is_harmless(done.err)) == (2, 1, True)


def test_a_plain_name() -> None:
    """A name that needs no escape is shown as it is."""
    assert printable("/usr/lib/größe [heap]") == "/usr/lib/größe [heap]"
    assert printable("größe", ascii_only=True) == r"gr\xf6\xdfe"

"""Targets by --name and --user: which processes these find, and which never."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from helpers import proc
from helpers.children import value_of_child
from helpers.command import ending_before_its_turn, run, run_here
from helpers.namespaces import mount_proc
from helpers.privileges import NOBODY, become_nobody
from helpers.targets import MIB, Target

from pmadvise.command import options
from pmadvise.command.targets import Targets

OWN = f"pm{os.getpid():x}"
"""What the names of this run begin with: those of others are none of it."""

root = pytest.mark.needs_root


def named(target: Target, name: str) -> None:
    """Give a target its name."""
    target.run(f"prctl(PR_SET_NAME, {os.fsencode(name)!r})")


@pytest.fixture
def pair() -> Iterator[dict[str, int]]:
    """A process of root and one of nobody, by the last letter of their names."""
    with contextlib.ExitStack() as stack:
        processes = {}
        for letter in "ab":
            target = Target()
            stack.callback(target.close)
            named(target, OWN + letter)
            processes[letter] = target.pid
        target.run(f"os.setresuid({NOBODY}, {NOBODY}, {NOBODY})")
        yield processes


@root
@pytest.mark.parametrize(
    ("arguments", "letters"),
    [
        ("--name {}a", "a"),
        ("--name {}*", "ab"),
        ("--name {}?", "ab"),
        ("--name {}[!a]", "b"),
        ("--name {}a --name {}b", "ab"),
        ("--name {}* --user nobody", "b"),
        ("--name {}* --user 0", "a"),
        ("--name {}* --user 65534 --user root", "ab"),
        ("--name {}a --name {}b --user nobody", "b"),
        ("{a} --name {}*", "a"),
        ("{a} {b} --user nobody --name {}*", "b"),
        ("{a} --tree {b} --name {}*", "ab"),
        ("{a} --tree {b} --name {}b", "b"),
    ],
    ids=str,
)
def test_found(pair: dict[str, int], arguments: str, letters: str) -> None:
    """A name and a user narrow what is given, or the host; repeated they add up."""
    done = run_here("show", "--json", *arguments.format(OWN, OWN, **pair).split())
    assert (done.status, done.err) == (0, "")
    assert {found["pid"] for found in done.objects} == {pair[n] for n in letters}


@root
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("--name {}", "--name {}"),
        ("--name {}A", "--name {}A"),
        ("--name {}x?", "--name '{}x?'"),
        ("--user nobody --name {}a", "--name {}a --user nobody"),
        ("--user 4294967294", "--user 4294967294"),
        ("{b} --name {}a", "--name {}a"),
        ("--tree {b} --name {}a", "--name {}a"),
    ],
)
def test_nothing_matches(pair: dict[str, int], arguments: str, shown: str) -> None:
    """That no process matches is one line, which has the options, and status 1."""
    done = run_here("cold", *arguments.format(OWN, **pair).split())
    assert done == (1, "", f"pmadvise: {shown.format(OWN)}: no process matches\n")


@root
@pytest.mark.parametrize(
    ("name", "glob"),
    [
        ("\x1b[2J\x1b[31m", "\x1b?2J*"),
        ("a\rb\nc\td", "a\rb\nc*"),
        ("\udcff\udcfe{}", "\udcff?{}"),
        ("größe {}", "gr??e {}"),
    ],
    ids=ascii,
)
def test_the_very_name(target: Target, name: str, glob: str) -> None:
    """A pattern is matched with the name itself, not with what is shown of it."""
    named(target, name.format(OWN))
    done = run("cold", "--name", glob.format(OWN))
    assert (done.status, done.err) == (0, "")
    assert str(target.pid) in done.out.split()
    assert [line for line in done.out.split("\n") if not line.isprintable()] == []


@root
def test_a_glob_that_commands_a_terminal() -> None:
    """Of a pattern without a process no control character is printed."""
    done = run("cold", "--name", "\x1b[2J\n")
    assert (done.status, len(done.errors)) == (1, 1)
    assert done.errors[0].isprintable()


@root
def test_no_kernel_thread() -> None:
    """A kernel thread is never found by its name, which there may be."""
    name = Path(f"/proc/{proc.kthreadd()}/comm").read_text(encoding="utf-8").strip()
    done = run("cold", "--name", name)
    assert done == (1, "", f"pmadvise: --name {name}: no process matches\n")


def test_not_itself() -> None:
    """The command never finds itself."""
    own = Path("/proc/self/comm").read_text(encoding="utf-8").rstrip("\n")
    user = options.User(os.geteuid(), "me")
    by_name, by_user = Targets((), (), (), [own]), Targets((), (), (), (), [user])
    pids = [target.pid for found in (by_name, by_user) for target in found]
    assert os.getpid() not in pids


@root
def test_one_that_ends_meanwhile(
    monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    """A process that was found by its name may end before its turn."""
    named(target, OWN)
    child = target.run("fork()")
    ending_before_its_turn(monkeypatch, child)
    status, out, err = run_here("cold", "--json", "--name", OWN)
    assert (status, err, out.count("\n")) == (0, "", 2)


@root
@pytest.mark.needs_mounts
@pytest.mark.parametrize("hidepid", [1, 2])
def test_hidden_processes(target: Target, hidepid: int) -> None:
    """Where /proc hides processes, that none matches is not told: they may."""
    named(target, OWN)
    arguments = ("cold", "--name", OWN)
    assert run_here(*arguments)[0] == 0  # loads what nobody may not be able to read

    def as_nobody() -> tuple[int, str, str]:
        mount_proc(f"hidepid={hidepid}")
        become_nobody()
        return run_here(*arguments)

    status, out, err = value_of_child(as_nobody)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "are left out" in err
    assert "hidepid" in err


@root
def test_as_an_ordinary_user(target: Target) -> None:
    """Without any right processes are found; that they may not be advised is told."""
    named(target, OWN)
    target.filled(MIB)
    arguments = ("cold", "--name", OWN, "--user", "root")
    assert run_here(*arguments)[0] == 0

    def as_nobody() -> tuple[int, str, str]:
        become_nobody()
        return run_here(*arguments)

    status, _, err = value_of_child(as_nobody)
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith(f"pmadvise: {target.pid} {OWN}: ")


@pytest.mark.parametrize(
    "text", ["no-such-user", "two words", "", "-1", "4294967295", "0x0", "\x1b[2J"]
)
def test_unknown_user(text: str) -> None:
    """A user that there is not is wrong usage, and named."""
    done = run("cold", "--user", text)
    assert (done.status, done.out, len(done.errors)) == (2, "", 1)
    assert f"there is no user {text!r}" in done.err.replace("\\\\", "\\")


def test_user_with_a_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of a directory service may have any name."""
    known = pwd.struct_passwd(("EXAMPLE a user", "x", 54321, 1, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", {known.pw_name: known}.__getitem__)
    assert options.user(known.pw_name) == (54321, known.pw_name)
    assert options.user("54321") == (54321, "54321")


LONG = [
    ("a" * 16, "a" * 15),
    ("ö" * 8, "ö" * 7 + "\udcc3"),
    ("gnome-system-monitor", "gnome-system-mo"),
]


@pytest.mark.parametrize(("text", "kept"), LONG)
def test_a_name_that_is_too_long(text: str, kept: str) -> None:
    """A name that the kernel cuts is refused, with the part that it keeps."""
    with pytest.raises(click.BadParameter, match="matches no name") as refused:
        options.name_glob(text)
    assert refused.value.message.endswith(f": give {kept!r}")


@pytest.mark.parametrize("text", ["?" * 16, "a*" + "b" * 15, "[ab]" + "c" * 15])
def test_a_glob_that_is_too_long(text: str) -> None:
    """A pattern that no name of 15 bytes can match is refused."""
    with pytest.raises(click.BadParameter, match="matches no name"):
        options.name_glob(text)


@pytest.mark.parametrize(
    "text", ["a" * 15, "?" * 15, "*" * 99, "*" + "a" * 15 + "*", "[abcdefghijklmnop]"]
)
def test_a_glob_that_may_match(text: str) -> None:
    """A pattern is taken as it is."""
    assert options.name_glob(text) == text


@pytest.mark.parametrize("verb", ["show", "cold", "pageout", "willneed", "collapse"])
def test_the_rule_is_in_the_help(verb: str) -> None:
    """The help of each verb tells how targets are put together."""
    help_text = " ".join(run(verb, "--help").out.split())
    assert "--name GLOB and --user USER narrow these" in help_text


def test_all_kinds_are_named() -> None:
    """Without any target the usage error has every kind."""
    done = run("pageout")
    kinds = ["PID", "--cgroup", "--tree", "--name", "--user"]
    assert [kind for kind in kinds if kind not in done.err] == []

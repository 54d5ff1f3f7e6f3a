"""The selftest, as an operator runs it, on hosts that have what it needs or not."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.hold_targets import until
from helpers.targets import MIB, become_nobody, in_child, refuse_syscall

import pmadvise
from pmadvise import (
    Advice,
    Process,
    Ranges,
    Report,
    _host,
    _selftest_child,
    _support,
    _sys,
    selftest,
)
from pmadvise._selftest_child import Child
from pmadvise.maps import AddressSpace

ROOT = Path(__file__).parents[1]
PROCESS_MADVISE, PIDFD_OPEN = 440, 434
root = pytest.mark.needs_root
NEEDS_SWAP = {"pageout", "willneed"}
WITHOUT_RIGHTS = {"host", "syscall", "maps", "resident", "hold_ptrace", "hold_sigstop"}
"""Checks that any user makes, on any kernel."""


def run(
    *arguments: str, program: tuple[str, ...] = (), **popen: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, sys.executable, "-m", "pmadvise.selftest", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **popen,
    )


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """Return name: (verdict, detail) of each line, the counts of the last checked."""
    *lines, last = done.stdout.splitlines()
    found = {}
    for line in lines:
        match = re.fullmatch(r"(ok|skip|FAIL) (\S+) - (.+)", line)
        assert match, line
        found[match[2]] = match[1], match[3]
    counts = [
        sum(v == word for v, _ in found.values()) for word in ("ok", "FAIL", "skip")
    ]
    assert last == "{} passed, {} failed, {} skipped".format(*counts)
    return found


def skipped(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {name: why for name, (v, why) in verdicts(done).items() if v == "skip"}


def failed(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {name: why for name, (v, why) in verdicts(done).items() if v == "FAIL"}


def in_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run main() in this process, which is a child that gave up rights."""
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = selftest.main(list(arguments))
    return subprocess.CompletedProcess([], status, out.getvalue(), "")


def restricted(
    give_up: Callable[[], object], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the selftest after giving up rights."""

    def main() -> tuple[int, str]:
        give_up()
        done = in_process("--size", "4", *arguments)
        return done.returncode, done.stdout

    outcome = in_child(main)
    assert outcome.error is None, outcome.text
    status, text = outcome.value
    return subprocess.CompletedProcess([], status, text, "")


# What it prints, and how it ends


def test_lines() -> None:
    """A line a check, then the counts, and exit status 0 where none failed."""
    done = run("--size", "4")
    assert list(verdicts(done)) == list(selftest.CHECKS)
    assert (done.returncode, done.stderr, failed(done)) == (0, "", {})


@root
@pytest.mark.needs_swap
@pytest.mark.needs_cgroup2
def test_nothing_is_skipped_where_everything_is_there() -> None:
    """As root with swap and cgroups every check is made, and --require all holds."""
    done = run("--require", "all")
    assert (done.returncode, skipped(done), failed(done)) == (0, {}, {})


def test_list_and_only() -> None:
    """--list prints names, and --only takes them, repeated or with commas."""
    names = run("--list").stdout.splitlines()
    assert names == list(selftest.CHECKS)
    done = run("--only", "resident,host", "--only", "maps")
    assert list(verdicts(done)) == ["host", "maps", "resident"]


def test_help_says_what_each_check_is() -> None:
    """--help has a line for each check."""
    text = run("--help").stdout
    assert [
        n for n in selftest.CHECKS if not re.search(rf"^  {n} +[A-Z].*\.$", text, re.M)
    ] == []


def test_json_is_one_document() -> None:
    """--json prints the host's facts and the results, and nothing else."""
    done = run("--json", "--only", "host,maps")
    document = json.loads(done.stdout)
    assert document["support"]["kernel"] == os.uname().release
    assert [r["name"] for r in document["results"]] == ["host", "maps"]
    assert document["summary"] == "2 passed, 0 failed, 0 skipped"
    assert (document["passed"], document["interrupted"], done.returncode) == (
        2,
        None,
        0,
    )


@pytest.mark.parametrize(
    "arguments",
    [("--size", "0"), ("--size", "x"), ("--no",), ("x",), ("--only", "no_such")],
)
def test_misuse(arguments: tuple[str, ...]) -> None:
    """Wrong options are exit status 2, and name the value."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[-1] in done.stderr


@pytest.mark.parametrize(
    "options", [("--require", "maps"), ("--strict",), ("--require", "all")]
)
def test_required(monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    """A required check that is skipped is a failure, which says why."""

    def check_maps(size: int) -> str:
        raise _selftest_child.Skip("no maps here: draw some")

    monkeypatch.setitem(selftest.CHECKS, "maps", check_maps)
    assert failed(in_process("--only", "maps,host")) == {}
    done = in_process("--only", "maps,host", *options)
    assert failed(done) == {"maps": "required, and skipped: no maps here: draw some"}
    assert done.returncode == 1


def test_required_is_made_too() -> None:
    """--require adds its check to those of --only."""
    done = run("--only", "host", "--require", "maps")
    assert (list(verdicts(done)), done.returncode) == (["host", "maps"], 0)


@pytest.mark.parametrize("ci", ["", "true"])
def test_progress_on_a_terminal(ci: str) -> None:
    """What takes long is named on stderr, if that is a terminal, and wiped out.

    Not in CI, where terminals are logs.
    """
    terminal, end = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "pmadvise.selftest", "--only", "host"],
        stdout=subprocess.DEVNULL,
        stderr=end,
        check=True,
        env={**os.environ, "CI": ci},
    )
    os.write(end, b"end")
    text = b""
    while not text.endswith(b"end"):
        text += os.read(terminal, 4096)
    for fd in (end, terminal):
        os.close(fd)
    wiped = b"\r\x1b[K"
    shown = b"" if ci else wiped + b"1/1 host ..." + wiped * 2
    assert text == shown + b"end"


# Hosts that lack something


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (
            errno.EPERM,
            "a seccomp filter refuses process_madvise: add CAP_SYS_PTRACE",
        ),
        (
            errno.ENOSYS,
            "a seccomp filter hides process_madvise, which the kernel is new enough to "
            "have: add CAP_SYS_PTRACE",
        ),
    ],
)
def test_seccomp_filter(number: int, words: str) -> None:
    """Under a filter all that needs the call says so, and how to be let through."""
    done = restricted(lambda: refuse_syscall(PROCESS_MADVISE, number))
    whys = skipped(done)
    assert (done.returncode, failed(done)) == (0, {})
    made = set(selftest.CHECKS) - set(whys)
    assert made - {"hold_freezer"} == WITHOUT_RIGHTS - {"syscall"}
    whys.pop("hold_freezer", None)
    assert [name for name, why in whys.items() if not why.startswith(words)] == []
    for manager in (
        "docker run --cap-add=SYS_PTRACE",
        "podman run",
        "Kubernetes",
        "systemd",
    ):
        assert manager in whys["syscall"]


def test_seccomp_filter_on_pidfd_open() -> None:
    """A filter that refuses pidfd_open is named, and nothing fails."""
    done = restricted(lambda: refuse_syscall(PIDFD_OPEN, errno.EPERM))
    whys = skipped(done)
    assert set(verdicts(done)) - set(whys) == {"host"}
    assert [
        w for w in whys.values() if "a seccomp filter refuses pidfd_open" not in w
    ] == []


def test_seccomp_filter_that_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that kills who makes the call is told, by a child that dies of it."""
    monkeypatch.setattr(
        _sys, "probe", lambda pidfd, advice: os.kill(os.getpid(), signal.SIGSYS)
    )
    done = in_process("--only", "host,cold")
    assert list(skipped(done)) == ["host", "cold"]
    assert skipped(done)["host"].startswith("a seccomp filter kills who calls")


@root
def test_as_nobody() -> None:
    """An ordinary user is told what is missing and how to get it, and nothing fails."""
    done = restricted(become_nobody)
    whys = skipped(done)
    assert (done.returncode, failed(done)) == (0, {})
    assert set(verdicts(done)) - set(whys) >= WITHOUT_RIGHTS - {"hold_ptrace"}
    assert "CAP_SYS_NICE" in whys["cold"]
    assert (
        "run as root, or add CAP_SYS_NICE (docker run --cap-add=SYS_NICE"
        in whys["permission"]
    )


@root
@pytest.mark.parametrize("proc", [("--mount-proc",), ()], ids=["own", "outer"])
def test_in_a_pid_namespace(proc: tuple[str, ...]) -> None:
    """In a pid namespace all goes on; holds need a /proc that shows it."""
    program = ("unshare", "--pid", "--fork", *proc)
    done = run("--size", "4", program=program)
    whys = skipped(done)
    assert (done.returncode, failed(done)) == (0, {})
    holds = {name for name in whys if name.startswith("hold_")}
    if proc:
        assert holds <= {"hold_freezer"}
    else:
        assert holds == {"hold_ptrace", "hold_freezer", "hold_sigstop"}
        assert "mount -t proc proc /proc" in whys["hold_ptrace"]


@root
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_hidepid(user: str) -> None:
    """With /proc mounted hidepid=2 the selftest finds its own children."""
    before = run("--size", "4") if user == "root" else restricted(become_nobody)

    def hide() -> None:
        subprocess.run(
            ["mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"], check=True
        )
        if user == "nobody":
            become_nobody()

    def unshare() -> None:
        libc = _selftest_child.libc
        assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
        assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC|MS_PRIVATE
        hide()

    done = restricted(unshare)
    assert (done.returncode, failed(done)) == (0, {})
    assert set(skipped(done)) == set(skipped(before))


@pytest.mark.parametrize(
    ("free", "allowed", "words"),
    [
        (0, None, "turn swap on with swapon(8)"),
        (MIB, None, "turn swap on with swapon(8)"),
        (1 << 30, MIB, "memory.swap.max"),
    ],
)
@root
def test_without_swap(
    monkeypatch: pytest.MonkeyPatch, free: int, allowed: int | None, words: str
) -> None:
    """Without swap, or swap that this cgroup may use, PAGEOUT says what is missing."""
    monkeypatch.setattr(_host, "swap", lambda: (free, free))
    monkeypatch.setattr(_host, "swap_allowed", lambda: allowed)
    result = selftest.run("pageout", 4 * MIB)
    assert (result.verdict, words in result.detail) == ("skip", True)
    assert selftest.run("willneed", 4 * MIB).verdict == "ok"


@root
def test_huge_page_larger_than_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a huge page has 512 MiB the check says what to pass."""
    monkeypatch.setattr(_host, "huge_page_size", lambda: 512 * MIB)
    result = selftest.run("collapse", 64 * MIB)
    assert (result.verdict, "--size 512" in result.detail) == ("skip", True)


@root
def test_no_folder_on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files stay in memory the checks of files say so."""
    monkeypatch.setattr(
        "pmadvise._selftest_effects.os.posix_fadvise", lambda *arguments: None
    )
    result = selftest.run("pageout_file", 4 * MIB)
    assert (result.verdict, "set TMPDIR" in result.detail) == ("skip", True)


# Interrupted


def things() -> tuple[list[str], list[str]]:
    """Return cgroups of selftests, and the processes that run one."""
    processes = [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"pmadvise.selftest\0--size\0005" in _bytes_of(path)
    ]
    mounts = {one.mount for one in _host.cgroups()}
    cgroups = [str(p) for m in mounts for p in Path(m).glob("**/pmadvise-selftest-*")]
    return cgroups, processes


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("everyone", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "during", ["maps", "pageout_file", "exec", "hold_ptrace", "hold_freezer"]
)
def test_interrupted(
    tmp_path: Path, during: str, number: signal.Signals, everyone: bool
) -> None:
    """A signal in the middle ends it with 128 + its number, and nothing is left."""
    # The check before has been printed, so it is that one's turn.
    names = list(selftest.CHECKS)
    before = names[names.index(during) - 1]
    arguments = ["--size", "5", "--only", f"{before},{during}"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pmadvise.selftest", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    printed = ""
    while f" {before} - " not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    if everyone:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    rest, errors = process.communicate()
    assert process.returncode == 128 + number
    assert errors == f"interrupted by {number.name}\n"
    verdicts(subprocess.CompletedProcess([], 0, printed + rest))
    assert list(tmp_path.iterdir()) == []
    until(lambda: things() == ([], []), "nothing is left")


@root
@pytest.mark.parametrize("name", ["cold", "hold_sigstop"])
def test_killed(name: str) -> None:
    """Even SIGKILL leaves no child: they end with their parent."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pmadvise.selftest", "--size", "5"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    names = list(selftest.CHECKS)
    while names[names.index(name) - 1] not in process.stdout.readline():
        pass
    process.kill()
    process.communicate()
    until(lambda: things()[1] == [], "the children have ended")


# Every check can fail


def instead(asked: Advice, done: Advice) -> Callable[[pytest.MonkeyPatch], None]:
    """Have the kernel given another advice."""

    def break_it(patch: pytest.MonkeyPatch) -> None:
        real = _sys.process_madvise
        patch.setattr(
            _sys,
            "process_madvise",
            lambda fd, array, n, advice: real(
                fd, array, n, done if advice == asked else advice
            ),
        )

    return break_it


def lie(patch: pytest.MonkeyPatch) -> None:
    """Have cold() do nothing and report that it did all."""

    def cold(self: Process, ranges: Any = (), **options: Any) -> Report:
        total = Ranges(ranges).total
        return Report(Advice.COLD, total, total, (), 1, 0.0, 0.0, "complete")

    patch.setattr(Process, "cold", cold)


def no_hold(patch: pytest.MonkeyPatch) -> None:
    """Have hold() hold nothing."""
    patch.setattr(
        Process,
        "hold",
        lambda self, method, timeout: contextlib.nullcontext(
            types.SimpleNamespace(method=method, broken=None)
        ),
    )


def setting(owner: Any, name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(owner, name, value)


def refuse(self: Process, advice: int) -> None:
    raise PermissionError(errno.EACCES, "refused")


BREAKS: dict[str, list[Callable[[pytest.MonkeyPatch], None]]] = {
    "host": [
        setting(_sys, "PAGE_SIZE", 12345),
        setting(_support.Support, "to_dict", lambda self: {"kernel": self}),
    ],
    "syscall": [
        setting(_sys, "probe", lambda pidfd, advice: -errno.ENOSYS),
        setting(_sys, "probe", lambda pidfd, advice: -errno.EINVAL),
        setting(_sys, "pidfd_open", lambda pid, flags: -errno.ENOSYS),
        setting(_sys, "pidfd_open", lambda pid, flags: os.open("/", os.O_RDONLY)),
    ],
    "permission": [
        setting(Process, "check", refuse),
        setting(_support, "_advices", lambda *arguments: ({}, None)),
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
    """A new check comes with what breaks it."""
    assert list(BREAKS) == list(selftest.CHECKS)


@root
@pytest.mark.needs_cgroup2
@pytest.mark.needs_swap
@pytest.mark.parametrize(
    ("name", "break_it"),
    [(name, one) for name, ways in BREAKS.items() for one in ways],
    ids=[f"{name}{i}" for name, ways in BREAKS.items() for i in range(len(ways))],
)
def test_can_fail(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    break_it: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """With one thing broken the check fails, and without that it passes."""
    assert selftest.run(name, 8 * MIB).verdict == "ok"
    with monkeypatch.context() as patch:
        break_it(patch)
        result = selftest.run(name, 8 * MIB)
    _selftest_child.leave_nothing()
    assert result.verdict == "FAIL", result


@root
@pytest.mark.needs_swap
@pytest.mark.parametrize("name", ["own", "cold", "pageout", "pageout_file", "collapse"])
def test_changed_memory_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Memory that is not intact is seen to fail."""
    monkeypatch.setattr(Child, "do_intact", lambda self, address, size: False)
    result = selftest.run(name, 8 * MIB)
    assert (result.verdict, "memory has changed" in result.detail) == ("FAIL", True)


@root
@pytest.mark.skipif(
    not (ROOT / "csrc").exists(), reason="the sources are not beside the tests"
)
@pytest.mark.parametrize(
    ("call", "number"),
    [("PROCESS_MADVISE", 441), ("PROCESS_MADVISE", 9999), ("PIDFD_OPEN", 9999)],
)
def test_wrong_number_in_a_build(tmp_path: Path, call: str, number: int) -> None:
    """A build with the wrong number of a system call fails, and does not skip all."""
    for name in ("csrc", "pmadvise"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in (
        "setup.py",
        "build_pmadvise.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, tmp_path)
    header = tmp_path / "csrc/syscall_nr.h"
    text = re.sub(r"#ifdef __NR_.*?#endif\n", "", header.read_text(), flags=re.DOTALL)
    changed = re.sub(rf"(NR_{call} = PMADVISE_NR_BASE \+) \d+", rf"\1 {number}", text)
    assert changed != text
    header.write_text(changed)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    done = run("--size", "4", cwd=tmp_path)
    assert done.returncode == 1
    assert "wrong in this build" in failed(done)["syscall"]


def test_a_child_that_dies_is_told() -> None:
    """A child that has died is an error, not a wait for ever."""
    with Child() as child:
        child.kill()
        with pytest.raises((AssertionError, BrokenPipeError)):
            child.ask("pid")


def test_a_child_says_what_failed() -> None:
    """What fails in a child is told as it was there."""
    with Child() as child:
        with pytest.raises(OSError, match="munmap") as raised:
            child.ask("unmap", 1, 1)
        assert raised.value.errno == errno.EINVAL
        with pytest.raises(AssertionError, match="KeyError"):
            child.ask("status", "VmNothing")

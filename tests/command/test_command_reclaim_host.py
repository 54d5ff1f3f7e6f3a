"""Verb reclaim as it is run: the cgroups of this host, streams, and a terminal."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from helpers.cgroups import memory_cgroup, temporary_cgroup
from helpers.command import COMMAND, environment, run, terminal
from helpers.fake_reclaim import patched
from helpers.needs import ROOT, cgroup_mount
from helpers.targets import MIB, Target

FAKE = ("reclaim", "--cgroup", "/a/\x1b[2J\u202eb")
UNSEEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(output: bytes) -> str:
    """Return the text of what a terminal was sent."""
    return UNSEEN.sub("", output.decode()).replace("\r", "\n")


def test_no_such_cgroup() -> None:
    """A path that is not there is one line with the remedy, and status 1."""
    done = run("reclaim", "--cgroup", "/pmadvise/none", "1M")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "pmadvise: there is no cgroup '/pmadvise/none' here: give its directory, in a "
        "mounted cgroup file system\n"
    )


def test_a_directory_that_is_none() -> None:
    """A directory of another file system is none."""
    done = run("reclaim", "--cgroup", "/", "1M", "--json")
    assert (done.status, len(done.errors), len(done.objects)) == (1, 1, 1)


@pytest.mark.needs_cgroup1
def test_version_1() -> None:
    """A cgroup of version 1 is told, with the remedy."""
    mount = cgroup_mount(1)
    done = run("reclaim", "--cgroup", mount, "0")
    assert (done.status, done.out, len(done.errors)) == (1, "", 1)
    assert "version 1, which has no memory.reclaim: boot with version 2" in done.err


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_no_controller() -> None:
    """A cgroup without the memory controller is told, whatever bytes its name has."""
    mount = cgroup_mount(2)
    assert mount is not None
    with temporary_cgroup(mount, b"\x1b[2J\xff\xe2\x80\xaeb") as cgroup:
        if os.path.exists(os.path.join(cgroup.path, b"memory.reclaim")):
            pytest.skip("machine: new cgroups have the memory controller")
        name = os.fsdecode(cgroup.path)
        done = run("reclaim", "--cgroup", name, "1M", "--json", "--debug")
    [found] = done.objects
    assert os.fsencode(found["cgroup"]) == cgroup.path
    assert (done.status, "Traceback" in done.err) == (1, True)
    assert [line for line in done.errors if not line.isprintable()] == []
    assert "the memory controller is not enabled" in done.errors[-1]
    assert "write +memory to cgroup.subtree_control" in found["error"]["message"]


@pytest.mark.needs_root
def test_a_real_cgroup(target: Target) -> None:
    """Memory of a real cgroup is reclaimed, and accounted for."""
    with memory_cgroup(256 * MIB, swap=True) as cgroup:
        path = Path(os.fsdecode(cgroup.path))
        if not (path / "memory.reclaim").exists():
            pytest.skip("machine: its cgroups have no memory.reclaim")
        (path / "cgroup.procs").write_text(str(target.pid))
        target.filled(32 * MIB)
        done = run("reclaim", "--cgroup", path, "8M", "--json")
        target.kill()
    [found] = done.objects
    assert (found["error"], found["requested"]) == (None, 8 * MIB)
    assert done.status == (0 if found["ended"] == "complete" else 1)
    assert found["before"]["current"] >= 32 * MIB
    assert found["calls"] > 0


def test_bar(tmp_path: Path) -> None:
    """A bar counts bytes, and the table stands below it."""
    with terminal(*FAKE, "128M", variables=patched(tmp_path)) as running:
        assert running.finish() == 0
    text = plain(running.output)
    assert re.search(r"[0-9.]+M/128M +[0-9.]+[KMG]/s", text)
    assert text.index("/s") < text.index("before")
    assert b"\x1b[2J" not in running.output
    assert max(map(len, text.split("\n"))) <= 80


def test_bar_of_a_narrow_terminal(tmp_path: Path) -> None:
    """In 20 columns it is told as well."""
    with terminal(*FAKE, "16M", size=(24, 20), variables=patched(tmp_path)) as running:
        assert running.finish() == 0
    assert "16.0 MiB asked" in plain(running.output).replace("\n", " ")


def test_no_bar_for_a_refusal() -> None:
    """Where nothing can be reclaimed the error is all."""
    with terminal("reclaim", "--cgroup", "/pmadvise/none", "1M") as running:
        assert running.finish() == 1
    assert plain(running.output).startswith("pmadvise: there is no cgroup")


def test_quiet(tmp_path: Path) -> None:
    """--quiet draws and prints nothing."""
    with terminal(*FAKE, "16M", "--quiet", variables=patched(tmp_path)) as running:
        assert (running.finish(), running.output) == (0, b"")


def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C ends it: the report, and status 130."""
    with terminal(*FAKE, "100G", variables=patched(tmp_path)) as running:
        running.read_until(lambda output: re.search(rb" [1-9][0-9.]*M/100G", output))
        running.interrupt()
        assert running.finish() == 130
    text = plain(running.output)
    assert "not reclaimed: interrupted" in text.replace("\n", " ")
    assert "Traceback" not in text


@pytest.mark.parametrize("option", ["--json", ""])
@pytest.mark.parametrize(
    ("redirection", "why"),
    [
        (">&-", "pmadvise: stdout: Bad file descriptor\n"),
        (">/dev/full", "pmadvise: stdout: No space left on device\n"),
        ("| true", ""),
    ],
)
def test_no_results(tmp_path: Path, option: str, redirection: str, why: str) -> None:
    """Results that can't be written are status 1; a reader that leaves gets no line."""
    status = tmp_path / "status"
    script = f'{{ "$@"; echo $? >{status}; }} {redirection}'
    done = subprocess.run(
        ["/bin/bash", "-c", script, "bash", *COMMAND, *FAKE, "8M", *option.split()],
        cwd=ROOT,
        env=environment(**patched(tmp_path)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert (status.read_text().strip(), done.stderr) == ("1", why)

"""The tasks of the guide: each is pasted as it is, and does what its page tells."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import run
from helpers.hold_targets import Cgroup, cgroup_of
from helpers.needs import ROOT, program
from helpers.pages import (
    TASKS,
    Names,
    Section,
    is_directive,
    markers,
    run_section,
    runnable,
    sections,
)
from helpers.targets import MIB, Target
from helpers.waiting import wait_for_state

SIZE = 64 * MIB
SECTIONS = {
    section.page.stem: section
    for section in runnable(lambda page: page.parent == TASKS)
}
ALONE = [
    pytest.param(section, marks=markers(section), id=name)
    for name, section in SECTIONS.items()
    if name not in {"every-night", "container", "rights", "zram"}
]
UNIT = re.compile(r"^`/etc/systemd/system/([\w.-]+)`:\n\n```ini\n(.*?)```", re.M | re.S)
SYSTEMD_RUN = [
    *("--pipe", "--wait", "--uid", "nobody", "--property"),
    "AmbientCapabilities=CAP_SYS_NICE CAP_SYS_PTRACE CAP_DAC_READ_SEARCH",
]
"""The options of the page, which tests/vm/systemd_guest.py gives to the real one."""

pytestmark = pytest.mark.slow


def stand_in(scratch: Path, name: str, script: str) -> None:
    """Let a script of the test's own be found before the program of that name."""
    path = scratch / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def names(target: Target) -> Names:
    """What a page expects: a program at rest, with memory."""
    target.filled(SIZE)
    wait_for_state(target.pid, "S")
    return {"pid": target.pid}


@pytest.fixture
def cgroup(target: Target) -> Iterator[Cgroup]:
    """A cgroup with that program in it."""
    with cgroup_of(2) as found:
        found.add(target.pid)
        yield found


def test_a_page_is_one_session() -> None:
    """A page of a task has one session, and ends with where to read why."""
    pages = sorted(TASKS.glob("*.md"))
    assert len(pages) >= 10
    assert [page.name for page in pages if len(list(sections(page))) != 1] == []
    ends = {page.name: page.read_text(encoding="utf-8")[-400:] for page in pages}
    assert [name for name, end in ends.items() if "](../" not in end] == []


def test_every_page_is_in_the_guide() -> None:
    """The contents of the guide have each task once."""
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^tasks/([\w-]+)$", index, re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in TASKS.glob("*.md"))


@pytest.mark.parametrize("section", ALONE)
def test_task(names: Names, tmp_path: Path, section: Section) -> None:
    """A page does what it tells, and prints what it shows, of any program."""
    run_section(section, names, tmp_path)


@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.needs_cgroup2
def test_container(
    names: Names, tmp_path: Path, cgroup: Cgroup, target: Target
) -> None:
    """A container goes to swap, and comes back, by what podman tells of it."""
    path = f"/{cgroup.path.name}"  # as /proc/PID/cgroup has it
    stand_in(
        tmp_path,
        "podman",
        f"""case "$1 $2 $3 $4" in
            "inspect --format {{{{.State.CgroupPath}}}} web") echo {path} ;;
            "inspect --format {{{{.State.Pid}}}} web") echo {target.pid} ;;
            *) exit 1 ;;
        esac""",
    )
    run_section(SECTIONS["container"], names, tmp_path)
    assert target.status("VmSwap") < MIB


def test_timer_is_turned_on(tmp_path: Path) -> None:
    """The commands of the page name the units that it has."""
    for name in "systemctl", "journalctl":
        stand_in(tmp_path, name, f'echo {name} "$@" >>{tmp_path}/calls')
    run_section(SECTIONS["every-night"], {"pid": 0}, tmp_path)
    calls = (tmp_path / "calls").read_text()
    named = re.findall(r"[\w-]+\.(?:service|timer)", calls)
    assert set(named) == set(units()) == {f"pmadvise-night.{k}" for k in KINDS}


KINDS = ("service", "timer")


def units() -> dict[str, str]:
    """Return the units of the page, by the names of their files."""
    return dict(UNIT.findall((TASKS / "every-night.md").read_text(encoding="utf-8")))


def command_of(unit: str) -> list[str]:
    """Return the words of the line that a service starts."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read_string(unit)
    return shlex.split(parser["Service"]["ExecStart"].replace("%%", "%"))


@pytest.mark.needs_program("systemd-analyze")
def test_systemd_takes_the_timer(tmp_path: Path) -> None:
    """The two units have no fault that systemd sees."""
    for name, text in units().items():
        given = text.replace("/opt/pmadvise/bin/pmadvise", sys.executable)
        (tmp_path / name).write_text(given)
    analyze = program("systemd-analyze")
    assert analyze
    done = subprocess.run(
        [analyze, "verify", *(str(tmp_path / name) for name in units())],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.needs_root
@pytest.mark.needs_swap
@pytest.mark.needs_cgroup2
@pytest.mark.usefixtures("names")
def test_line_of_the_timer(cgroup: Cgroup, target: Target) -> None:
    """What the timer starts pages out the processes of the cgroup that it names."""
    path, *arguments = command_of(units()["pmadvise-night.service"])
    assert (path, "/batch.slice" in arguments) == ("/opt/pmadvise/bin/pmadvise", True)
    arguments[arguments.index("/batch.slice")] = f"/{cgroup.path.name}"
    assert run(*arguments).status == 0
    assert target.status("VmSwap") > SIZE * 0.9


@pytest.mark.owns_swap
@pytest.mark.needs_root
def test_zram(tmp_path: Path) -> None:
    """The page turns zram on as swap, and off."""
    if not os.path.exists("/sys/class/zram-control"):
        pytest.skip("no zram: modprobe zram")
    before = Path("/proc/swaps").read_text()
    names: Names = {"pid": 0}
    try:
        run_section(SECTIONS["zram"], names, tmp_path)
        assert Path("/proc/swaps").read_text() == before
    finally:
        device = names.get("variables", {}).get("device", "none")
        for command in ["swapoff", device], ["zramctl", "--reset", device]:
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_programs_are_shown_whole() -> None:
    """A page of a program has all of it, and a link to it."""
    shown = {
        page.stem: block.kind.split()[-1]
        for page in TASKS.glob("*.md")
        for section in sections(page)
        for block in section.blocks
        if is_directive(block.kind)
    }
    assert sorted(shown) == ["asyncio-daemon", "small-daemon"]
    for stem, path in shown.items():
        assert f"]({path})" in (TASKS / f"{stem}.md").read_text(encoding="utf-8")


@pytest.fixture
def venv() -> Iterator[Path]:
    """A virtual environment that everybody may read, with the command in it."""
    with tempfile.TemporaryDirectory(prefix="pmadvise-venv-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        (path / "bin").mkdir()
        (path / "bin/python").symlink_to(os.path.realpath(sys.executable))
        (path / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
        stand_in(path / "bin", "pmadvise", f'exec {path}/bin/python -m pmadvise "$@"')
        yield path


@pytest.mark.needs_root
@pytest.mark.needs_program("setpriv")
@pytest.mark.needs_program("setcap")
def test_rights(tmp_path: Path, target: Target, venv: Path) -> None:
    """Nobody may advise a process of root, in each of the ways of the page."""
    if os.statvfs(venv).f_flag & os.ST_NOSUID:
        pytest.skip(f"installed: {venv.parent} is mounted nosuid: set TMPDIR")
    stand_in(tmp_path, "systemd-run", f'printf "%s\\n" "$@" >{tmp_path}/called')
    names: Names = {"pid": target.pid, "given": {"venv": str(venv)}}
    run_section(SECTIONS["rights"], names, tmp_path)
    called = (tmp_path / "called").read_text().splitlines()
    assert called[-3:] == [f"{venv}/bin/pmadvise", "check", str(target.pid)]
    assert called[:-3] == SYSTEMD_RUN

"""How the command starts: without the extra, by its names, and its man page."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import manual
import pytest
from helpers.command import COMMAND, environment, run
from helpers.needs import ROOT

NEEDED = ("click", "humanize", "rich")
BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)

sys.meta_path.insert(0, Block())
"""
VERBS = [
    *("top", "show", "cold", "pageout", "willneed", "collapse", "reclaim", "check"),
    "selftest",
]
IN_HELP = {
    *("json", "quiet", "debug", "all", "watch", "dry-run", "force", "hold"),
    *("cgroup", "tree", "name", "user", "sort", "idle", "ages", "touch", "swappiness"),
}


@pytest.mark.parametrize("name", NEEDED)
def test_without_the_extra(tmp_path: Path, name: str) -> None:
    """Without one of its libraries it is one line that says how to get it."""
    (tmp_path / "sitecustomize.py").write_text(BLOCK.format(name=name))
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [*COMMAND, "cold", "1", "--budget=1M", "--dry-run"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=paths),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "pip install 'pmadvise[cli]'" in done.stderr


def loaded_by(code: str) -> set[str]:
    """Return the top-level names of the modules that `code` loads."""
    program = (
        f"{code}; import sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


def test_the_package_needs_none_of_it() -> None:
    """No public name of the package loads what the command needs."""
    code = "import pmadvise; [getattr(pmadvise, name) for name in pmadvise.__all__]"
    assert loaded_by(code) & set(NEEDED) == set()


def test_help_is_light() -> None:
    """--help loads neither rich nor what sizes are read with: it starts at once."""
    code = "from pmadvise.command.app import run; run(['--help'])"
    heavy = {"rich", "humanize"}
    assert loaded_by(code) & heavy == set()


def test_version() -> None:
    """--version has the name and a version."""
    assert re.fullmatch(r"pmadvise, version .+\n", run("--version").out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    """Each shell gets its script."""
    done = run(_PMADVISE_COMPLETE=f"{shell}_source")
    assert (done.status, "_PMADVISE_COMPLETE" in done.out) == (0, True)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("pmadvise pa", "plain,pageout"),
        ("pmadvise rec", "plain,reclaim"),
        ("pmadvise pageout --dry", "plain,--dry-run"),
        ("pmadvise pageout --hold fre", "plain,freezer"),
        ("pmadvise show {pid}", "plain,{pid}"),
        ("pmadvise top --sort s", "plain,swap"),
        ("pmadvise top --name {name}", "plain,{name}"),
        ("pmadvise top --user {user}", "plain,{user}"),
    ],
)
def test_completion(words: str, found: str) -> None:
    """Commands, options, methods, processes, names and users are completed."""
    name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    user = pwd.getpwuid(os.geteuid()).pw_name
    known = {"pid": os.getpid(), "name": name, "user": user}
    done = run(
        _PMADVISE_COMPLETE="bash_complete",
        COMP_WORDS=words.format(**known),
        COMP_CWORD=str(len(words.split()) - 1),
    )
    assert found.format(**known) in done.out.split("\n")


@pytest.mark.needs_sources
def test_man_page_is_up_to_date() -> None:
    """docs/pmadvise.1 is what `python docs/manual.py` writes."""
    page = (ROOT / "docs/pmadvise.1").read_text(encoding="utf-8")
    assert page == manual.page()


def test_man_page_has_all() -> None:
    """The man page has every command and the options of each."""
    page = manual.page().replace("\\", "")
    for command in VERBS:
        assert f"\n.SS {command}\n" in page
    assert {name for name in IN_HELP if f"--{name}" in page} == IN_HELP


@pytest.mark.parametrize("arguments", [[], *([verb] for verb in VERBS)], ids=" ".join)
def test_help_without_docstrings(arguments: list[str]) -> None:
    """The help is the same under -OO, by which Python removes all docstrings."""
    texts = [
        subprocess.run(
            [sys.executable, *options, "-m", "pmadvise", *arguments, "--help"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for options in ([], ["-OO"])
    ]
    assert texts[0] == texts[1] != ""

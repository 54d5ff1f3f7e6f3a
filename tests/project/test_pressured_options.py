"""The options of docs/examples/pressured: checked together, before anything is done."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import options
import pytest
from helpers import daemon
from options import Wrong, load
from parsing import Share

pytestmark = pytest.mark.needs_sources

MIB = 1 << 20
CGROUP = ("--cgroup", "/sys/fs/cgroup/a")


def loaded(*arguments: str) -> options.Options:
    return load([*CGROUP, *arguments])


def faults(*arguments: str) -> list[str]:
    """Return what is wrong, a line each."""
    with pytest.raises(Wrong) as found:
        load(arguments)
    return str(found.value).split("\n")


def test_defaults() -> None:
    """What is not told is as the page has it."""
    assert vars(loaded()) == {
        "cgroup": ("/sys/fs/cgroup/a",),
        "exclude": (),
        "high": 90.0,
        "low": 80.0,
        "budget": 256 * MIB,
        "rate": math.inf,
        "swap_floor": Share(0.15),
        "max_stall": 0.01,
        "idle_ranges": math.inf,
        "by": "auto",
        "listen": ("127.0.0.1", 9779),
        "lock": options._LOCK,
        "dry_run": False,
    }


def test_the_floor_is_above_that_of_systemd_oomd() -> None:
    """systemd-oomd kills who swapped most once 90 % of the swap are in use."""
    assert loaded().floor(1000 * MIB) > 100 * MIB


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--high=95", "high", 95.0),
        ("--low=0.5%", "low", 0.5),
        ("--low=0", "low", 0.0),
        ("--budget=1.5GiB", "budget", 1536 * MIB),
        ("--budget=2097152", "budget", 2 * MIB),
        ("--budget=64 mb", "budget", 64 * MIB),
        ("--rate=10M", "rate", 10 * MIB),
        ("--rate=10M/s", "rate", 10 * MIB),
        ("--rate=none", "rate", math.inf),
        ("--swap-floor=20%", "swap_floor", Share(0.2)),
        ("--swap-floor=0", "swap_floor", 0),
        ("--swap-floor=0%", "swap_floor", Share(0)),
        ("--swap-floor=64M", "swap_floor", 64 * MIB),
        ("--max-stall=500us", "max_stall", 0.0005),
        ("--max-stall=1s", "max_stall", 1.0),
        ("--idle-ranges=60s", "idle_ranges", 60.0),
        ("--idle-ranges=5min", "idle_ranges", 300.0),
        ("--idle-ranges=24h", "idle_ranges", 86400.0),
        ("--idle-ranges=none", "idle_ranges", math.inf),
        ("--by=pageout", "by", "pageout"),
        ("--listen=:9779", "listen", ("", 9779)),
        ("--listen=[::1]:9779", "listen", ("::1", 9779)),
        ("--listen=[::]:1", "listen", ("::", 1)),
        ("--listen=0.0.0.0:65535", "listen", ("0.0.0.0", 65535)),
        ("--exclude=post*", "exclude", ("post*",)),
        ("--exclude=/a/b/", "exclude", ("/a/b",)),
        ("--lock=/a/../b", "lock", "/b"),
    ],
)
def test_values(argument: str, name: str, value: object) -> None:
    """Units are those of the command."""
    found = getattr(loaded(argument), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "argument",
    [
        *(
            "--high=0",
            "--high=-1",
            "--high=nan",
            "--high=inf",
            "--high=150",
            "--high=x",
        ),
        *("--low=-0", "--low=95", "--low=90", "--low=nan", "--low=", "--high=80"),
        *(
            "--budget=-1",
            "--budget=0",
            "--budget=1K",
            "--budget=x",
            "--budget=9999999T",
        ),
        *("--rate=0", "--rate=-1", "--rate=5", "--rate=nan"),
        *(
            "--swap-floor=-1",
            "--swap-floor=100%",
            "--swap-floor=nan%",
            "--swap-floor=x",
        ),
        *("--max-stall=0", "--max-stall=-1", "--max-stall=nan", "--max-stall=10"),
        *("--max-stall=0ms", "--max-stall=2h", "--max-stall=none"),
        *("--idle-ranges=60", "--idle-ranges=0s", "--idle-ranges=999ms"),
        *("--idle-ranges=25h", "--idle-ranges=nan", "--idle-ranges=-5s"),
        *("--listen=x", "--listen=1.2.3.4", "--listen=1.2.3.4:99999", "--listen=::1:9"),
        *("--listen=[::1]", "--listen=[1.2.3.4]:9", "--listen=:", "--listen=a:9"),
        *("--listen=127.0.0.1:-1", "--listen=[::1:9", "--listen=:٣"),
        *("--exclude=", "--exclude=sixteen-letters-", "--lock="),
    ],
)
def test_wrong_values(argument: str) -> None:
    """The message names the option and the value."""
    name, _, value = argument.partition("=")
    (fault,) = faults(*CGROUP, argument)
    if argument in ("--high=0", "--high=80"):
        assert fault == f"--low 80: not below --high {value}"
    else:
        assert f"{name} {value}: " in fault


def test_all_at_once() -> None:
    """Every fault is told, not the first alone."""
    found = faults("--high=nan", "--budget=x", "--listen=x", "--max-stall=1")
    names = [fault.split()[0] for fault in found]
    assert names == ["--high", "--budget", "--max-stall", "--listen", "--cgroup:"]


def test_the_daemon_ends_before_anything_is_done(tmp_path: Path) -> None:
    """It ends with status 2, which systemd does not try again, and leaves no lock."""
    lock = tmp_path / "lock"
    wrong = ("--budget=0", "--high=nan", "--idle-ranges=60")
    done = daemon.run(*wrong, "--lock", lock)
    assert (done.returncode, done.stdout, lock.exists()) == (2, "", False)
    lines = done.stderr.rstrip("\n").split("\n")
    assert len(lines) == 4
    assert all(line.startswith("pressured: --") for line in lines)


def test_version() -> None:
    """It names its version, and takes no abbreviated option."""
    assert daemon.run("--version").stdout.startswith("pressured, with pmadvise ")
    assert daemon.run("--vers").returncode == 2


needs_tomllib = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="machine: no tomllib before Python 3.11"
)


def config(path: Path, text: str) -> str:
    file = path / "pressured.toml"
    file.write_text(text)
    return str(file)


@needs_tomllib
def test_a_file(tmp_path: Path) -> None:
    """It has the same names; the command line counts more."""
    path = config(
        tmp_path,
        'cgroup = ["/sys/fs/cgroup/b", "/c"]\nhigh = 85\nbudget = "64M"\n'
        'exclude = "sshd"\nmax-stall = "5ms"\nrate = 2097152\ndry-run = true\n'
        'idle-ranges = "5min"\n',
    )
    found = load(["--config", path, "--high", "88"])
    assert (found.cgroup, found.high) == (("/sys/fs/cgroup/b", "/c"), 88.0)
    assert (found.budget, found.exclude) == (64 * MIB, ("sshd",))
    assert (found.max_stall, found.rate, found.dry_run) == (0.005, 2.0 * MIB, True)
    assert found.idle_ranges == 300.0
    assert load([*CGROUP, "--config", path]).cgroup == ("/sys/fs/cgroup/a",)


@needs_tomllib
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hihg = 5", ["hihg", "no such option", "high"]),
        ("swap_floor = 5", ["swap_floor", "swap-floor"]),
        ("high = [5]", ["high", "5"]),
        ("high = [70, 80]", ["high", "70"]),
        ("high = true", ["high", "True"]),
        ("dry-run = 1", ["dry-run", "1"]),
        ("idle-ranges = 60", ["idle-ranges", "60", "unit"]),
        ("idle_ranges = '60s'", ["idle_ranges", "idle-ranges"]),
        ("cgroup = {a = 1}", ["cgroup"]),
        ("exclude = [1, false]", ["exclude", "False"]),
        ("config = 'x'", ["config", "no such option"]),
        ("high = \n", ["line 1"]),
        ("high = 1979-05-27", ["high", "1979"]),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, words: list[str]) -> None:
    """The message names the file, the option and the value."""
    path = config(tmp_path, text)
    (fault,) = faults(*CGROUP, "--config", path)
    assert [word for word in (path, *words) if word not in fault] == []


@needs_tomllib
def test_no_file(tmp_path: Path) -> None:
    """A file that can't be read is named."""
    path = str(tmp_path / "none")
    assert faults(*CGROUP, "--config", path) == [
        f"--config {path}: No such file or directory"
    ]
    assert "Is a directory" in faults(*CGROUP, "--config", str(tmp_path))[0]


def test_a_file_on_an_old_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.10 has no TOML: the option says what it needs."""
    old: Any = (3, 10, 4)
    monkeypatch.setattr(sys, "version_info", old)
    (fault,) = faults(*CGROUP, "--config", str(tmp_path))
    assert fault.endswith("needs Python 3.11 or newer; this is 3.10")

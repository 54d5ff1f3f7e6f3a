"""What a host may lack that a test needs: each a question with an answer in words."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from helpers.children import Lacking, in_child
from helpers.namespaces import mount_proc, unshare_pids, unshare_users

ROOT = Path(__file__).parents[2]

SWAP_NEEDED = 256 << 20


def free_swap() -> int:
    """Return the bytes of swap that are free."""
    for line in Path("/proc/meminfo").read_bytes().split(b"\n"):
        if line.startswith(b"SwapFree:"):
            return int(line.split()[1]) * 1024
    return 0


def cgroup_mount(version: int) -> Path | None:
    """Return where a cgroup hierarchy that can freeze is mounted, if it is."""
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        left, _, right = line.partition(b" - ")
        kind, *_, options = right.split(b" ") if right else (b"", b"")
        if (version == 2 and kind == b"cgroup2") or (
            version == 1 and kind == b"cgroup" and b"freezer" in options.split(b",")
        ):
            return Path(os.fsdecode(left.split(b" ")[4]))
    return None


def sanitizers() -> list[str] | None:
    """Return the paths of gcc's libraries for ASan and UBSan, None if it has none."""
    found = [_library(name) for name in ("libasan.so", "libubsan.so")]
    paths = [path for path in found if path]
    return paths if len(paths) == len(found) else None


@functools.cache
def _library(name: str) -> str | None:
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    path = subprocess.run(
        [compiler, f"-print-file-name={name}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    return path if os.path.isabs(path) else None


def _root() -> str:
    return "" if os.geteuid() == 0 else "not root: run the tests with sudo"


def _swap() -> str:
    if free_swap() >= SWAP_NEEDED:
        return ""
    return f"less than {SWAP_NEEDED >> 20} MiB of swap are free"


def _cgroup(version: int) -> str:
    mount = cgroup_mount(version)
    if mount is None:
        return f"no cgroup v{version} hierarchy that can freeze is mounted"
    return "" if os.access(mount, os.W_OK) else f"{mount} is not writable"


@functools.cache
def _mounts() -> str:
    return _refused("mount(2)", lambda: mount_proc("hidepid=2"))


@functools.cache
def _user_namespace() -> str:
    return _refused("a user namespace", unshare_users)


@functools.cache
def _pid_namespace() -> str:
    return _refused("a pid namespace", unshare_pids)


def _refused(what: str, enter: Callable[[], object]) -> str:
    def try_to_enter() -> None:
        try:
            enter()
        except Lacking as error:  # which in_child() would skip by
            raise OSError(str(error)) from None

    if in_child(try_to_enter).error is None:
        return ""
    return f"{what} is refused: run the tests outside of a chroot or a container"


def _cpus(n: int) -> str:
    has = len(os.sched_getaffinity(0))
    return "" if has >= n else f"not {n} CPUs: run it on a larger machine, it has {has}"


def _compiler() -> str:
    if shutil.which("gcc") is None:
        return "no compiler: apt install gcc"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "no headers of Python: apt install python3-dev"
    return ""


def _sanitizers() -> str:
    if sanitizers() is None:
        return "no libasan and libubsan of gcc: apt install libasan8 libubsan1"
    return ""


def _valgrind() -> str:
    return "" if shutil.which("valgrind") else "no valgrind: apt install valgrind"


def _sources() -> str:
    if (ROOT / "csrc").is_dir() and (ROOT / "pmadvise").is_dir():
        return ""
    return "installed: the sources are not beside the tests"


def _tool(name: str) -> str:
    if importlib.util.find_spec(name):
        return ""
    return f"no {name}: pip install --group lint --group package --group interop"


PROGRAMS = {
    "hadolint": "pip install --group examples",
    "kubernetes-validate": "pip install --group examples",
    "promtool": "apt install prometheus",
    "setcap": "apt install libcap2-bin",
    "setpriv": "apt install util-linux",
    "unshare": "apt install util-linux",
    "systemd-analyze": "apt install systemd",
}
"""Programs of others that some tests run, and how to get them."""


def program(name: str) -> str | None:
    """Return the path of a program, which may be beside this Python; None without."""
    path = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
    return shutil.which(name, path=path)


def _program(name: str) -> str:
    return "" if program(name) else f"installed: no {name}: {PROGRAMS[name]}"


NEEDS: dict[str, Callable[..., str]] = {
    "needs_sources": _sources,
    "needs_root": _root,
    "needs_swap": _swap,
    "needs_cgroup1": functools.partial(_cgroup, 1),
    "needs_cgroup2": functools.partial(_cgroup, 2),
    "needs_mounts": _mounts,
    "needs_user_namespace": _user_namespace,
    "needs_pid_namespace": _pid_namespace,
    "needs_cpus": _cpus,
    "needs_compiler": _compiler,
    "needs_sanitizers": _sanitizers,
    "needs_valgrind": _valgrind,
    "needs_tool": _tool,
    "needs_program": _program,
}
"""Marker: a function that takes its arguments and returns what is missing, or ''.

In the order in which they are asked.
"""

LACKED_FOR_GOOD = ("kernel: ", "machine: ", "installed: ")
"""How the reason of a skip begins that --strict-kernel lets pass: nothing that can be
installed or switched on would help."""

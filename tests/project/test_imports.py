"""Imports of the package: light, and safe from several threads."""

from __future__ import annotations

import subprocess
import sys


def loaded_by(code: str) -> set[str]:
    """Return the modules that Python has loaded after `code`, and not without it."""
    program = f"import sys; before = set(sys.modules); {code}; "
    program += "print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return set(done.stdout.split())


TOOLS = {
    "argparse",
    "asyncio",
    "ctypes",
    "json",
    "logging",
    "pmadvise._advise.keywords",
    "pmadvise._support",
    "pmadvise.hold",
    "pmadvise.memory",
    "pmadvise.selftest",
    "shutil",
    "subprocess",
    "tempfile",
    "typing",
    "typing_extensions",
}


def test_import_is_light() -> None:
    """A program that makes the system calls alone loads no more than they need."""
    heavy = {"dataclasses", "enum", "functools", "inspect"}
    heavy |= {"pmadvise.process", "pmadvise._reasons"}
    assert loaded_by("import pmadvise") & (TOOLS | heavy) == set()


def test_a_daemon_s_import_is_light() -> None:
    """Process loads no tools, and neither hold() nor support()."""
    assert loaded_by("from pmadvise import Process, Report") & TOOLS == set()


FIRST_USES = """
import importlib, threading, time
import pmadvise

real, active, most = importlib.import_module, [], []

def slow(name):
    active.append(name)
    most.append(len(active))
    time.sleep(0.005)
    module = real(name)
    active.remove(name)
    return module

importlib.import_module = slow
barrier = threading.Barrier(8)

def use(names):
    barrier.wait()
    for name in names:
        getattr(pmadvise, name)

names = sorted(pmadvise._LAZY)
threads = [threading.Thread(target=use, args=[names[i:] + names[:i]]) for i in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(max(most), set(names) <= set(vars(pmadvise)))
"""


def test_first_use_from_several_threads() -> None:
    """One module at a time is loaded, whoever asks for a name first."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USES],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["1", "True"]

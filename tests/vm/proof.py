"""Proofs in a guest: a line a check, as the selftest prints them, and its last line."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def require(is_true: object, what: object) -> None:
    """Raise unless it is true; `python -O` has no assert."""
    if not is_true:
        raise AssertionError(what)


def refused(kind: type[OSError], ask: Callable[[], object], *words: str) -> str:
    """Ask, and return what the refusal says: of that kind, and with these words."""
    try:
        ask()
    except kind as error:
        require(all(word in str(error) for word in words), error)
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def run(checks: Iterable[tuple[str, Callable[[], str]]]) -> bool:
    """Run checks, and print what came of each; return whether all passed."""
    passed = failed = 0
    for name, check in checks:
        try:
            print(f"ok {name} - {check()}", flush=True)
            passed += 1
        except Exception:
            traceback.print_exc()
            print(f"not ok {name}", flush=True)
            failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return failed == 0


def experiment(name: str, runs: str) -> bool:
    """Run an experiment of docs/examples/pressured; return whether that worked."""
    command = [sys.executable, "/cell/pressured/experiments", name, "--runs", runs]
    command += ["--directory", "/tmp"]
    # busybox's swapon, which comes first, knows no priorities
    path = {"PATH": f"/usr/sbin:{os.environ['PATH']}"}
    done = subprocess.run(  # not to the console, which is narrow
        command,
        env={**os.environ, **path},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(done.stdout)
    is_done = done.returncode == 0
    print(f"{int(is_done)} passed, {int(not is_done)} failed, 0 skipped")
    return is_done


def main() -> int:
    """Run the checks of modules, or an experiment: `experiment NAME RUNS`."""
    (CGROUPS / "cgroup.subtree_control").write_text("+memory")
    if sys.argv[1] == "experiment":
        return 0 if experiment(*sys.argv[2:]) else 1
    modules = map(__import__, sys.argv[1:])
    return 0 if run(check for module in modules for check in module.checks()) else 1


if __name__ == "__main__":
    sys.exit(main())

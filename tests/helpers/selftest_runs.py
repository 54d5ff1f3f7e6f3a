"""Runs of the selftest, and what they printed."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from helpers.children import value_of_child
from pmadvise import selftest

WITHOUT_RIGHTS = {"host", "syscall", "maps", "resident", "hold_ptrace", "hold_sigstop"}
"""Checks that any user can make, on any kernel."""
_WORDS = ("ok", "FAIL", "skip")
_TIMEOUT = 600


class Run:
    """A selftest that has ended: its lines, verdict, counts and exit status."""

    def __init__(self, status: int, output: str, errors: str = "") -> None:
        self.status, self.output, self.errors = status, output, errors

    @property
    def _lines(self) -> list[str]:
        return self.output.split("\n")[:-1]

    @property
    def verdict(self) -> str:
        """The verdict, without "verdict: "; "" where there is none."""
        last = self._lines[-2:-1]
        before, _, text = last[0].partition("verdict: ") if last else ("", "", "")
        return "" if before else text

    @property
    def checks(self) -> dict[str, tuple[str, str]]:
        """Return name: (word, detail) of each line; the counts are compared."""
        *lines, counts = self._lines
        if self.verdict:
            lines.pop()
        checks = {}
        for line in lines:
            match = re.fullmatch(r"(ok|skip|FAIL) (\S+) - (.+)", line)
            assert match, line
            checks[match[2]] = match[1], match[3]
        words = [word for word, _ in checks.values()]
        numbers = [words.count(word) for word in _WORDS]
        assert counts == "{} passed, {} failed, {} skipped".format(*numbers)
        return checks

    def _with(self, word: str) -> dict[str, str]:
        return {name: why for name, (w, why) in self.checks.items() if w == word}

    @property
    def passed(self) -> set[str]:
        """The checks that passed."""
        return set(self._with("ok"))

    @property
    def skipped(self) -> dict[str, str]:
        """The checks that were skipped, and why."""
        return self._with("skip")

    @property
    def failed(self) -> dict[str, str]:
        """The checks that failed, and why."""
        return self._with("FAIL")


def run(*arguments: str, program: tuple[str, ...] = (), **popen: Any) -> Run:
    """Run the selftest as a user does."""
    done = subprocess.run(
        [*program, sys.executable, "-m", "pmadvise.selftest", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
        **popen,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def run_here(*arguments: str, before: Callable[[], object] | None = None) -> Run:
    """Run the selftest, loaded before `before` is called, in this process."""
    main = selftest.main
    if before is not None:
        before()
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = main(list(arguments))
    return Run(status, output.getvalue())


def run_with(give_up: Callable[[], object], *arguments: str) -> Run:
    """Run the selftest in a child that gives up rights first."""
    done: Run = value_of_child(
        lambda: run_here("--size", "4", *arguments, before=give_up)
    )
    return done

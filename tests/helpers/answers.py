"""What support() answers about a target, beside the exceptions of the calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pmadvise
from helpers.children import value_of_child
from helpers.targets import PAGE
from pmadvise import Advice, Answer, Process, TargetSupport


class Refusal(NamedTuple):
    """An exception that a call raised."""

    kind: str
    errno: int | None
    text: str

    def agrees_with(self, answer: Answer) -> bool:
        """Return whether errno, reason and remedy are those of the answer."""
        return self.errno == answer.errno and str(answer) in self.text


class Asked(NamedTuple):
    """The answer about a target, and the calls that were refused."""

    target: TargetSupport
    refused: dict[str, Refusal]


def target_support(target: int | Process) -> TargetSupport:
    """Return what support() answers about a target."""
    found = pmadvise.support(target).target
    assert found is not None
    return found


def ask(pid: int) -> Asked:
    """Ask support() about a process by ID and by handle, and try each call."""
    with Process(pid) as process:
        answer = target_support(process)
        assert answer == target_support(pid)
        calls: dict[str, Callable[[], object]] = {
            "process_madvise": lambda: pmadvise.process_madvise(
                process, [], Advice.COLD
            ),
            "check": lambda: process.check(Advice.COLD),
            "advise": lambda: process.advise([(0, PAGE)], Advice.COLD),
        }
        refused = {}
        for name, call in calls.items():
            try:
                call()
            except OSError as error:
                refused[name] = Refusal(type(error).__name__, error.errno, str(error))
    return Asked(answer, refused)


def ask_with(give_up: Callable[[], object], pid: int) -> Asked:
    """Ask in a child that gives up rights first."""

    def restricted() -> Asked:
        give_up()
        return ask(pid)

    found: Asked = value_of_child(restricted)
    return found

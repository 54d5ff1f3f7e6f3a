"""Which right support() names as missing: the same text as in the exceptions."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from helpers import proc
from helpers.answers import Asked, Refusal, ask, ask_with
from helpers.children import value_of_child
from helpers.namespaces import mount_proc, unshare_users
from helpers.privileges import (
    CAP_DAC_READ_SEARCH,
    CAP_PERFMON,
    CAP_SYS_ADMIN,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    become_nobody,
    become_nobody_with,
    drop_capabilities,
)
from helpers.targets import Target
from helpers.waiting import wait_for_state

from pmadvise import Process, TargetSupport, support

pytestmark = pytest.mark.needs_root

OTHER_USER = 5


def drop_ptrace() -> None:
    """Give up every capability that gives ptrace read access."""
    drop_capabilities(CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON)


def become_other_user_without_ptrace() -> None:
    """Become the user OTHER_USER, who has every capability but those for ptrace."""
    drop_ptrace()
    os.setgroups([])
    os.setresgid(OTHER_USER, OTHER_USER, OTHER_USER)
    os.setresuid(OTHER_USER, OTHER_USER, OTHER_USER)


def hide_proc() -> None:
    """Become nobody, from whom /proc hides other users' processes."""
    mount_proc("hidepid=2")
    become_nobody()


@pytest.mark.parametrize(
    ("give_up", "by", "refused"),
    [
        (become_nobody, "ptrace", {"process_madvise", "check", "advise"}),
        (drop_ptrace, "ptrace", {"process_madvise", "check", "advise"}),
        (
            lambda: drop_capabilities(CAP_SYS_NICE),
            "capability",
            {"process_madvise", "check", "advise"},
        ),
        pytest.param(
            unshare_users,
            "ptrace",
            {"process_madvise", "check", "advise"},
            marks=pytest.mark.needs_user_namespace,
        ),
        pytest.param(
            hide_proc,
            "proc",
            {"process_madvise", "check", "advise"},
            marks=pytest.mark.needs_mounts,
        ),
    ],
    ids=["nobody", "no_ptrace", "no_nice", "user_namespace", "hidepid"],
)
def test_exceptions_and_answer(
    target: Target, give_up: Callable[[], object], by: str, refused: set[str]
) -> None:
    """Errno, reason and remedy are the same in each exception and in support()."""
    asked = ask_with(give_up, target.pid)
    assert asked.target.may.refused_by == by
    assert {
        name: refusal.agrees_with(asked.target.may)
        for name, refusal in asked.refused.items()
    } == dict.fromkeys(refused, True)


def test_exceptions_and_answer_of_a_zombie(target: Target) -> None:
    """The reason of ESRCH is the same too."""
    target.popen.kill()
    wait_for_state(target.pid, "Z")
    _require_agreement(ask(target.pid))


def test_exceptions_and_answer_of_a_kernel_thread() -> None:
    """A kernel thread reads the same everywhere."""
    _require_agreement(ask(proc.kthreadd()))


def test_exceptions_and_answer_of_a_reaped_process(target: Target) -> None:
    """A process that has gone reads the same in check() and in support()."""
    with Process(target.pid) as process:
        target.kill()
        found = support(process).target
        assert found is not None
        with pytest.raises(ProcessLookupError) as raised:
            process.check(20)
    text = str(raised.value)
    assert Refusal("", raised.value.errno, text).agrees_with(found.may)


def _require_agreement(asked: Asked) -> None:
    answer = asked.target.may
    assert answer.reason
    assert [one for one in asked.refused.values() if not one.agrees_with(answer)] == []
    assert set(asked.refused) == {"process_madvise", "check", "advise"}


def test_other_user_is_named(target: Target) -> None:
    """The user of the target is named, and the caller's."""
    may = ask_with(become_nobody, target.pid).target.may
    assert "it belongs to another user (uid 0, the caller's is 65534)" in may.reason
    assert may.remedy.startswith("run as its user, or add CAP_SYS_PTRACE")


def test_target_that_is_not_dumpable(target: Target) -> None:
    """A target that has changed its user is not dumpable, which its files show."""
    identity = f"{OTHER_USER}, {OTHER_USER}, {OTHER_USER}"
    target.run(f"[os.setresgid({identity}), os.setresuid({identity})]")
    may = ask_with(become_other_user_without_ptrace, target.pid).target.may
    assert "it is not dumpable" in may.reason
    assert "PR_SET_DUMPABLE, 1), or add CAP_SYS_PTRACE" in may.remedy


def test_target_of_root_that_is_not_dumpable(target: Target) -> None:
    """Of root's own that is not shown, and the capability is named."""
    target.run("libc.prctl(4, 0, 0, 0, 0)")  # PR_SET_DUMPABLE
    may = ask_with(drop_ptrace, target.pid).target.may
    assert (may.refused_by, "CAP_SYS_PTRACE" in may.remedy) == ("ptrace", True)


def test_target_with_more_capabilities(target: Target) -> None:
    """A capability that the target has and the caller lacks is named."""
    may = ask_with(drop_ptrace, target.pid).target.may
    assert "has capabilities that the caller lacks (CAP_" in may.reason


def test_daemon_without_dac_read_search(target: Target) -> None:
    """CAP_SYS_NICE and CAP_SYS_PTRACE are enough to advise, but not to see pages."""
    asked = ask_with(
        lambda: become_nobody_with(CAP_SYS_NICE, CAP_SYS_PTRACE), target.pid
    )
    assert (bool(asked.target.may), asked.refused) == (True, {})
    assert bool(asked.target.pages) is False
    assert "CAP_DAC_READ_SEARCH is missing" in asked.target.pages.reason
    assert "docker run --cap-add=DAC_READ_SEARCH" in asked.target.pages.remedy


def test_daemon_with_dac_read_search(target: Target) -> None:
    """With CAP_DAC_READ_SEARCH the pages can be seen as well."""
    asked = ask_with(
        lambda: become_nobody_with(CAP_SYS_NICE, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH),
        target.pid,
    )
    assert (bool(asked.target.may), bool(asked.target.pages)) == (True, True)


def test_pages_read_as_the_exception(target: Target) -> None:
    """resident() raises what support() answers about pages."""

    def daemon() -> tuple[TargetSupport | None, int | None, str]:
        become_nobody_with(CAP_SYS_NICE, CAP_SYS_PTRACE)
        seen = support(target.pid).target
        try:
            with Process(target.pid) as process:
                process.resident()
        except OSError as error:
            return seen, error.errno, str(error)
        return seen, None, ""

    seen, number, text = value_of_child(daemon)
    assert Refusal("", number, text).agrees_with(seen.pages)


def test_own_target_of_nobody_shows_its_pages() -> None:
    """A process of the same user needs no CAP_DAC_READ_SEARCH."""

    def nobody() -> bool:
        become_nobody_with(CAP_SYS_NICE)
        seen = support(os.getpid()).target
        assert seen is not None
        return bool(seen.pages)

    assert value_of_child(nobody) is True

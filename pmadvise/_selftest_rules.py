"""Checks of the selftest: what is refused, cut short, or ends on the way; holds."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

import pmadvise
from pmadvise import IOV_MAX, PAGE_SIZE, Advice, Process, _host
from pmadvise._selftest_child import Child, Skip, cgroup_for
from pmadvise._selftest_effects import LATE, SMALL, mib, permitted, settle, whole

NOBODY = 65534
_LARGE = 3 << 30
_STEPS = 50


def _expect(
    what: str, error: type[Exception], number: int, act: Callable[[], object]
) -> None:
    """Raise AssertionError unless `act` raises that error."""
    try:
        found = act()
    except error as raised:
        if number and getattr(raised, "errno", None) != number:
            raise AssertionError(f"{what}: {raised!r}") from raised
        if not str(raised):
            raise AssertionError(f"{what}: {raised!r} says nothing") from raised
        return
    raise AssertionError(f"{what}: nothing is raised, {found!r} is returned")


def _referenced(child: Child, address: int, size: int) -> int:
    return int(child.ask("smaps", address, size, "Referenced"))


def check_errors(size: int) -> str:
    """See each wrong call raise its own error."""
    call, one = pmadvise.process_madvise, pmadvise.process_madvise_range
    with Child() as child:
        permitted(child)
        fd, address = child.process.fileno(), child.ask("map", 4 * PAGE_SIZE)
        hole = address + 4 * PAGE_SIZE
        child.ask("unmap", hole, PAGE_SIZE)
        page = [(address, PAGE_SIZE)]
        cases: list[tuple[str, type[Exception], int, Callable[[], object]]] = [
            ("no pidfd", OSError, errno.EBADF, lambda: call(-1, page, Advice.COLD)),
            ("flags", OSError, errno.EINVAL, lambda: call(fd, page, Advice.COLD, 1)),
            (
                "DONTNEED for another process",
                OSError,
                errno.EINVAL,
                lambda: call(fd, page, Advice.DONTNEED),
            ),
            (
                "DONTNEED by Process",
                ValueError,
                0,
                lambda: child.process.advise(page, Advice.DONTNEED),
            ),
            ("unaligned", ValueError, 0, lambda: one(fd, address + 1, 1, Advice.COLD)),
            (
                "a hole",
                OSError,
                errno.ENOMEM,
                lambda: one(fd, hole, PAGE_SIZE, Advice.COLD),
            ),
            (
                "a negative length",
                ValueError,
                0,
                lambda: call(fd, [(address, -1)], Advice.COLD),
            ),
        ]
        for case in cases:
            _expect(*case)
        advised = call(fd, page, Advice.COLD)
        if advised != PAGE_SIZE:
            raise AssertionError(f"{advised} of one page advised")
        child.kill()
        _expect(
            "a zombie",
            ProcessLookupError,
            errno.ESRCH,
            lambda: call(fd, page, Advice.COLD),
        )
    return f"{len(cases) + 1} wrong calls, each with its own error"


def check_partial(size: int) -> str:
    """See a vector with a hole in its middle stop there, and a Report go on."""
    with Child() as child:
        permitted(child)
        address = child.ask("map", SMALL)
        third = SMALL // 4
        child.ask("unmap", address + third, third)
        parts = [
            (address, third),
            (address + third, third),
            (address + 2 * third, 2 * third),
        ]
        advised = pmadvise.process_madvise(child.process, parts, Advice.COLD)
        if advised != third:
            raise AssertionError(
                f"{advised} bytes advised before the hole, not {third}"
            )
        report = child.process.cold(parts)
        skipped = [(skip.address, skip.length, skip.errno) for skip in report.skipped]
        if (report.advised, skipped) != (
            3 * third,
            [(address + third, third, errno.ENOMEM)],
        ):
            raise AssertionError(f"of {parts} the account is {report}")
    return "the call stops at a hole, advise() goes on and reports it"


def check_hole(size: int) -> str:
    """See a hole inside a range be skipped, and what lies around it advised."""
    with Child() as child:
        permitted(child)
        address = child.ask("map", SMALL)
        middle = address + SMALL // 2
        child.ask("unmap", middle, PAGE_SIZE)
        settled = settle(
            lambda: _skipped(
                child.process, address, SMALL, [(middle, PAGE_SIZE, errno.ENOMEM)]
            ),
            lambda: _referenced(child, address, SMALL) <= LATE,
        )
        if not settled:
            left = _referenced(child, address, SMALL)
            raise AssertionError(f"around the hole {left} of {SMALL} stay Referenced")
    return f"1 page of {mib(SMALL)} skipped with ENOMEM, the rest advised"


def _skipped(
    process: Process, address: int, size: int, expected: list[tuple[int, int, int]]
) -> None:
    report = process.cold([(address, size)])
    found = [(skip.address, skip.length, skip.errno) for skip in report.skipped]
    left = size - sum(length for _, length, _ in expected)
    if (found, report.advised, report.ended) != (expected, left, "complete"):
        raise AssertionError(f"{expected} should be skipped: {report}")


def check_locked(size: int) -> str:
    """See a locked mapping be skipped, and left out where no ranges are given."""
    with Child() as child:
        permitted(child)
        address = child.ask("map", SMALL)
        locked = child.ask("map", PAGE_SIZE)
        try:
            child.ask("lock", locked, PAGE_SIZE)
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.EPERM, errno.EAGAIN):
                raise
            raise Skip(
                f"mlock(2): {error.strerror}: raise RLIMIT_MEMLOCK (ulimit -l)"
            ) from None
        _skipped(child.process, locked, PAGE_SIZE, [(locked, PAGE_SIZE, errno.EINVAL)])
        reports = []
        settled = settle(
            lambda: reports.append(child.process.cold()),
            lambda: _referenced(child, address, SMALL) <= LATE,
        )
        if not settled or reports[-1].skipped or reports[-1].advised < SMALL:
            raise AssertionError(f"without ranges the account is {reports[-1]}")
    return "a locked page is skipped with EINVAL, and left out by default"


def check_ranges(size: int) -> str:
    """See 1,025 ranges be too many for a call, and none for advise()."""
    with Child() as child:
        permitted(child)
        first = child.ask("map", PAGE_SIZE)
        address = child.ask("map", SMALL)
        # What is seen depends on the last.
        pairs = [*[(first, PAGE_SIZE)] * IOV_MAX, (address, SMALL)]
        _expect(
            f"{len(pairs)} ranges",
            ValueError,
            0,
            lambda: pmadvise.process_madvise(child.process, pairs, Advice.COLD),
        )
        settled = settle(
            lambda: whole(child.process.cold(pairs), IOV_MAX * PAGE_SIZE + SMALL),
            lambda: _referenced(child, address, SMALL) <= LATE,
        )
        if not settled:
            raise AssertionError(f"range {len(pairs)} was not advised")
    return f"{len(pairs)} ranges advised"


def check_large(size: int) -> str:
    """See more than 2 GiB be too much for a call, and nothing for advise()."""
    with Child() as child:
        permitted(child)
        try:
            start = child.ask("reserve", _LARGE)
        except OSError as error:
            raise Skip(
                f"{mib(_LARGE)} of addresses can't be mapped ({error.strerror}): raise "
                "RLIMIT_AS (ulimit -v), or run a 64-bit Python"
            ) from None
        address = start + _LARGE - SMALL  # all that is touched, at the very end
        child.ask("fill", address, SMALL)
        _expect(
            f"{_LARGE} bytes",
            ValueError,
            0,
            lambda: pmadvise.process_madvise_range(
                child.process, start, _LARGE, Advice.COLD
            ),
        )
        settled = settle(
            lambda: whole(child.process.cold([(start, _LARGE)]), _LARGE),
            lambda: _referenced(child, address, SMALL) <= LATE,
        )
        if not settled:
            raise AssertionError("the end of the range was not advised")
    return f"{_LARGE >> 30} GiB in one range advised, to its end"


def check_stranger(size: int) -> str:
    """See another user's process, and one without CAP_SYS_NICE, be refused."""
    if os.geteuid() != 0:
        return _check_stranger_of_root()
    with Child() as target, Child() as asking:
        permitted(target)
        found = _ask_as_nobody(asking, "check", target.pid, Advice.COLD)
        if not found["errno"] == found["said"] == errno.EACCES:
            raise AssertionError(f"nobody may advise root's process: {found}")
        with Child() as same:
            _ask_as_nobody(same, "pid")
            found = asking.ask("check", same.pid, Advice.COLD)
        if not found["errno"] == found["said"] == errno.EPERM:
            raise AssertionError(f"nobody needs no CAP_SYS_NICE: {found}")
    return "refused: another user (EACCES), the same without CAP_SYS_NICE (EPERM)"


def _ask_as_nobody(child: Child, *question: object) -> dict[str, object]:
    try:
        found: dict[str, object] = child.ask("as", NOBODY, *question)
    except OSError as error:
        raise Skip(
            f"a child can't become user {NOBODY} ({error.strerror}): run with "
            "CAP_SETUID and CAP_SETGID, in a user namespace that has this user"
        ) from None
    return found


def _check_stranger_of_root() -> str:
    said = pmadvise.support(1).target
    if said is None or said.may.ok or said.may.refused_by == "memory":
        raise Skip("process 1 is no stranger here: run as root, to make one")
    if said.may.refused_by in ("seccomp", "kernel"):
        raise Skip(str(said.may))
    try:
        with Process(1) as process:
            process.cold([(0, PAGE_SIZE)])
    except PermissionError as error:
        if error.errno == said.may.errno:
            return f"process 1 is refused ({errno.errorcode[error.errno or 0]})"
        raise AssertionError(
            f"support() says {said.may}, and cold() {error}"
        ) from error
    raise AssertionError(f"support() says {said.may}, and process 1 was advised")


def check_exec(size: int) -> str:
    """See that after an exec nothing old is advised."""
    with Child() as child:
        permitted(child)
        address = child.ask("map", SMALL)
        space = child.process.maps()
        child.ask("exec")
        report = child.process.cold([(address, SMALL)])
        if (report.ended, report.advised, space.stale) != ("exec", 0, True):
            raise AssertionError(f"stale is {space.stale}, and the account {report}")
        child.process.maps()
        whole(child.process.cold(), child.process.cold().requested)
    return "noticed: nothing advised before maps() is called anew"


def check_exit(size: int) -> str:
    """See a target's end, between calls and before the first."""
    with Child() as child:
        permitted(child)
        address = child.ask("map", SMALL)

        def kill(done: int, total: int) -> None:
            if child.process.alive:
                child.kill()

        report = child.process.cold(
            [(address, SMALL)], max_stall=1e-9, on_progress=kill
        )
        if report.ended != "exited" or not 0 < report.advised < SMALL:
            raise AssertionError(
                f"it was killed meanwhile, and the account is {report}"
            )
        if child.process.alive or not child.process.wait(10):
            raise AssertionError("it was killed, and wait() does not say so")
        _expect(
            "advising it",
            ProcessLookupError,
            errno.ESRCH,
            lambda: child.process.cold([(address, SMALL)]),
        )
    return f"noticed after {mib(report.advised)} of {mib(SMALL)}"


def _check_hold(child: Child, method: str) -> str:
    """See a child make no step while another one does."""
    if not _host.proc_is_of_own_namespace():
        raise Skip(
            "/proc shows another pid namespace, where no process can be held: "
            "mount -t proc proc /proc"
        )
    with Child() as witness:
        witness.ask("count")
        child.ask("count")

        def goes_on(one: Child) -> None:
            before, deadline = one.steps(), time.monotonic() + 60
            while one.steps() < before + _STEPS:
                if time.monotonic() > deadline:
                    raise AssertionError(f"process {one.pid} does not run on")
                time.sleep(0.001)

        goes_on(child)
        with child.process.hold(method, timeout=30) as held:
            before = child.steps()
            goes_on(witness)
            after = child.steps()
        if after != before or held.broken or held.method != method:
            raise AssertionError(
                f"{after - before} steps while held by {held.method}: {held.broken}"
            )
        goes_on(child)
    return f"no step in {_STEPS} of another process, and it runs on"


def check_hold_ptrace(size: int) -> str:
    """Hold a child by ptrace."""
    with Child() as child:
        try:
            return _check_hold(child, "ptrace")
        except PermissionError as error:
            scope = _host.ptrace_scope() or 0
            if scope >= 2:
                mend = f"kernel.yama.ptrace_scope is {scope}: sysctl it to 0 or 1"
            elif pmadvise.support().seccomp == "filter":
                mend = "a seccomp filter may refuse ptrace: add CAP_SYS_PTRACE"
            else:
                raise
            raise Skip(f"{error.strerror}: {mend}") from None


def check_hold_freezer(size: int) -> str:
    """Hold a child by the freezer of a cgroup of its own."""
    found = [
        one
        for one in _host.cgroups()
        if one.version == 2 or "freezer" in one.controllers
    ]
    if not found:
        raise Skip(
            "no cgroup freezer is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        )
    # As hold() does: version 2 before 1.
    cgroup = min(found, key=lambda one: -one.version)
    with (
        Child() as child,
        cgroup_for(child.pid, cgroup.path, "pmadvise-selftest"),
    ):
        said = _check_hold(child, "freezer")
    return f"cgroup v{cgroup.version}: {said}"


def check_hold_sigstop(size: int) -> str:
    """Hold a child by SIGSTOP."""
    with Child() as child:
        return _check_hold(child, "sigstop")

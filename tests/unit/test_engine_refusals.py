"""Errnos of the whole call and of one range, on a scripted kernel."""

from __future__ import annotations

import errno

import pytest
from helpers.reports import skips
from helpers.scripted_kernel import (
    USER_END,
    Area,
    ScriptedKernel,
    advise,
    engine_of,
    pages,
    report_of,
    run,
)

from pmadvise import PAGE_SIZE, Advice
from pmadvise._reasons import of_range


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOSYS])
def test_errno_of_the_first_call(number: int) -> None:
    """The kernel's refusal of everything is raised."""
    kernel = ScriptedKernel([Area(0, pages(10), number)], probe_answer=-number)
    with pytest.raises(OSError, match="scripted") as caught:
        advise(kernel, [(0, pages(10))])
    assert caught.value.errno == number


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_permission_lost_later(number: int) -> None:
    """Permission that is lost after some bytes were advised ends the work."""
    kernel = ScriptedKernel(
        [Area(0, pages(10)), Area(pages(10), pages(20), number)], probe_answer=-number
    )
    report = advise(kernel, [(0, pages(20))])
    assert (report.ended, report.advised) == ("refused", pages(10))
    assert (report.not_tried, report.skipped) == (pages(10), ())


def test_errno_of_a_later_call() -> None:
    """Any other refusal of everything is raised later too, and the account is true."""
    kernel = ScriptedKernel(
        [Area(0, pages(10)), Area(pages(10), pages(20), errno.ENOSYS)],
        probe_answer=-errno.ENOSYS,
    )
    engine = engine_of(kernel, [(0, pages(20))])
    with pytest.raises(OSError, match="scripted") as caught:
        run(engine)
    report = report_of(kernel, engine, "cancelled")
    assert caught.value.errno == errno.ENOSYS
    assert (report.advised, report.not_tried) == (pages(10), pages(10))


@pytest.mark.parametrize(
    "number", [errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EPERM, errno.EBADF]
)
def test_errno_of_one_range(number: int) -> None:
    """An errno that the probe does not confirm is of the range alone."""
    kernel = ScriptedKernel([Area(0, pages(1), number), Area(pages(1), pages(2))])
    report = advise(kernel, [(0, pages(2))])
    assert skips(report) == [(0, PAGE_SIZE, number)]
    assert report.skipped[0].reason
    assert report.advised == PAGE_SIZE


@pytest.mark.parametrize("advice", [a for a in Advice if a.remote], ids=str)
@pytest.mark.parametrize(
    "number", [0, errno.EAGAIN, errno.EBUSY, errno.EFAULT, errno.EINVAL, errno.ENOMEM]
)
def test_a_reason_of_its_own(advice: Advice, number: int) -> None:
    """Each errno of a range has a reason of its own, which no other errno has."""
    others = {errno.EAGAIN, errno.EBUSY, errno.EFAULT, errno.EINVAL, errno.ENOMEM, 0}
    reasons = {of_range(advice, other) for other in others - {number}}
    assert of_range(advice, number) not in reasons | {"", "Success"}


def test_busy_memory_of_collapse() -> None:
    """EBUSY of COLLAPSE names the limit of the target's cgroup."""
    assert "cgroup" in of_range(Advice.COLLAPSE, errno.EBUSY)


@pytest.mark.parametrize("advice", [Advice.PAGEOUT, Advice.COLLAPSE])
def test_pinned_memory(advice: Advice) -> None:
    """EAGAIN does not promise that trying again helps: memory may be pinned."""
    assert "pin" in of_range(advice, errno.EAGAIN)


@pytest.mark.parametrize(
    ("addresses", "asked"),
    [
        ([pages(9), pages(5), pages(9), pages(1)], [pages(9)]),
        ([USER_END + pages(3), USER_END + pages(7)], [USER_END + pages(3)]),
        ([pages(9), USER_END, pages(3), USER_END], [pages(9), USER_END]),
    ],
    ids=["inside", "outside", "on both sides"],
)
def test_user_space_is_asked_for_once(
    monkeypatch: pytest.MonkeyPatch, addresses: list[int], asked: list[int]
) -> None:
    """A hole that is known to lie in user space, or not to, costs no question."""
    kernel, questions = ScriptedKernel(), list[int]()

    def is_user_address(address: int) -> bool:
        questions.append(address)
        return address < USER_END

    monkeypatch.setattr(kernel, "is_user_address", is_user_address)
    report = advise(kernel, [(address, PAGE_SIZE) for address in addresses])
    assert questions == asked
    assert [skip.errno for skip in report.skipped] == [
        errno.ENOMEM if address < USER_END else errno.EFAULT for address in addresses
    ]

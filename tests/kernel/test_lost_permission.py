"""A target that its caller may no longer read: never taken for an exec."""

from __future__ import annotations

import pytest
from helpers.children import value_of_child
from helpers.privileges import CAP_SYS_NICE, NOBODY, become_nobody_with
from helpers.public_calls import READS
from helpers.targets import GIB, MIB, PAGE, Target

from pmadvise import Advice, Process

pytestmark = pytest.mark.needs_root

HIDE = "prctl(PR_SET_DUMPABLE, 0)"
SHOW = "prctl(PR_SET_DUMPABLE, 1)"


@pytest.fixture
def nobody(target: Target) -> Target:
    """A target of the user nobody, that may be read by that user."""
    target.run(f"become({NOBODY})")
    return target


@pytest.mark.parametrize("name", READS)
def test_lost_before(nobody: Target, name: str) -> None:
    """Permission that is lost between two methods is PermissionError."""

    def look() -> str:
        become_nobody_with(CAP_SYS_NICE)
        with Process(nobody.pid) as process:
            process.maps()
            nobody.run(HIDE)
            with pytest.raises(PermissionError) as caught:
                READS[name](process)
            return str(caught.value)

    assert "not dumpable" in value_of_child(look)


def test_a_snapshot_is_not_stale(nobody: Target) -> None:
    """A snapshot of a target that may no longer be read is not stale."""

    def look() -> bool:
        become_nobody_with(CAP_SYS_NICE)
        with Process(nobody.pid) as process:
            space = process.maps()
            nobody.run(HIDE)
            return space.stale

    assert value_of_child(look) is False


def test_changes_are_refused(nobody: Target) -> None:
    """The changes since a snapshot can't be known then: PermissionError."""

    def look() -> None:
        become_nobody_with(CAP_SYS_NICE)
        with Process(nobody.pid) as process:
            space = process.maps()
            nobody.run(HIDE)
            with pytest.raises(PermissionError):
                space.changed()

    value_of_child(look)


@pytest.mark.parametrize("max_stall", [None, 0.05])
def test_lost_while_advising(nobody: Target, max_stall: float | None) -> None:
    """Permission that is lost between two calls ends the work: "refused"."""
    address = nobody.reserved(4 * GIB)

    def advise() -> tuple[str, bool, bool]:
        become_nobody_with(CAP_SYS_NICE)
        with Process(nobody.pid) as process:
            report = process.advise(
                [(address, 4 * GIB)],
                Advice.COLD,
                max_stall=max_stall,
                on_progress=lambda done, total: nobody.run(HIDE),
            )
        account = report.advised + report.not_tried == report.requested
        return report.ended, account, report.advised > 0

    assert value_of_child(advise) == ("refused", True, True)


def test_given_back(nobody: Target) -> None:
    """Once the target may be read again, everything works as before."""
    address = nobody.filled(MIB)

    def look() -> int:
        become_nobody_with(CAP_SYS_NICE)
        with Process(nobody.pid) as process:
            nobody.run(HIDE)
            with pytest.raises(PermissionError):
                process.cold()
            nobody.run(SHOW)
            return process.advise([(address, MIB)], Advice.COLD).advised

    assert value_of_child(look) == MIB


def test_opened_while_hidden(nobody: Target) -> None:
    """A handle that was opened while the target was hidden works later."""
    address = nobody.filled(PAGE)

    def look() -> int:
        become_nobody_with(CAP_SYS_NICE)
        nobody.run(HIDE)
        with Process(nobody.pid) as process:
            nobody.run(SHOW)
            return process.advise([(address, PAGE)], Advice.COLD).advised

    assert value_of_child(look) == PAGE

"""The account of an advise(), by itself."""

from __future__ import annotations

import errno

import pytest
from helpers.scripted_kernel import pages

from pmadvise import Advice, Ranges, Skip
from pmadvise._advise.account import Account
from pmadvise._reasons import of_range

THREE = [(0, pages(1)), (pages(1), pages(2)), (pages(3), pages(1))]


def account_of(advice: Advice = Advice.COLD) -> Account:
    """Return an account of three ranges that touch, of which nothing is advised."""
    return Account(Ranges(THREE), advice, lambda: 0)


def test_each_range_has_its_skip() -> None:
    """Skips of one errno that touch stay apart where other ranges were asked for."""
    account = account_of()
    for address, length in THREE:
        account.skip(address, length, errno.ENOMEM)
    assert [(skip.address, skip.length) for skip in account.skipped] == THREE
    assert account.is_complete


@pytest.mark.parametrize("advice", [Advice.COLD, Advice.COLLAPSE])
def test_skips_of_a_range_are_joined(advice: Advice) -> None:
    """Skips of one range and errno that touch are one, with the advice's reason."""
    account, number = account_of(advice), errno.EINVAL
    for address in (0, pages(1), pages(2)):
        account.skip(address, pages(1), number)
    reason = of_range(advice, number)
    assert account.skipped == [
        Skip(0, pages(1), number, reason),
        Skip(pages(1), pages(2), number, reason),
    ]


def test_skips_of_two_ranges_stay_apart() -> None:
    """A skip that touches one of the range before is its own, whatever lies between."""
    advised = [0]
    ranges = Ranges([(pages(1), pages(1)), (0, pages(3))])
    account = Account(ranges, Advice.COLD, lambda: advised[0])
    account.skip(pages(1), pages(1), errno.EINVAL)
    advised[0] = pages(2)  # the first two pages of the second range
    account.skip(pages(2), pages(1), errno.EINVAL)
    assert [(skip.address, skip.length) for skip in account.skipped] == [
        (pages(1), pages(1)),
        (pages(2), pages(1)),
    ]
    assert account.is_complete

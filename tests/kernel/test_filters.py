"""The filters that stand for older kernels: they bite, and they end with the test."""

from __future__ import annotations

import errno
import os

import pytest
from helpers.filters import (
    PAGEMAP_SCAN,
    PROCMAP_QUERY,
    run_test_without,
    without_ioctls,
)

from pmadvise._native.pagemap import PAGE_IS_PRESENT, pagemap_scan
from pmadvise._native.procmap_query import procmap_query


def query_self() -> int:
    """Return the result of PROCMAP_QUERY for this process."""
    fd = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return procmap_query(fd)
    finally:
        os.close(fd)


def scan_self() -> int:
    """Return 0, or the errno of PAGEMAP_SCAN for this process."""
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pagemap_scan(fd, [(0, 1 << 20)], PAGE_IS_PRESENT)
    except OSError as error:
        return error.errno or 0
    else:
        return 0
    finally:
        os.close(fd)


def test_procmap_query_is_refused() -> None:
    """Under its filter the C code finds no PROCMAP_QUERY."""
    seen: list[int] = []
    without_ioctls(lambda: seen.append(query_self()), PROCMAP_QUERY)
    assert seen == [-errno.ENOTTY]


def test_pagemap_scan_is_refused() -> None:
    """Under its filter the C code finds no PAGEMAP_SCAN."""
    seen: list[int] = []
    without_ioctls(lambda: seen.append(scan_self()), PAGEMAP_SCAN)
    assert seen == [errno.ENOTTY]


def test_only_that_ioctl_is_refused() -> None:
    """A filter refuses one ioctl and no other."""
    alone = query_self(), scan_self()
    seen: list[int] = []
    without_ioctls(lambda: seen.append(scan_self()), PROCMAP_QUERY)
    without_ioctls(lambda: seen.append(query_self()), PAGEMAP_SCAN)
    assert (seen[1], seen[0]) == alone


def test_a_filter_ends(request: pytest.FixtureRequest) -> None:
    """Behind a filtered function the ioctls are as before."""
    before = query_self(), scan_self()
    without_ioctls(lambda: None, PROCMAP_QUERY, PAGEMAP_SCAN)
    assert (query_self(), scan_self()) == before


@pytest.fixture
def old_kernel(request: pytest.FixtureRequest) -> None:
    run_test_without(request.node, PROCMAP_QUERY, PAGEMAP_SCAN)


@pytest.mark.usefixtures("old_kernel")
def test_a_whole_test_runs_filtered() -> None:
    """The fixture puts the body of a test under the filter."""
    assert (query_self(), scan_self()) == (-errno.ENOTTY, errno.ENOTTY)


def test_an_assertion_comes_through() -> None:
    """A filtered function that fails, fails the test."""

    def fail() -> None:
        raise AssertionError("inside")

    with pytest.raises(AssertionError, match="inside"):
        without_ioctls(fail, PROCMAP_QUERY)

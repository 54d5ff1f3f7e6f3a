"""csrc/page_idle.c: the pages that were not touched, by idle page tracking."""

from __future__ import annotations

from pmadvise._native.base import check, lib
from pmadvise._native.pagemap import Pages

PAGE_WATCHED: int = lib.PMADVISE_PAGE_WATCHED
"""A mark: whether the page is touched will be known at the next look."""
PAGE_IDLE: int = lib.PMADVISE_PAGE_IDLE
"""A mark: the page was not touched since it was set idle, by the last look."""


def page_idle_look(kpageflags_fd: int, bitmap_fd: int, pages: Pages) -> None:
    """Mark the pages that are watched, and those that are idle; set all of them idle.

    Raises:
        OSError: EPERM, the kernel hides frames; others of pread(2) and pwrite(2).
    """
    result = lib.pmadvise_page_idle_look(kpageflags_fd, bitmap_fd, pages.cdata, pages.n)
    check(result, "page_idle")

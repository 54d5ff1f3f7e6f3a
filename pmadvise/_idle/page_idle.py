"""Pages that were not touched, by idle page tracking: CONFIG_IDLE_PAGE_TRACKING.

Source: Documentation/admin-guide/mm/idle_page_tracking.rst. A bit of the bitmap is set
for a frame, and the kernel clears it once the page was touched. It moves with a page
that is moved, and is clear for one that is allocated. Huge pages have one bit.
"""

from __future__ import annotations

import errno
import os

from pmadvise._handle.mm import Mm
from pmadvise._idle.look import Look, private_memory
from pmadvise._native.base import PAGE_SIZE
from pmadvise._native.descriptor import Descriptor
from pmadvise._native.page_idle import PAGE_IDLE, PAGE_WATCHED, page_idle_look
from pmadvise._native.pagemap import Pages
from pmadvise._native.ranges import RangeArray
from pmadvise._origin import own
from pmadvise._proc.rights import capabilities, initial_namespace
from pmadvise._reasons.answer import YES, Answer
from pmadvise._reasons.idle import no_page_idle
from pmadvise.ranges import Ranges
from pmadvise.residency import Pagemap

BITMAP = "/sys/kernel/mm/page_idle/bitmap"
KPAGEFLAGS = "/proc/kpageflags"


class PageIdle:
    """A source with single pages; look() raises OSError if it can't be had."""

    name = "page_idle"
    grain = PAGE_SIZE

    def __init__(self, mm: Mm) -> None:
        self._mm = mm

    @staticmethod
    def answer() -> Answer:
        """Return whether this host has it, and the caller may use it."""
        try:
            for file in _open_files():
                file.close()
        except own(OSError) as error:
            return no_page_idle(error.errno or 0)
        is_admin = "CAP_SYS_ADMIN" in capabilities()
        if not is_admin or initial_namespace("user") is False:
            return no_page_idle(errno.EPERM)  # frames would be hidden
        return YES

    def look(self) -> Look:
        """Return the pages that are still idle, and set all idle."""
        mm = self._mm
        watched: list[RangeArray] = []
        idle: list[RangeArray] = []
        bitmap, kpageflags = _open_files()
        try:
            with Pagemap(mm) as pagemap:
                private, resident = private_memory(mm, pagemap)
                for pages in pagemap.exclusive_pages(private):
                    _look_at(pages, kpageflags, bitmap)
                    watched.append(pages.marked(PAGE_WATCHED))
                    idle.append(pages.marked(PAGE_IDLE))
        finally:
            bitmap.close()
            kpageflags.close()
        return Look(
            Ranges._of_array(RangeArray.joined(idle)),
            Ranges._of_array(RangeArray.joined(watched)),
            resident,
        )

    def close(self) -> None:
        """Leave the bits as they are: only who sets them reads them."""


def _look_at(pages: Pages, kpageflags: Descriptor, bitmap: Descriptor) -> None:
    try:
        page_idle_look(kpageflags.fd, bitmap.fd, pages)
    except own(OSError) as error:
        raise no_page_idle(error.errno or 0).error(BITMAP) from None


def _open_files() -> tuple[Descriptor, Descriptor]:
    """Open the bitmap and kpageflags."""
    bitmap = _open(BITMAP, os.O_RDWR)
    try:
        return bitmap, _open(KPAGEFLAGS)
    except BaseException:
        bitmap.close()
        raise


def _open(path: str, flags: int = 0) -> Descriptor:
    try:
        return Descriptor.open(path, flags=flags)
    except own(OSError) as error:
        raise no_page_idle(error.errno or 0).error(path) from None

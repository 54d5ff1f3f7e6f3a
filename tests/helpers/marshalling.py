"""A program that moves ranges, mappings and text between Python and C, and back.

It makes no call that valgrind does not know. At the end a child of it reads one element
past an array in C.
"""

from __future__ import annotations

import itertools
import os
import random
from array import array

from pmadvise import PAGE_SIZE, Ranges
from pmadvise._native.maps import VmaArray
from pmadvise._native.mm import MmFingerprint
from pmadvise._native.ranges import Batches, RangeArray
from pmadvise._native.read import status_read
from pmadvise._native.task import ThreadArray, task_list, task_status
from pmadvise._proc.files import read

ROUNDS = 40


def some_ranges(numbers: random.Random) -> Ranges:
    """Return ranges in any order, that overlap and may be empty."""
    return Ranges(
        (numbers.randrange(200) * PAGE_SIZE, numbers.randrange(9) * PAGE_SIZE)
        for _ in range(numbers.randrange(12))
    )


def some_vmas(numbers: random.Random) -> tuple[VmaArray, int]:
    """Return what a text of maps is parsed to, and how many bytes are mapped in it."""
    text, end, mapped = b"", 0, 0
    for _ in range(numbers.randrange(12)):
        start = end + numbers.randrange(3) * PAGE_SIZE
        end = start + numbers.randrange(1, 9) * PAGE_SIZE
        mapped += end - start
        path = numbers.choice([b"", b"[heap]", rb"/a\012b", b"/lib/\xff.so"])
        inode = numbers.randrange(2)
        text += b"%08x-%08x rw-p 0 00:00 %d %s\n" % (start, end, inode, path)
    fd = os.memfd_create("maps")
    os.write(fd, text)
    vmas = VmaArray.read(fd)
    os.close(fd)
    assert len(vmas) == text.count(b"\n")
    return vmas, mapped


def check_ranges(numbers: random.Random) -> None:
    """Set algebra, pieces, buffers and batches."""
    a, b = some_ranges(numbers), some_ranges(numbers)
    assert (a - b).total + (a & b).total == a.merged().total
    assert (a | b).total == a.merged().total + (b - a).total
    assert a.split(PAGE_SIZE).total == a.total
    assert Ranges.from_buffer(array("Q", itertools.chain(*a))) == a
    assert Ranges(list(a)) == a == Ranges.from_buffer(a.buffer)
    assert sum(a._array.overlap(b.merged()._array)) >= (a & b).total
    assert a[1:].total + a[:1].total == a.total
    blocks = a.merged()._array.blocks(b.merged()._array, 4 * PAGE_SIZE, PAGE_SIZE)
    assert blocks.total() <= a.merged().total
    batches, found = Batches(a._array, 0, len(a)), 0
    while vector := batches.next(4 * PAGE_SIZE, 2 * PAGE_SIZE, PAGE_SIZE, 3):
        found += vector.total()
    assert found == a.total


def check_maps(numbers: random.Random) -> None:
    """Mappings that are parsed, selected, cut and compared."""
    (vmas, mapped), (now, _) = some_vmas(numbers), some_vmas(numbers)
    fields = [vmas.get(i) for i in range(len(vmas))]
    assert sum(end - start for start, end, *_ in fields) == mapped
    assert vmas.select(0, 0, 0, None).total() == mapped
    assert vmas.select(0, 0, 0, b"*[.h]*").total() <= mapped
    assert vmas.changed(now).total() <= mapped
    assert vmas.changed(vmas).total() == 0
    ranges = some_ranges(numbers)
    pieces, is_mapped = vmas.cut(ranges._array)
    assert pieces.total() == ranges.total
    assert len(is_mapped) == len(pieces)


def check_proc() -> None:
    """Texts of /proc that are read and parsed in C."""
    proc = os.open("/proc/self", os.O_DIRECTORY)
    _, parent, _, threads_of_it, *_ = status_read(proc)
    assert parent == os.getppid()
    assert threads_of_it >= 1
    threads = task_list(proc)
    assert isinstance(threads, ThreadArray)
    assert task_status(proc, threads) == 0
    assert threads.threads()
    assert MmFingerprint(proc, os.getpid()).has_mm
    assert read("/proc/self/maps").count(b"\n") > 1
    os.close(proc)


def main() -> None:
    """Do it all, by numbers that are the same each time."""
    numbers = random.Random(1)
    for _ in range(ROUNDS):
        check_ranges(numbers)
        check_maps(numbers)
    check_proc()
    if (child := os.fork()) == 0:
        three = Ranges([(0, 1), (5, 1), (9, 1)])
        RangeArray(three._array.cdata, 4).total()
        os._exit(0)
    os.waitpid(child, 0)
    print(f"done {os.getpid()} {child}")


if __name__ == "__main__":
    main()

"""Snapshots of real processes: their mappings."""

from __future__ import annotations

import errno
import itertools
import os
import platform
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.children import in_child
from helpers.targets import PAGE, Target, map_at, new_file, vma_at

from pmadvise import Process, Ranges


def test_all_of_maps(target: Target, process: Process) -> None:
    """A snapshot of a process at rest has the lines of maps, one Vma each."""
    text = Path(f"/proc/{target.pid}/maps").read_bytes()
    lines = [line.split(maxsplit=5) for line in text.splitlines()]
    assert [
        (f"{v.start:08x}-{v.end:08x}", v.perms, f"{v.offset:08x}", str(v.inode), v.path)
        for v in process.maps()
    ] == [
        (
            parts[0].decode(),
            parts[1].decode(),
            parts[2].decode(),
            parts[4].decode(),
            os.fsdecode(parts[5] if parts[5:] else b""),
        )
        for parts in lines
    ]


@pytest.mark.parametrize(
    "name",
    [b"a b", b" a ", b"a\nb", rb"a\b", rb"a\040b", b"\xff\xfe", b"[heap]", b"*?"],
)
@pytest.mark.parametrize("deleted", [False, True])
def test_file(
    target: Target, process: Process, tmp_path: Path, name: bytes, deleted: bool
) -> None:
    """A file's path, device and inode are those of the file, unlinked or not."""
    path = os.fsencode(tmp_path) + b"/" + name
    address = new_file(target, path)
    stat = os.stat(path)
    if deleted:
        os.unlink(path)
    space = process.maps()
    vma = vma_at(space, address)
    text = os.fsdecode(path) + (" (deleted)" if deleted else "")
    assert (vma.path, vma.inode, vma.device) == (text, stat.st_ino, stat.st_dev)
    assert (vma.anonymous, vma.private, vma.offset) == (False, True, 0)
    assert list(space.select(path=vma.path)) == [(address, 4 * PAGE)]


def test_offset_and_sharing_of_a_file(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """The offset into a file is in bytes, and a shared mapping is not private."""
    path = tmp_path / "file"
    address = new_file(target, path, 8)
    map_at(target, address + 2 * PAGE, PAGE, path, 5 * PAGE, "SHARED")
    space = process.maps()
    vma = vma_at(space, address + 2 * PAGE)
    assert (vma.offset, vma.length, vma.private) == (5 * PAGE, PAGE, False)
    found = space.select(private=False, path=vma.path)
    assert list(found) == [(address + 2 * PAGE, PAGE)]


@pytest.mark.parametrize("prot", range(8))
def test_permissions(target: Target, process: Process, prot: int) -> None:
    """Permissions are as the target has asked for."""
    address = target.run(f"map({3 * PAGE}, prot={prot})")
    vma = vma_at(process.maps(), address)
    has = vma.readable, vma.writable, vma.executable
    expected = bool(prot & 1), bool(prot & 2), bool(prot & 4)
    if prot:  # with none it is one with the pages around it
        assert (vma.start, vma.length) == (address, 3 * PAGE)
    assert has == expected


def test_heap(target: Target, process: Process) -> None:
    """The heap is anonymous memory that ends where brk(2) has set it."""
    top = target.run("grow_heap(8 * PAGE)")
    (heap,) = process.maps().select(path="[heap]", anonymous=True, private=True)
    assert heap[0] < top - 8 * PAGE < sum(heap)


def test_stack(process: Process) -> None:
    """The stack is anonymous, private memory."""
    space = process.maps()
    (stack,) = space.select(path="[stack]")
    assert stack in list(space.select(anonymous=True, private=True, writable=True))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names as on x86_64")
@pytest.mark.parametrize("name", ["[vdso]", "[vvar]", "[vsyscall]"])
def test_pages_of_the_kernel(process: Process, name: str) -> None:
    """Pages of the kernel's have their name and are not anonymous memory."""
    space = process.maps()
    named = [vma for vma in space if vma.path == name]
    if not named and name == "[vsyscall]":
        pytest.skip("kernel: it maps no [vsyscall], vsyscall=none")
    assert [vma.anonymous for vma in named] == [False]
    assert list(space.select(path=name)) == [(named[0].start, named[0].length)]
    assert not list(space.select(path=name, anonymous=True))


@pytest.mark.parametrize("flags", ["PRIVATE", "SHARED"])
def test_named_anonymous_memory(target: Target, process: Process, flags: str) -> None:
    """Memory that the target has named has that name."""
    address = target.run(f"map({2 * PAGE}, flags={flags} | ANONYMOUS)")
    try:
        target.run(f"name_memory({address}, {2 * PAGE}, b'of the cache')")
    except RuntimeError as error:
        if f"({errno.EINVAL}," not in str(error):
            raise
        pytest.skip("kernel: built without CONFIG_ANON_VMA_NAME")
    space = process.maps()
    vma = vma_at(space, address)
    private = flags == "PRIVATE"
    kind = "anon" if private else "anon_shmem"
    assert (vma.path, vma.anonymous) == (f"[{kind}:of the cache]", private)
    assert list(space.select(path=vma.path)) == [(address, 2 * PAGE)]
    assert list(space.select(path=f"[{kind}:*]")) == [(address, 2 * PAGE)]


def test_thousands_of_vmas(target: Target, process: Process) -> None:
    """Every one of many VMAs is there, in the order of addresses."""
    area = target.map(20_000 * PAGE)
    target.run(f"[protect({area} + i * PAGE, PAGE, READ) for i in range(0, 20_000, 2)]")
    mine = Ranges([(area, 20_000 * PAGE)])
    found = process.maps().select(anonymous=True, writable=False)
    assert len(found & mine) == 10_000
    assert [a for a, _ in found & mine] == list(
        range(area, area + 20_000 * PAGE, 2 * PAGE)
    )


def test_several_threads_while_the_target_maps(
    target: Target, process: Process
) -> None:
    """Snapshots made at once of a busy target each have every VMA that stays."""
    area = target.map(3000 * PAGE)
    target.run(f"[protect({area} + i * PAGE, PAGE, READ) for i in range(0, 3000, 2)]")
    # Below the area, so that lines before its lines come and go.
    target.run(
        "forever(lambda: [unmap(a, PAGE) for a in [map(PAGE) for i in range(50)]])"
    )

    def look(_: int) -> bool:
        space = process.maps()
        found = list(space.select())
        stay = Ranges([(area, 3000 * PAGE)])
        in_order = all(a + n <= b for (a, n), (b, _) in itertools.pairwise(found))
        return in_order and len(space) > 3000 and (Ranges(found) & stay) == stay

    with ThreadPoolExecutor(4) as pool:
        assert Counter(pool.map(look, range(40))) == {True: 40}
    target.run("stop.acquire()")


def test_fork_reads_too(target: Target, process: Process) -> None:
    """A fork of the holder reads the target as its parent does, both at once."""
    space = process.maps()
    outcomes = []
    reader = threading.Thread(
        target=lambda: outcomes.append(in_child(lambda: list(process.maps())))
    )
    reader.start()
    mine = [list(process.maps()) for _ in range(50)]
    reader.join()
    assert outcomes[0].value == list(space)
    assert mine == [list(space)] * 50
    target.kill()
    assert in_child(lambda: space.stale).value is True


def test_of_the_caller_itself() -> None:
    """A process may look at itself."""
    with Process(os.getpid()) as process:
        space = process.maps()
        assert sys.executable in {vma.path for vma in space} or space.select(
            executable=True
        )
        assert space.stale is False

"""Snapshots of real processes: what they map, and what has changed since."""

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
from helpers.targets import PAGE, Target, in_child

from pmadvise import AddressSpace, Process, Ranges, Vma, _sys

READ, READ_WRITE, SHARED, PRIVATE, FIXED = 1, 3, 1, 2, 0x10


def at(space: AddressSpace, address: int) -> Vma:
    """Return the VMA that an address lies in."""
    return next(vma for vma in space if vma.start <= address < vma.end)


def map_file(
    target: Target, path: bytes, pages: int = 4, flags: int = PRIVATE, prot: int = 3
) -> int:
    """Have the target map a new file of so many pages."""
    with open(path, "wb") as file:
        file.write(b"f" * pages * PAGE)
    size = pages * PAGE
    address: int = target.run(
        f"map({size}, flags={flags}, prot={prot}, fd=os.open({path!r}, 2))"
    )
    return address


def map_fixed(
    target: Target, address: int, size: int, path: bytes, offset: int, flags: int
) -> None:
    """Have the target map a file over what it has at an address."""
    target.run(
        f"checked(libc.mmap({address}, {size}, 3, {flags | FIXED}, "
        f"os.open({path!r}, 2), {offset}))"
    )


# What a snapshot has


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
    address = map_file(target, path)
    stat = os.stat(path)
    if deleted:
        os.unlink(path)
    space = process.maps()
    vma = at(space, address)
    text = os.fsdecode(path) + (" (deleted)" if deleted else "")
    assert (vma.path, vma.inode, vma.device) == (text, stat.st_ino, stat.st_dev)
    assert (vma.anonymous, vma.private, vma.offset) == (False, True, 0)
    assert list(space.select(path=vma.path)) == [(address, 4 * PAGE)]


def test_offset_and_sharing_of_a_file(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """The offset into a file is in bytes, and a shared mapping is not private."""
    path = os.fsencode(tmp_path / "file")
    address = map_file(target, path, pages=8)
    map_fixed(target, address + 2 * PAGE, PAGE, path, 5 * PAGE, SHARED)
    space = process.maps()
    vma = at(space, address + 2 * PAGE)
    assert (vma.offset, vma.length, vma.private) == (5 * PAGE, PAGE, False)
    found = space.select(private=False, path=vma.path)
    assert list(found) == [(address + 2 * PAGE, PAGE)]


@pytest.mark.parametrize("prot", range(8))
def test_permissions(target: Target, process: Process, prot: int) -> None:
    """Permissions are as the target has asked for."""
    address = target.run(f"map({3 * PAGE}, prot={prot})")
    vma = at(process.maps(), address)
    has = vma.readable, vma.writable, vma.executable
    expected = bool(prot & 1), bool(prot & 2), bool(prot & 4)
    if prot:  # with none it is one with the pages around it
        assert (vma.start, vma.length) == (address, 3 * PAGE)
    assert has == expected


def test_heap(target: Target, process: Process) -> None:
    """The heap is anonymous memory where brk(2) says."""
    top = target.run(
        "(setattr(libc.sbrk, 'restype', ctypes.c_void_p),"
        " checked(libc.sbrk(ctypes.c_long(8 * PAGE))), libc.sbrk(0))[2]"
    )
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
        pytest.skip("the kernel maps no [vsyscall]: vsyscall=none")
    assert [vma.anonymous for vma in named] == [False]
    assert list(space.select(path=name)) == [(named[0].start, named[0].length)]
    assert not list(space.select(path=name, anonymous=True))


@pytest.mark.parametrize("flags", [0x22, 0x21], ids=["private", "shared"])
def test_named_anonymous_memory(target: Target, process: Process, flags: int) -> None:
    """Memory that the target has named has that name."""
    address = target.run(f"map({2 * PAGE}, flags={flags})")
    try:
        target.run(
            "checked(libc.prctl(0x53564d41, 0, ctypes.c_ulong("
            f"{address}), ctypes.c_ulong({2 * PAGE}), b'of the cache'))"
        )
    except RuntimeError as error:
        if f"({errno.EINVAL}," not in str(error):
            raise
        pytest.skip("the kernel has no CONFIG_ANON_VMA_NAME")
    space = process.maps()
    vma = at(space, address)
    private = flags == 0x22
    kind = "anon" if private else "anon_shmem"
    assert (vma.path, vma.anonymous) == (f"[{kind}:of the cache]", private)
    assert list(space.select(path=vma.path)) == [(address, 2 * PAGE)]
    assert list(space.select(path=f"[{kind}:*]")) == [(address, 2 * PAGE)]


def test_thousands_of_vmas(target: Target, process: Process) -> None:
    """Every one of many VMAs is there, in the order of addresses."""
    area = target.run(f"map({20_000 * PAGE})")
    target.run(f"[protect({area} + i * PAGE, PAGE, 1) for i in range(0, 20_000, 2)]")
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
    area = target.run(f"map({3000 * PAGE})")
    target.run(f"[protect({area} + i * PAGE, PAGE, 1) for i in range(0, 3000, 2)]")
    # Below the area, so that lines before its lines come and go.
    target.run(
        "stop = []\n"
        "def busy():\n"
        "    while not stop:\n"
        "        several = [map(PAGE) for i in range(50)]\n"
        "        for one in several: unmap(one, PAGE)\n"
        "busy = threading.Thread(target=busy)\n"
        "busy.start()"
    )

    def look(_: int) -> bool:
        space = process.maps()
        found = list(space.select())
        stay = Ranges([(area, 3000 * PAGE)])
        in_order = all(a + n <= b for (a, n), (b, _) in itertools.pairwise(found))
        return in_order and len(space) > 3000 and (Ranges(found) & stay) == stay

    with ThreadPoolExecutor(4) as pool:
        assert Counter(pool.map(look, range(40))) == {True: 40}
    target.run("stop.append(1)")


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


# What has changed


def test_nothing_has_changed(process: Process) -> None:
    """Of a process at rest nothing has changed."""
    space = process.maps()
    assert (space.changed(), space.stale) == (Ranges(), False)


@pytest.mark.parametrize("query", ["PROCMAP_QUERY", "ENOTTY"])
def test_changed_names_the_unmapped_vma(
    target: Target, process: Process, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """The VMA that was unmapped is named and no other."""
    if query == "ENOTTY":
        monkeypatch.setattr(_sys, "procmap_query", lambda fd: -errno.ENOTTY)
    addresses = [target.run(f"map({8 * PAGE})") for _ in range(20)]
    space = process.maps()
    target.run(f"unmap({addresses[7]}, {8 * PAGE})")
    assert (list(space.changed()), space.stale) == ([(addresses[7], 8 * PAGE)], False)


def test_changed_in_part(target: Target, process: Process) -> None:
    """Of a VMA that was split, the part that changed is named, to the page."""
    address = target.run(f"map({9 * PAGE})")
    space = process.maps()
    target.run(f"protect({address + 3 * PAGE}, {2 * PAGE}, {READ})")
    assert list(space.changed()) == [(address + 3 * PAGE, 2 * PAGE)]
    target.run(f"unmap({address + 8 * PAGE}, {PAGE})")
    assert list(space.changed()) == [
        (address + 3 * PAGE, 2 * PAGE),
        (address + 8 * PAGE, PAGE),
    ]


def test_changed_and_back(target: Target, process: Process) -> None:
    """Permissions that are as they were are no change."""
    address = target.run(f"map({4 * PAGE})")
    space = process.maps()
    target.run(f"protect({address}, {PAGE}, {READ})")
    target.run(f"protect({address}, {PAGE}, {READ_WRITE})")
    assert space.changed() == Ranges()


@pytest.mark.parametrize(
    ("name", "offset", "flags"),
    [("other", 0, PRIVATE), ("file", PAGE, PRIVATE), ("file", 0, SHARED)],
    ids=["another file", "another offset", "shared"],
)
def test_changed_by_another_mapping(
    target: Target,
    process: Process,
    tmp_path: Path,
    name: str,
    offset: int,
    flags: int,
) -> None:
    """Another file, offset or sharing at the same address is a change."""
    address = map_file(target, os.fsencode(tmp_path / "file"), pages=8)
    map_file(target, os.fsencode(tmp_path / "other"), pages=8)
    space = process.maps()
    path = os.fsencode(tmp_path / name)
    map_fixed(target, address, 4 * PAGE, path, offset, flags)
    assert list(space.changed()) == [(address, 4 * PAGE)]


def test_the_same_file_and_offset_again(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """A part of a file mapped anew where it was can't be told, and is none."""
    path = os.fsencode(tmp_path / "file")
    address = map_file(target, path, pages=8)
    space = process.maps()
    map_fixed(target, address + 4 * PAGE, 2 * PAGE, path, 4 * PAGE, PRIVATE)
    assert space.changed() == Ranges()


def test_memory_instead_of_a_file(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """Anonymous memory where a file was is a change."""
    address = map_file(target, os.fsencode(tmp_path / "file"))
    space = process.maps()
    target.run(f"checked(libc.mmap({address}, PAGE, 3, 0x32, -1, 0))")
    assert list(space.changed()) == [(address, PAGE)]


def test_a_heap_that_grows_is_the_same(target: Target, process: Process) -> None:
    """What a VMA gains is no change of it, and what it loses is."""
    target.run("libc.sbrk.restype = ctypes.c_void_p")
    target.run("checked(libc.sbrk(ctypes.c_long(64 * PAGE)))")
    space = process.maps()
    target.run("checked(libc.sbrk(ctypes.c_long(256 * PAGE)))")
    assert space.changed() == Ranges()
    top = target.run("libc.sbrk(0)")
    later = process.maps()
    target.run("checked(libc.sbrk(ctypes.c_long(-16 * PAGE)))")
    assert list(later.changed()) == [(top - 16 * PAGE, 16 * PAGE)]


def test_what_is_new_is_no_change(target: Target, process: Process) -> None:
    """changed() speaks of what was in the snapshot alone."""
    space = process.maps()
    target.run("[map(PAGE) for i in range(10)]")
    assert not list(space.changed())


def test_an_unlinked_file_has_another_path(
    target: Target, process: Process, tmp_path: Path
) -> None:
    """A file that was unlinked since has another path, and so is a change."""
    address = map_file(target, os.fsencode(tmp_path / "file"))
    space = process.maps()
    (tmp_path / "file").unlink()
    assert list(space.changed()) == [(address, 4 * PAGE)]


def test_snapshots_do_not_change(target: Target, process: Process) -> None:
    """A snapshot stays what it was, whatever the target does, and when it ends."""
    space = process.maps()
    before = list(space)
    target.run("[map(PAGE) for i in range(10)]")
    target.kill()
    assert (list(space), space.stale) == (before, True)
    assert space.changed() == space.select()


def test_of_the_caller_itself() -> None:
    """A process may look at itself."""
    with Process(os.getpid()) as process:
        space = process.maps()
        assert sys.executable in {vma.path for vma in space} or space.select(
            executable=True
        )
        assert space.stale is False

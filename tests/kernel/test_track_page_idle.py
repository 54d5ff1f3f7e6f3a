"""Tracking by idle page tracking, where the kernel's two files are scripted.

Real kernels have it in tests/vm/proofs.py; here a bitmap and the flags of frames are
files of the test's own, and the frames are the target's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.children import in_child
from helpers.privileges import CAP_SYS_ADMIN, drop_capabilities
from helpers.targets import MIB, PAGE, Target, pages

from pmadvise import Process, Ranges
from pmadvise._idle import page_idle

pytestmark = pytest.mark.needs_root

LRU, TAIL, HUGE = 1 << 5, 1 << 16, 1 << 17
N = 64


class Frames:
    """The frames of an area of N pages, their flags and their bits in two files."""

    def __init__(self, target: Target, area: int, directory: Path) -> None:
        with open(f"/proc/{target.pid}/pagemap", "rb") as pagemap:
            pagemap.seek(area // PAGE * 8)
            entries = struct.unpack(f"={N}Q", pagemap.read(8 * N))
        self.frames = [entry & (1 << 55) - 1 for entry in entries]
        self.flags, self.bitmap = directory / "kpageflags", directory / "bitmap"
        for path, size in (self.flags, 8), (self.bitmap, 1 / 8):
            with path.open("wb") as file:
                file.truncate(int((1 << 28) * size))  # sparse: 1 TiB of memory
        self.idle: set[int] = set()
        self.set_flags(dict.fromkeys(range(N), LRU))

    def set_flags(self, flags: dict[int, int]) -> None:
        """Set the flags of the frames of pages, by the numbers of these."""
        with self.flags.open("r+b") as file:
            for number, value in flags.items():
                file.seek(self.frames[number] * 8)
                file.write(struct.pack("=Q", value))

    def _bits(self) -> Iterator[int]:
        with self.bitmap.open("rb") as file:
            for number, frame in enumerate(self.frames):
                file.seek(frame // 64 * 8)
                if struct.unpack("=Q", file.read(8))[0] >> frame % 64 & 1:
                    yield number

    def set_now(self) -> set[int]:
        """Return the pages that were set idle by the latest look, and note them.

        The kernel only ever sets the bits that are written as 1; a file keeps the rest
        of a word as 0 too, so the test writes the bits anew.
        """
        new = set(self._bits()) - self.idle
        self.idle |= new
        return new

    def touch(self, *numbers: int) -> None:
        """Clear the bits of pages, as a touch does, and write all others."""
        self.idle -= set(numbers)
        words: dict[int, int] = {}
        for number, frame in enumerate(self.frames):
            bit = 1 << frame % 64 if number in self.idle else 0
            words[frame // 64] = words.get(frame // 64, 0) | bit
        with self.bitmap.open("r+b") as file:
            for word, value in words.items():
                file.seek(word * 8)
                file.write(struct.pack("=Q", value))


@pytest.fixture
def area(target: Target) -> int:
    """The address of N pages, without huge ones."""
    address = target.map(N * PAGE)
    target.run(f"madvise({address}, {N * PAGE}, 15)")
    target.run(f"touch({address}, range({N}))")
    return address


@pytest.fixture
def frames(
    target: Target, area: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Frames:
    """Its frames, in place of the kernel's files."""
    frames = Frames(target, area, tmp_path)
    monkeypatch.setattr(page_idle, "BITMAP", str(frames.bitmap))
    monkeypatch.setattr(page_idle, "KPAGEFLAGS", str(frames.flags))
    return frames


def within(area: int, ranges: Ranges) -> Ranges:
    """Return what of the ranges lies in the area; the rest of the target is unknown."""
    return ranges & Ranges([(area, N * PAGE)])


def test_pages_that_were_not_touched(
    process: Process, area: int, frames: Frames
) -> None:
    """A page whose bit is still set was not touched; the others are set anew."""
    with process.track("page_idle") as tracker:
        assert (tracker.source, tracker.grain) == ("page_idle", PAGE)
        assert frames.set_now() == set(range(N))
        frames.touch(3, 4, 40)
        tracker.look()
        assert frames.set_now() == {3, 4, 40}
        once = tracker.ages()[1][0]
        untouched = pages(area, *set(range(N)) - {3, 4, 40})
        assert within(area, tracker.idle(once)) == untouched
        frames.touch(5)
        tracker.look()
        twice = tracker.ages()[2][0]
        assert within(area, tracker.idle(twice)) == untouched - pages(area, 5)
        assert within(area, tracker.idle(0)) == pages(area, *range(N))


def test_what_cannot_be_watched_is_unknown(
    process: Process, area: int, frames: Frames
) -> None:
    """Pages of hugetlb, and those on no LRU list yet, have no bit: never idle."""
    frames.set_flags({1: 0, 2: LRU | HUGE})
    with process.track("page_idle") as tracker:
        assert frames.set_now() == set(range(N)) - {1, 2}
        frames.touch()
        tracker.look()
        assert within(area, tracker.idle(0)) == pages(area, 0, *range(3, N))
        assert tracker.unknown >= 2 * PAGE


def test_huge_pages_have_the_bit_of_their_head(
    target: Target, process: Process, frames: Frames, tmp_path: Path
) -> None:
    """Pages that follow each other in memory, made a folio by their flags."""
    whole = target.map(4 * MIB)
    area = -(-whole // (2 * MIB)) * 2 * MIB
    target.run(f"madvise({area}, {2 * MIB}, 14)")
    target.run(f"touch({area}, range({N}))")
    frames.__init__(target, area, tmp_path)  # type: ignore[misc]
    starts = [n for n in range(N - 4) if is_run(frames.frames[n : n + 4])]
    if not starts:
        pytest.skip("kernel: without huge pages no four frames are neighbours")
    head = starts[0]
    frames.set_flags(dict.fromkeys(range(head + 1, head + 4), TAIL))
    with process.track("page_idle") as tracker:
        assert frames.set_now() == set(range(N)) - {head + 1, head + 2, head + 3}
        frames.touch()
        tracker.look()
        assert within(area, tracker.idle(0)) == pages(area, *range(N))
        frames.touch(head)
        tracker.look()
        folio = pages(area, *range(head, head + 4))
        assert within(area, tracker.idle(tracker.ages()[1][0])) & folio == Ranges()


def is_run(frames: list[int]) -> bool:
    """Return whether frames follow each other."""
    return frames == list(range(frames[0], frames[0] + len(frames)))


def test_hidden_frames(process: Process, frames: Frames) -> None:
    """Without CAP_SYS_ADMIN the kernel hides frames: refused, and told why."""

    def refused() -> str:
        drop_capabilities(CAP_SYS_ADMIN)
        try:
            process.track("page_idle")
        except PermissionError as error:
            return str(error)
        return ""

    assert "CAP_SYS_ADMIN" in str(in_child(refused).value)

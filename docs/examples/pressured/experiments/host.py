"""What the experiments make on the host, and undo: a memory cgroup, and swap."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

MIB = 1 << 20
SWAPPINESS = Path("/proc/sys/vm/swappiness")
MOST = 32767  # the highest priority of swap
ZRAM_CONTROL = Path("/sys/class/zram-control")

stopping = threading.Event()
"""Set by a signal; the waits below end, and all is undone in order."""


class Stopped(Exception):
    """The end was asked for."""


class Lacking(Exception):
    """The host lacks what an experiment needs: the message has the remedy."""


def pause(seconds: float) -> None:
    """Wait.

    Raises:
        Stopped: The end was asked for meanwhile.
    """
    if stopping.wait(seconds):
        raise Stopped


def until(condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
    """Wait for a condition.

    Raises:
        Stopped: The end was asked for meanwhile.
        TimeoutError: It did not come in time.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not in {timeout} s: {what}")
        pause(0.02)


def root_needed() -> None:
    """Look for the rights that every experiment needs."""
    if os.geteuid() != 0:
        raise Lacking("not root: cgroups and swap are made; run it with sudo")


@contextlib.contextmanager
def setting_of(path: Path, value: str) -> Iterator[None]:
    """Have another setting of the kernel."""
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)


class MemoryCgroup:
    """A cgroup with a limit of memory; its processes are killed when it is closed."""

    def __init__(self, limit: int, swappiness: int) -> None:
        self.version, mount = _memory_mount()
        self.path = mount / f"pmadvise-experiments-{os.getpid()}"
        self._swappiness = self.path / "memory.swappiness"
        self._before: str | None = None
        self.path.mkdir()
        try:
            self.limit(limit)
            if self.version == 2:  # it has the host's
                self._swappiness = SWAPPINESS
                self._before = SWAPPINESS.read_text()
            self._swappiness.write_text(str(swappiness))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> MemoryCgroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def used(self) -> int:
        """Return the bytes that are charged."""
        name = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        return int((self.path / name).read_text())

    def limit(self, size: int) -> None:
        """Have another limit."""
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        (self.path / name).write_text(str(size))

    def killed(self) -> int:
        """Return how many processes the kernel has killed for want of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in (self.path / name).read_text().split("\n"):
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        raise Lacking("the kernel does not count its OOM kills: Linux 4.13 does")

    def reclaim_all(self) -> None:
        """Have all memory taken that can be: that in the swap cache is clean."""
        name = "memory.reclaim" if self.version == 2 else "memory.force_empty"
        with contextlib.suppress(BlockingIOError):  # not all of it
            (self.path / name).write_text(str(self.used()))

    def reclaim(self, size: int) -> float:
        """Have so many bytes taken, as many as can be; return the seconds."""
        began = time.monotonic()
        if self.version == 2:
            with contextlib.suppress(BlockingIOError):
                (self.path / "memory.reclaim").write_text(str(size))
            return time.monotonic() - began
        limit = self.path / "memory.limit_in_bytes"
        before = limit.read_text()
        with contextlib.suppress(OSError):  # EBUSY: not all of it
            limit.write_text(str(max(self.used() - size, MIB)))
        elapsed = time.monotonic() - began
        limit.write_text(before)
        return elapsed

    def close(self) -> None:
        """Kill what is in it, and remove it."""
        if self._before is not None:
            SWAPPINESS.write_text(self._before)
        for _ in range(500):
            for pid in (self.path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            try:
                self.path.rmdir()
            except OSError:  # until the last has gone
                time.sleep(0.02)
            else:
                return
        raise TimeoutError(f"{self.path} can't be removed: rmdir it yourself")


def _memory_mount() -> tuple[int, Path]:
    for line in Path("/proc/self/mountinfo").read_text().split("\n"):
        left, _, right = line.partition(" - ")
        kind, *_, options = right.split(" ") if right else ("", "")
        mount = Path(left.split(" ")[4]) if left else Path()
        if kind == "cgroup" and "memory" in options.split(","):
            return 1, mount
        if kind == "cgroup2":
            control = mount / "cgroup.subtree_control"
            if control.exists() and "memory" in control.read_text().split():
                return 2, mount
    raise Lacking("no memory cgroup: mount a hierarchy with the memory controller")


def _command(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Lacking(f"{' '.join(command)}: {done.stderr.strip()}")


class Swap:
    """An area of swap that is used before all others."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind

    def used(self) -> int:
        """Return its bytes that are in use."""
        for line in Path("/proc/swaps").read_text().split("\n"):
            if line.startswith(f"{self.path} "):
                return int(line.split()[3]) << 10
        return 0

    def zram(self) -> tuple[int, int]:
        """Return the bytes that were written, and the memory that holds them."""
        numbers = Path("/sys/block", self.path.name, "mm_stat").read_text().split()
        return int(numbers[0]), int(numbers[2])

    @contextlib.contextmanager
    def on(self) -> Iterator[Swap]:
        """Have it on, of the highest priority."""
        lines = Path("/proc/swaps").read_text().split("\n")[1:]
        highest = max((int(line.split()[4]) for line in lines if line), default=0)
        if highest >= MOST:
            raise Lacking(f"swap of priority {MOST} is on, so ours would not be used "
                          "first: swapoff it meanwhile")  # fmt: skip
        _command("swapon", "-p", str(max(100, highest + 1)), str(self.path))
        try:
            yield self
        finally:
            _command("swapoff", str(self.path))


@contextlib.contextmanager
def zram(size: int) -> Iterator[Swap]:
    """Have a device of compressed memory as swap; one that nobody else has."""
    try:
        number = (ZRAM_CONTROL / "hot_add").read_text().strip()
    except OSError:
        raise Lacking("no zram: modprobe zram") from None
    try:
        block, device = Path(f"/sys/block/zram{number}"), Path(f"/dev/zram{number}")
        if "lz4" in (block / "comp_algorithm").read_text().split():
            (block / "comp_algorithm").write_text("lz4")
        (block / "disksize").write_text(str(size))
        until(device.exists, f"{device} exists")
        _command("mkswap", str(device))
        with Swap(device, "zram").on() as area:
            yield area
    finally:
        _remove_zram(number)


def _remove_zram(number: str) -> None:
    for _ in range(100):
        try:
            (ZRAM_CONTROL / "hot_remove").write_text(number)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.05)  # udev looks at it
        else:
            return
    raise TimeoutError(f"zram{number} is in use: it stays")


def write_out(file: IO[bytes], size: int) -> None:
    """Fill a file, and leave nothing of it in the page cache."""
    for _ in range(size // MIB):
        file.write(bytes(MIB))
    file.flush()
    os.fsync(file.fileno())
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def data_file(size: int, directory: str) -> Iterator[Path]:
    """Have a file that is not in the page cache."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix="pmadvise-data-") as file:
        write_out(file, size)
        yield Path(file.name)


@contextlib.contextmanager
def swap_file(size: int, directory: str) -> Iterator[Swap]:
    """Have a file as swap."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix="pmadvise-swap-") as file:
        write_out(file, size)
        _command("mkswap", file.name)
        with Swap(Path(file.name), "swap file").on() as area:
            yield area

"""A stand-in for a cgroup with memory.reclaim: a directory of files, and a kernel.

Real kernels have it in tests/vm/proofs.py.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pmadvise import cgroup
from pmadvise._native.base import check
from pmadvise._native.descriptor import Descriptor


class FakeCgroup:
    """Its directory, and what the kernel would do."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.requests: list[tuple[int, str]] = []
        self.reclaimable: int | None = None
        """Bytes that the kernel may take; None: all."""
        self.greed = 1.0
        """How much it takes of what it is asked for."""
        self.refuses: int = 0
        """The errno of requests."""
        root.mkdir()
        for name in ("cgroup.procs", "cgroup.controllers", "memory.reclaim"):
            (root / name).touch()
        self.charge(100 << 20)
        for name in ("min", "low"):
            (root / f"memory.{name}").write_text("0\n")
        patch.setattr(cgroup, "open_cgroup", self._open)
        answered = SimpleNamespace(**{**vars(os), "write": self.write})
        patch.setattr(cgroup, "os", answered)

    def _open(self, path: bytes) -> Descriptor:
        assert path == os.fsencode(self.root)
        return Descriptor.open(path, flags=os.O_PATH | os.O_DIRECTORY)

    @property
    def current(self) -> int:
        """Bytes charged."""
        return int((self.root / "memory.current").read_text())

    def charge(self, n_bytes: int, file: int = 0) -> None:
        """Charge it for so many bytes, some of the page cache."""
        text = f"anon {n_bytes - file}\nfile {file}\nkernel 0\nshmem 0\n"
        (self.root / "memory.current").write_text(f"{n_bytes}\n")
        (self.root / "memory.stat").write_text(text)
        (self.root / "memory.swap.current").write_text("0\n")

    def write(self, _fd: int, data: bytes) -> int:
        """Answer a request."""
        size, _, more = data.decode().partition(" ")
        check(-self.refuses, "memory.reclaim")
        self.requests.append((int(size), more))
        left = self.current if self.reclaimable is None else self.reclaimable
        taken = min(int(int(size) * self.greed), left, self.current)
        if self.reclaimable is not None:
            self.reclaimable -= taken
        self.charge(self.current - taken)
        check(-errno.EAGAIN if taken < int(size) else 0, "memory.reclaim")
        return len(data)

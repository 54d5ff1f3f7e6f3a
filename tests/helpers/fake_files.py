"""Files of /proc and /sys with contents that a test chooses."""

from __future__ import annotations

import pytest

from pmadvise import memory
from pmadvise._native.read import read_file
from pmadvise._proc import cgroups, files, mounts


def give_files(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    """Let these files have these contents, and no other file exist."""

    def read(path: str) -> bytes:
        if path not in contents:  # the package raises it: this is no signal handler
            return read_file(f"/no/such/file{path}")
        return contents[path]

    for module in (files, cgroups, mounts, memory):
        monkeypatch.setattr(module, "read", read)

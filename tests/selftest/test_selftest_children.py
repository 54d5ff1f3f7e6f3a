"""The processes of the selftest."""

from __future__ import annotations

import errno

import pytest
from helpers import proc

from pmadvise.selftest.child import Child


def test_a_child_that_dies() -> None:
    """A child that has died is an error, not a wait for ever."""
    with Child() as child:
        child.kill()
        with pytest.raises((AssertionError, BrokenPipeError)):
            child.ask("pid")


def test_an_errno_of_a_child() -> None:
    """An error of a child has its errno and call."""
    with Child() as child:
        with pytest.raises(OSError, match="munmap") as raised:
            child.ask("unmap", 1, 1)
        assert raised.value.errno == errno.EINVAL


def test_an_exception_of_a_child() -> None:
    """Another exception of a child is an AssertionError that names it."""
    with Child() as child, pytest.raises(AssertionError, match="KeyError"):
        child.ask("status", "VmNothing")


def test_nothing_is_left_open() -> None:
    """A child that has been closed leaves no file descriptor."""
    before = proc.open_files()
    with Child():
        pass
    assert proc.open_files() == before

"""The examples in docstrings: each is run, and shows what a user gets."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from pmadvise import group, memory, pressure

MODULES = [group, memory, pressure]


@pytest.mark.needs_root
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples(module: ModuleType) -> None:
    """Every example of a module runs as written, and there is one."""
    results = doctest.testmod(module)
    assert (results.failed, results.attempted > 0) == (0, True)

"""The Advice enum."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pmadvise
from pmadvise import Advice, _ffi
from pmadvise._advise.profiles import profile_of

PACKAGE = Path(pmadvise.__file__).parent


@pytest.mark.parametrize("advice", Advice, ids=lambda advice: advice.name)
def test_value_is_the_extension_s(advice: Advice) -> None:
    """Each value is the one that the C header asserts against the kernel's."""
    assert getattr(_ffi.lib, f"PMADVISE_MADV_{advice.name}") == advice


def test_every_advice_of_the_extension() -> None:
    """No advice of the C header is missing."""
    names = [n for n in dir(_ffi.lib) if n.startswith("PMADVISE_MADV_")]
    assert len(names) == len(Advice)


def test_every_advice_of_the_host_s_headers() -> None:
    """Every MADV_* of this machine's kernel headers is there, with its value."""
    header = Path("/usr/include/asm-generic/mman-common.h")
    if not header.exists():
        pytest.skip("no kernel headers: apt install linux-libc-dev")
    found = re.findall(r"#define\s+MADV_(\w+)\s+(\d+)", header.read_text())
    assert found
    assert {n: int(v) for n, v in found}.items() <= {
        a.name: a.value for a in Advice
    }.items()


def test_remote() -> None:
    """Another process takes four advices, no more."""
    remote = {Advice.COLD, Advice.PAGEOUT, Advice.WILLNEED, Advice.COLLAPSE}
    assert {advice for advice in Advice if advice.remote} == remote


def test_destructive() -> None:
    """The advices that can lose data are destructive."""
    assert {advice.name for advice in Advice if advice.destructive} == {
        "DONTNEED",
        "FREE",
        "REMOVE",
        "DONTNEED_LOCKED",
        "HWPOISON",
        "GUARD_INSTALL",
    }


def test_nothing_remote_is_destructive() -> None:
    """No advice for another process can lose its data."""
    assert not [a for a in Advice if a.remote and a.destructive]


@pytest.mark.parametrize("advice", Advice, ids=lambda advice: advice.name)
def test_every_remote_advice_has_a_profile(advice: Advice) -> None:
    """The advices that have a default selection are those for another process."""
    assert (profile_of(advice).select is not None) == advice.remote

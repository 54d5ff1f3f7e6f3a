"""What support() reports of this host and this process."""

from __future__ import annotations

import errno
import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import proc
from helpers.children import in_child, value_of_child
from helpers.descriptors import only_descriptors
from helpers.filters import PAGEMAP_SCAN, PROCMAP_QUERY, refuse_ioctl
from helpers.namespaces import unshare_users
from helpers.privileges import (
    CAP_DAC_READ_SEARCH,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    become_nobody,
    become_nobody_with,
    drop_capabilities,
)
from helpers.targets import Target

import pmadvise
from pmadvise import Process, Support, pidfd_open, support
from pmadvise._native import process_madvise as native
from pmadvise._native.process_madvise import probe
from pmadvise._native.procmap_query import procmap_query
from pmadvise._proc import files
from pmadvise._reasons import YES
from pmadvise.advice import REMOTE

root = pytest.mark.needs_root


def test_facts() -> None:
    """Kernel, machine, page size and swap are those that the system reports."""
    found = support()
    meminfo = files.parse_kb_fields(Path("/proc/meminfo").read_bytes())
    assert (found.kernel, found.machine) == (os.uname().release, os.uname().machine)
    assert (found.page_size, found.swap_total) == (mmap.PAGESIZE, meminfo["SwapTotal"])
    assert found.swap_free is not None
    assert 0 <= found.swap_free <= meminfo["SwapTotal"]
    assert (found.swap, found.cgroup, found.pressure) == (YES, YES, YES)
    assert found.target is None


def test_to_dict_is_ready_for_json(target: Target) -> None:
    """All of it survives JSON, advices by the kernel's names."""
    found = support(target.pid).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    names = {"MADV_COLD", "MADV_PAGEOUT", "MADV_WILLNEED", "MADV_COLLAPSE"}
    seen = found["target"]
    assert isinstance(seen, dict)
    assert (set(seen["advice"]), seen["pid"]) == (names, target.pid)
    assert set(seen["may"]) == {"ok", "refused_by", "errno", "reason", "remedy"}


def test_it_is_loaded_on_first_use() -> None:
    """`import pmadvise` does not load it, and the function hides no module."""
    code = (
        "import sys, pmadvise; assert 'pmadvise._support' not in sys.modules; "
        "from pmadvise import support, Support; "
        "assert isinstance(support(), Support) and pmadvise.support is support"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_left_open(target: Target) -> None:
    """Asking leaves no file descriptor open."""
    before = proc.open_files()
    support(target.pid)
    with Process(target.pid) as process:
        support(process)
    assert proc.open_files() == before


def test_nothing_is_advised(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is asked with empty vectors alone."""

    def advised(*arguments: object) -> int:
        raise AssertionError(f"process_madvise{arguments}")

    for name in ("process_madvise", "process_madvise_checked"):
        monkeypatch.setattr(native, name, advised)
    assert support(target.pid).target is not None


def test_too_few_descriptors() -> None:
    """Where descriptors run out support() raises EMFILE with a remedy."""

    def limited() -> None:
        with only_descriptors(2):
            support()

    outcome = in_child(limited)
    assert outcome.errno == errno.EMFILE
    assert "raise RLIMIT_NOFILE" in outcome.text


def test_advices_agree_with_the_kernel(target: Target) -> None:
    """An advice is there if and only if the kernel does not refuse it by EINVAL."""
    found = support().advice
    known = {one: probe(target.pidfd, one) != -errno.EINVAL for one in REMOTE}
    assert {one: bool(answer) for one, answer in found.items()} == known


def test_procmap_query_agrees_with_the_kernel() -> None:
    """PROCMAP_QUERY is there if the ioctl works."""
    with open("/proc/self/maps", "rb") as maps:
        works = procmap_query(maps.fileno()) == 0
    assert bool(support().procmap_query) == works


def test_pidfd_thread_agrees_with_the_kernel() -> None:
    """PIDFD_THREAD is there if pidfd_open() takes it."""
    try:
        os.close(pidfd_open(os.getpid(), pmadvise.PIDFD_THREAD))
        works = True
    except OSError:
        works = False
    assert bool(support().pidfd_thread) == works


@pytest.mark.parametrize(
    ("number", "by"), [(errno.ENOTTY, "kernel"), (errno.EPERM, "seccomp")]
)
def test_features_that_are_missing(number: int, by: str) -> None:
    """An ioctl that an old kernel lacks is told from one that a filter refuses."""

    def filtered() -> Support:
        refuse_ioctl(PROCMAP_QUERY, number)
        refuse_ioctl(PAGEMAP_SCAN, number)
        return support()

    found = value_of_child(filtered)
    assert (found.procmap_query.refused_by, found.pagemap_scan.refused_by) == (by, by)
    assert ("6.11" in str(found.procmap_query)) == (by == "kernel")


@root
def test_without_capabilities() -> None:
    """Without CAP_SYS_NICE other processes are refused, but not the own one."""

    def nobody() -> Support:
        become_nobody()
        return support()

    found = value_of_child(nobody)
    assert (found.cap_sys_nice, found.cap_sys_ptrace) == (False, False)
    assert found.other_processes.refused_by == "capability"
    assert found.own_process == support().own_process


@root
def test_capabilities_are_those_of_the_thread() -> None:
    """Each capability that matters is reported."""

    def daemon() -> Support:
        become_nobody_with(CAP_SYS_NICE, CAP_SYS_PTRACE)
        return support()

    found = value_of_child(daemon)
    assert (found.cap_sys_nice, found.cap_sys_ptrace) == (True, True)
    assert found.cap_dac_read_search is False
    assert bool(found.other_processes) is True


@root
def test_dac_read_search_is_reported() -> None:
    """CAP_DAC_READ_SEARCH is there until it is dropped."""

    def dropped() -> bool:
        drop_capabilities(CAP_DAC_READ_SEARCH)
        return support().cap_dac_read_search

    assert (support().cap_dac_read_search, value_of_child(dropped)) == (True, False)


@root
@pytest.mark.needs_user_namespace
def test_in_a_user_namespace() -> None:
    """There every capability is shown, and CAP_SYS_NICE counts for nothing."""

    def inside() -> Support:
        unshare_users()
        return support()

    found = value_of_child(inside)
    assert (found.cap_sys_nice, found.initial_user_namespace) == (True, False)
    assert "this is another user namespace" in found.other_processes.remedy


@pytest.mark.parametrize("nice", [1, 19])
def test_low_priority(nice: int) -> None:
    """At nice above 0 max_stall can't be kept, and the remedy is named."""

    def polite() -> Support:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        return support()

    found = value_of_child(polite)
    assert (found.nice, found.priority.refused_by) == (nice, "priority")
    assert f"at nice {nice}" in found.priority.reason
    assert "Nice=-5" in found.priority.remedy


@pytest.mark.parametrize("policy", ["SCHED_BATCH", "SCHED_IDLE"])
def test_patient_policies(policy: str) -> None:
    """A scheduling policy that lets others go first is named."""

    def patient() -> Support:
        os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))
        return support()

    assert f"with {policy}" in value_of_child(patient).priority.reason


def test_usual_priority() -> None:
    """At the usual priority nothing is reported."""

    def usual() -> Support:
        return support()

    found = value_of_child(usual)
    expected = os.getpriority(os.PRIO_PROCESS, 0)
    assert (found.nice, bool(found.priority)) == (expected, expected <= 0)

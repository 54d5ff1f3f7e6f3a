"""Whether this host and user can do the main job: advise another process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pmadvise
from pmadvise import PAGE_SIZE, Advice, Support
from pmadvise.selftest.child import Child
from pmadvise.selftest.report import Result, Verdict
from pmadvise.selftest.requirements import Skip, no_descriptors
from pmadvise.selftest.tools import require_permission


def judge(results: list[Result]) -> Verdict:
    """Advise a page of a child; return whether that works, in words.

    Args:
        results: Of the checks that were made: those that failed are named.
    """
    who = f"uid {os.geteuid()}"
    try:
        _advise_a_page()
        found = pmadvise.support()
    except Skip as skip:
        return cannot(str(skip))
    except Exception as error:
        few = no_descriptors(error)
        return cannot(str(few) if few else f"{type(error).__name__}: {error}")
    known = ", ".join(one.name for one, answer in found.advice.items() if answer)
    text = f"{who} can advise another process on this host ({known})"
    notes = [*_failures(results), *_notes(found)]
    return Verdict(True, "; ".join([text, *notes]))


def cannot(why: str) -> Verdict:
    """Return the verdict no."""
    text = " ".join(why.split())
    return Verdict(
        False, f"uid {os.geteuid()} cannot advise another process on this host: {text}"
    )


def _advise_a_page() -> None:
    with Child() as child:
        require_permission(child)
        page = (child.map(PAGE_SIZE), PAGE_SIZE)
        report = child.process.cold([page])
        if report.advised != PAGE_SIZE:
            raise AssertionError(f"of one page the account is {report}")


def _failures(results: list[Result]) -> Iterator[str]:
    failed = [result.name for result in results if result.verdict == "FAIL"]
    if failed:
        yield f"but checks failed: {', '.join(failed)}"


def _notes(found: Support) -> Iterator[str]:
    """Yield what limits the job, and the remedy."""
    if not found.swap_free and found.advice[Advice.PAGEOUT]:
        yield "PAGEOUT moves no anonymous memory, as no swap is free: swapon(8)"
    if not found.cap_sys_ptrace:
        yield "processes of other users need CAP_SYS_PTRACE"
    elif os.geteuid() != 0 and not found.cap_dac_read_search:
        yield (
            "which pages of other users' processes are in memory or in swap is hidden, "
            "as CAP_DAC_READ_SEARCH is missing"
        )
    if not found.priority:
        yield str(found.priority)

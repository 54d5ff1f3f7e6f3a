"""The selftest's report: lines, verdict and counts, or JSON; and the exit status."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import pmadvise
from pmadvise import PAGE_SIZE, Advice, Support
from pmadvise.selftest.child import Child
from pmadvise.selftest.requirements import Skip, no_descriptors


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a check: verdict is "ok", "skip" or "FAIL"."""

    verdict: str
    name: str
    detail: str
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return the line that is printed."""
        return f"{self.verdict} {self.name} - {self.detail}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether this host and user can advise another process."""

    ok: bool
    text: str
    """In words: what is missing, and how to get it."""

    def __str__(self) -> str:
        """Return the line that is printed."""
        return f"verdict: {self.text}"


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of the whole selftest.

    Args:
        results: Of the checks that were made.
        verdict: None where the selftest was interrupted, or not asked for one.
        interrupted: By this signal.
        can_ask: False where asking the kernel kills the caller.
    """

    results: list[Result]
    verdict: Verdict | None
    interrupted: signal.Signals | None
    can_ask: bool

    def count(self, verdict: str) -> int:
        """Return how many checks have that verdict."""
        return sum(result.verdict == verdict for result in self.results)

    def __str__(self) -> str:
        """Return the last line."""
        passed, failed = self.count("ok"), self.count("FAIL")
        return f"{passed} passed, {failed} failed, {self.count('skip')} skipped"

    def to_dict(self) -> dict[str, object]:
        """Return the JSON document."""
        return {
            "support": pmadvise.support().to_dict() if self.can_ask else None,
            "results": [asdict(result) for result in self.results],
            "verdict": asdict(self.verdict) if self.verdict else None,
            "passed": self.count("ok"),
            "failed": self.count("FAIL"),
            "skipped": self.count("skip"),
            "interrupted": self.interrupted.name if self.interrupted else None,
            "summary": str(self),
        }

    @property
    def status(self) -> int:
        """The exit status."""
        if self.interrupted:
            return 128 + self.interrupted
        cannot = self.verdict is not None and not self.verdict.ok
        return 1 if self.count("FAIL") or cannot else 0

    def conclude(self, as_json: bool) -> int:
        """Print it; return the exit status."""
        if self.interrupted:
            print(f"interrupted by {self.interrupted.name}", file=sys.stderr)
        if as_json:
            print(json.dumps(self.to_dict(), indent=2))
        else:
            if self.verdict:
                print(self.verdict)
            print(self, flush=True)
        return self.status


def brief(result: Result, results: list[Result]) -> Result:
    """Shorten a detail that an earlier check already printed in full."""
    first = next(other for other in results if other.detail == result.detail)
    short, bracket, _ = result.detail.partition(" (")
    if first is result or not bracket:
        return result
    return replace(result, detail=f"{short} (how: see {first.name})")


def judge(results: list[Result]) -> Verdict:
    """Advise a page of a child; return the verdict: whether that works.

    Args:
        results: Of the checks that were made; the verdict names those that failed.
    """
    who = f"uid {os.geteuid()}"
    try:
        _advise_a_page()
        support = pmadvise.support()
    except Skip as skip:
        return cannot(str(skip))
    except Exception as error:
        few = no_descriptors(error)
        return cannot(str(few) if few else f"{type(error).__name__}: {error}")
    known = [advice.name for advice, answer in support.advice.items() if answer]
    text = f"{who} can advise another process on this host ({', '.join(known)})"
    notes = [*_failures(results), *_notes(support)]
    return Verdict(True, "; ".join([text, *notes]))


def cannot(why: str) -> Verdict:
    """Return the verdict no."""
    text = " ".join(why.split())
    return Verdict(
        False, f"uid {os.geteuid()} cannot advise another process on this host: {text}"
    )


def _advise_a_page() -> None:
    with Child() as child:
        child.require_permission()
        page = (child.map(PAGE_SIZE), PAGE_SIZE)
        report = child.process.cold([page])
        if report.advised != PAGE_SIZE:
            raise AssertionError(f"of one page the account is {report}")


def _failures(results: list[Result]) -> Iterator[str]:
    failed = [result.name for result in results if result.verdict == "FAIL"]
    if failed:
        yield f"but checks failed: {', '.join(failed)}"


def _notes(support: Support) -> Iterator[str]:
    """Yield each limit of the job, with its remedy."""
    if not support.swap:
        yield str(support.swap)
    elif not support.swap_free and support.advice[Advice.PAGEOUT]:
        yield "PAGEOUT moves no anonymous memory, as no swap is free: swapon(8)"
    if not support.cap_sys_ptrace:
        yield "processes of other users need CAP_SYS_PTRACE"
    elif os.geteuid() != 0 and not support.cap_dac_read_search:
        yield (
            "which pages of other users' processes are in memory or in swap is hidden, "
            "as CAP_DAC_READ_SEARCH is missing"
        )
    if not support.priority:
        yield str(support.priority)

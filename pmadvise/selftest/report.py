"""What the selftest prints: lines, verdict and counts, or JSON; its exit status."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict, dataclass, replace

import pmadvise


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
    """All that the selftest found out.

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
    first = next(one for one in results if one.detail == result.detail)
    short, bracket, _ = result.detail.partition(" (")
    if first is result or not bracket:
        return result
    return replace(result, detail=f"{short} (how: see {first.name})")

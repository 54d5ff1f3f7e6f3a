"""The checks of the selftest, by name, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable

from pmadvise.selftest.checks import accounting, effects, host, targets

Check = Callable[[int], str]
"""Takes the bytes of a child's memory, at most; returns its observations in words, and
raises Skip or an error."""

CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): check
    for module in (host, effects, accounting, targets)
    for name, check in vars(module).items()
    if name.startswith("check_")
}
"""Every check, by its name."""

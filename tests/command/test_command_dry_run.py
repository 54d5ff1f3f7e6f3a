"""--dry-run: exactly what would be advised, and nothing is."""

from __future__ import annotations

import contextlib
import errno
import io
from typing import Any

import pytest
from helpers.children import value_of_child
from helpers.command import run
from helpers.privileges import become_nobody
from helpers.targets import MIB, PAGE, Target, furnish

from pmadvise.command import app

ACCOUNT = ("requested", "advised", "skipped", "not_tried", "ended")

pytestmark = pytest.mark.needs_root


def account_of(*arguments: object) -> dict[str, Any]:
    """Run the command; return what the account has of its one target."""
    [found] = run(*arguments, "--json").objects
    assert found["error"] is None
    return {name: found[name] for name in ACCOUNT}


@pytest.fixture
def furnished(target: Target) -> Target:
    """A target with memory of several kinds, and locked memory in the middle."""
    furnish(target)
    target.run("None")
    return target


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--anon",),
        ("--shared",),
        ("--file",),
        ("--anon", "--shared", "--min-size=2M"),
        ("--path", "*memfd*"),
        ("--path", "[heap]"),
        ("--budget=5M",),
        ("--budget=8M", "--anon"),
        ("--budget=0",),
        ("--budget=10%",),
    ],
    ids=" ".join,
)
def test_it_is_what_is_then_advised(
    furnished: Target, options: tuple[str, ...]
) -> None:
    """The account of --dry-run is that of the same command without it."""
    forecast = account_of("cold", furnished.pid, "--dry-run", *options)
    assert forecast == account_of("cold", furnished.pid, *options)


@pytest.mark.needs_swap
@pytest.mark.parametrize("advice", ["pageout", "willneed"])
def test_of_swap(furnished: Target, advice: str) -> None:
    """It is so for memory on its way to swap, and back."""
    if advice == "willneed":
        run("pageout", furnished.pid)
    forecast = account_of(advice, furnished.pid, "--dry-run")
    assert forecast["advised"] > 8 * MIB
    assert forecast == account_of(advice, furnished.pid)


def test_of_ranges(furnished: Target) -> None:
    """Ranges are accounted for as given: a hole is skipped, for its reason."""
    start = furnished.filled(3 * PAGE)
    furnished.run(f"unmap({start + PAGE}, PAGE)")
    given = f"--range={start:x}-{start + 3 * PAGE:x}"
    forecast = account_of("cold", furnished.pid, "--dry-run", given)
    assert forecast == account_of("cold", furnished.pid, given)
    assert [skip["errno"] for skip in forecast["skipped"]] == [errno.ENOMEM]


@pytest.mark.needs_swap
def test_nothing_is_advised(furnished: Target) -> None:
    """Neither memory nor the kernel's knowledge of its use has changed."""
    address = furnished.filled(4 * MIB)
    before = furnished.status("VmSwap"), furnished.smaps(address, "Referenced")
    for advice in ("cold", "pageout", "willneed", "collapse"):
        run(advice, furnished.pid, "--dry-run")
    assert before == (
        furnished.status("VmSwap"),
        furnished.smaps(address, "Referenced"),
    )
    assert before[1] > 0


def test_permission_is_checked(target: Target) -> None:
    """Without the right to advise it is the same refusal as without --dry-run."""

    def as_nobody() -> list[tuple[int, str]]:
        become_nobody()
        found = []
        for more in ((), ("--dry-run",)):
            with contextlib.redirect_stderr(io.StringIO()) as errors:
                status = app.run(["cold", str(target.pid), *more])
            found.append((status, errors.getvalue()))
        return found

    # loads all modules, rich's too, which nobody may not be able to read
    for more in ((), ("--dry-run",)):
        assert app.run(["cold", str(target.pid), *more]) == 0
    real, dry = value_of_child(as_nobody)
    assert dry == real
    assert (dry[0], dry[1].count("\n")) == (1, 1)
    assert "ptrace" in dry[1]


def test_table(target: Target) -> None:
    """The table has what would be advised."""
    target.filled(4 * MIB)
    done = run("cold", target.pid, "--dry-run")
    assert (done.status, done.err) == (0, "")
    assert "would be" in done.out

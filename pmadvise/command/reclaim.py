"""Verb `pmadvise reclaim`: memory of a whole cgroup, by its memory.reclaim."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from pmadvise.command import options
from pmadvise.command.options import Share
from pmadvise.command.output import Output

if TYPE_CHECKING:
    from pmadvise.cgroup import CgroupMemory, Reclaimed
    from pmadvise.command.progress import Bars
    from pmadvise.command.table import Table
    from pmadvise.command.work import Silence
    from pmadvise.memory import Swap

_HELP = f"""Reclaim SIZE bytes of a whole cgroup now, coldest first (memory.reclaim).

The kernel chooses the memory, of the cgroup and of those below it: page cache too, and
memory that processes share, which pageout passes over. This needs write access to
memory.reclaim of the cgroup and no capability; cgroup version 2, Linux 5.19.

{options.UNITS_HELP}"""

_SWAPPINESS = re.compile(r"[0-9]{1,3}")
_MAX_SWAPPINESS = 200

_ENDED = {
    "short": "the kernel found no more that it may take",
    "budget": "memory.min or memory.low of the cgroup protects it",
    "floor": "no more swap may be used (--swap-floor), or memory.min or memory.low of "
    "the cgroup protects it",
    "timeout": "the time was over",
    "cancelled": "interrupted",
}
_ROWS = {
    "in memory": "current",
    "anonymous": "anonymous",
    "file": "file",
    "shared": "shmem",
    "in swap": "swap",
}
"""Rows of the table, and the field of a CgroupMemory that each has."""


class Order(NamedTuple):
    """The request, as the options have it."""

    cgroup: str
    size: int
    swappiness: int | str | None
    swap_floor: int | Share
    timeout: float | None


class Outcome(NamedTuple):
    """The account, the error, or both; neither if it was stopped before it began."""

    account: Reclaimed | None
    error: OSError | None = None


def _swappiness(text: str) -> int | str:
    """Return 0 to 200, or "max"."""
    if text == "max":
        return text
    if not _SWAPPINESS.fullmatch(text) or int(text) > _MAX_SWAPPINESS:
        raise click.BadParameter(f"{text!r} is not 0 to {_MAX_SWAPPINESS}, nor 'max'")
    return int(text)


def _only_cgroup(
    _context: click.Context, _: click.Parameter, paths: tuple[str, ...]
) -> str:
    """Return the cgroup, which is given once."""
    if len(paths) != 1:
        raise click.UsageError("give --cgroup once: a cgroup at a time is reclaimed")
    if not paths[0]:
        raise click.BadParameter("'' is not the path of a cgroup")
    return paths[0]


@click.command(help=_HELP)
@click.argument("size", type=options.size)
@click.option(
    "--cgroup",
    metavar="PATH",
    type=click.Path(),
    multiple=True,
    required=True,
    callback=_only_cgroup,
    help="The cgroup: its directory, or its path as /proc/PID/cgroup has it.",
)
@click.option(
    "--swappiness",
    metavar="N|max",
    type=_swappiness,
    help="0: of files alone; up to 200: rather of what goes to swap; max: of that "
    "alone. Without it that of the host. Linux 6.9, max 6.16.",
)
@click.option(
    "--swap-floor",
    metavar="SIZE|N%",
    type=options.share,
    default=0,
    help="Leave so much swap free. N%: of all swap.",
)
@click.option("--timeout", metavar="TIME", type=options.time, help="End after so long.")
@options.common
@click.pass_context
def reclaim(
    context: click.Context,
    *,
    size: int,
    cgroup: str,
    swappiness: int | str | None,
    swap_floor: int | Share,
    timeout: float | None,
) -> None:
    """Reclaim, and print the outcome."""
    order = Order(cgroup, size, swappiness, swap_floor, timeout)
    run(options.output_of(context), order)


COMMANDS = {"reclaim": reclaim}


def run(output: Output, order: Order) -> None:
    """Reclaim memory of a cgroup, and print the outcome."""
    from pmadvise.command.work import (  # noqa: PLC0415 - not for the help
        Interrupts,
        observer_of,
    )

    with Interrupts() as interrupts:
        outcome = _outcome(order, interrupts.event, observer_of(output))
        output.interrupted = interrupts.event.is_set()
    account, error = outcome
    if output.json:
        output.write_json(to_json(outcome, order))
    elif not output.quiet and account is not None:
        _print(output, order, account, has_failed=error is not None)
    if error is not None:
        output.error("", error)
    elif account is None or account.ended != "complete":
        output.failed = True


def _outcome(order: Order, stop: threading.Event, observer: Silence | Bars) -> Outcome:
    """Reclaim by pmadvise.reclaim(): its rules are the rules."""
    from pmadvise.cgroup import reclaim  # noqa: PLC0415 - not for the help
    from pmadvise.command.work import floor_of  # noqa: PLC0415 - likewise

    begin = functools.cache(observer.begin)

    def is_stopped() -> bool:
        begin(order.cgroup)  # once; before that, whether it can be had is unknown
        return stop.is_set()

    try:
        floor = order.swap_floor
        account = reclaim(
            order.cgroup,
            order.size,
            swappiness=order.swappiness,
            swap_floor=floor_of(floor) if isinstance(floor, Share) else floor,
            timeout=order.timeout,
            stop=is_stopped,
            on_progress=observer.progress,
        )
    except OSError as error:
        return Outcome(getattr(error, "reclaimed", None), error)
    except KeyboardInterrupt as error:  # the second Ctrl-C
        stop.set()
        return Outcome(getattr(error, "reclaimed", None))
    finally:
        observer.end()
    return Outcome(account)


def to_json(outcome: Outcome, order: Order) -> dict[str, object]:
    """Return an outcome as --json prints it."""
    from pmadvise.command.text import error_json  # noqa: PLC0415 - not for the help

    account, error = outcome
    body: dict[str, object] = {
        "requested": order.size,
        "reclaimed": 0,
        "ended": "cancelled" if error is None else None,
        "calls": 0,
        "elapsed": 0.0,
        "before": None,
        "after": None,
    }
    if account is not None:
        body = account.to_dict()
    return {"cgroup": order.cgroup, **body, "error": error_json(error)}


def _print(output: Output, order: Order, account: Reclaimed, has_failed: bool) -> None:
    """Print the table, and below it the sentences.

    Args:
        output: Where.
        order: What was asked for.
        account: What came of it.
        has_failed: Whether an error ended it, which is told elsewhere.
    """
    from rich.text import Text  # noqa: PLC0415 - not for the help

    from pmadvise.command.work import swap_or_error  # noqa: PLC0415 - likewise

    table = _table(output, account.before, account.after)
    output.print(*table.render(output.console().width))
    now = swap_or_error()
    swap = None if isinstance(now, OSError) else now
    for line in lines(order, account, swap, has_failed):
        output.print(Text(output.name(line)))


def _table(output: Output, before: CgroupMemory, after: CgroupMemory | None) -> Table:
    from pmadvise.command.table import Column  # noqa: PLC0415 - rich is slow

    table = output.table([Column("memory", "name"), Column("before"), Column("after")])
    for name, field in _ROWS.items():
        table.add(name, _size(before, field), _size(after, field))
    return table


def _size(memory: CgroupMemory | None, field: str) -> str:
    from pmadvise.command.text import size  # noqa: PLC0415 - not for the help

    n_bytes = None if memory is None else getattr(memory, field)
    return "-" if n_bytes is None else size(n_bytes)


def lines(
    order: Order, account: Reclaimed, now: Swap | None, has_failed: bool = False
) -> Iterator[str]:
    """Yield the sentences about an account.

    Args:
        order: What was asked for.
        account: What came of it.
        now: The swap space afterwards; None where it is hidden.
        has_failed: Whether an error ended it, which is told elsewhere.
    """
    from pmadvise.command.text import (  # noqa: PLC0415 - not for the help
        duration,
        long_size,
    )

    asked, reclaimed = account.requested, max(account.reclaimed, 0)
    time = duration(account.elapsed)
    yield (
        f"{order.cgroup}: {long_size(asked)} asked, {long_size(reclaimed)} reclaimed "
        f"in {time}"
    )
    if account.after is None:
        yield "the cgroup has been removed"
    if has_failed:
        return
    if account.ended != "complete":
        yield _why_ended(order, account, long_size(asked - reclaimed))
    elif long_size(reclaimed) != long_size(max(asked, reclaimed)):
        yield (
            "the kernel reported all of it reclaimed: meanwhile the cgroup took memory"
        )
    is_off = now is not None and not now.total
    if account.ended == "short" and is_off and order.swappiness != 0:
        yield "swap is off: anonymous and shared memory stays in memory"


def _why_ended(order: Order, account: Reclaimed, rest: str) -> str:
    """Return why a rest was not reclaimed."""
    ended: str = account.ended
    # With swappiness 0 nothing goes to swap.
    if ended == "budget" and order.swap_floor and order.swappiness != 0:
        ended = "floor"
    if not account.calls:
        return f"nothing was tried: {_ENDED[ended]}"
    return f"{rest} not reclaimed: {_ENDED[ended]}"

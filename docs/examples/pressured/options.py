"""What the daemon is told, on its command line and in a file, checked as a whole."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NamedTuple

from parsing import (
    MIB,
    Share,
    address,
    excluded,
    idle_time,
    path,
    percent,
    rate,
    share_or_size,
    size,
    stall,
    way,
)


class Wrong(Exception):
    """What is wrong with the options: a line for each fault."""


@dataclass(frozen=True)
class Options:
    """The values of all options: bytes, seconds, and percent of a limit."""

    cgroup: tuple[str, ...]
    exclude: tuple[str, ...]
    high: float
    low: float
    budget: int
    rate: float
    swap_floor: Share | int
    max_stall: float
    idle_ranges: float
    """Infinity: none."""
    by: str
    """"auto", or "pageout": no cgroup is reclaimed from as a whole."""
    listen: tuple[str, int]
    lock: str
    dry_run: bool

    def floor(self, total: int) -> int:
        """Return the bytes of so much swap that stay free."""
        floor = self.swap_floor
        return math.ceil(floor * total) if isinstance(floor, Share) else floor


class _Option(NamedTuple):
    parse: Callable[[str], Any]
    default: object
    metavar: str
    help: str


_LISTS = ("cgroup", "exclude")
_LOCK = os.path.join(os.environ.get("RUNTIME_DIRECTORY", "/run/pressured"), "lock")
OPTIONS = {
    "cgroup": _Option(path, (), "DIRECTORY", "to relieve; may be repeated"),
    "exclude": _Option(
        excluded, (), "NAME|CGROUP", "left alone: a name (*, ? stand for others) or"
        " the directory of a cgroup; may be repeated",
    ),
    "high": _Option(percent, "90", "PERCENT", "of the limit: page out above it"),
    "low": _Option(percent, "80", "PERCENT", "page out until it is reached"),
    "budget": _Option(lambda t: size(t, MIB), "256M", "SIZE", "paged out at once"),
    "rate": _Option(rate, "none", "SIZE|none", "to swap in a second, on average"),
    "swap-floor": _Option(share_or_size, "15%", "SIZE|N%", "swap that stays free"),
    "max-stall": _Option(stall, "10ms", "TIME", "that a target may be held up"),
    "idle-ranges": _Option(
        idle_time, "none", "TIME|none", "page out what of busy processes was idle so"
        " long",
    ),
    "by": _Option(
        way, "auto", "auto|pageout", "auto: from a cgroup that is idle as a whole, or"
        " whose processes refuse, the kernel reclaims; pageout: never",
    ),
    "listen": _Option(address, "127.0.0.1:9779", "ADDRESS:PORT", "of the metrics"),
    "lock": _Option(path, _LOCK, "FILE", "that refuses a second instance"),
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "pressured",
        description="Page idle processes out before memory is short.",
        allow_abbrev=False,
    )
    for name, option in OPTIONS.items():
        default = f" ({option.default})" if option.default else ""
        parser.add_argument(
            f"--{name}",
            action="append" if name in _LISTS else "store",
            metavar=option.metavar,
            help=(option.help + default).replace("%", "%%"),
        )
    parser.add_argument("--dry-run", action="store_true", help="log what it would do")
    parser.add_argument("--config", metavar="FILE", help="TOML, the same names")
    version = f"pressured, with pmadvise {metadata.version('pmadvise')}"
    parser.add_argument("--version", action="version", version=version)
    return parser


def _from_file(path: str, faults: list[str]) -> Mapping[str, object]:
    """Return what a TOML file has."""
    if sys.version_info < (3, 11):
        have = ".".join(map(str, sys.version_info[:2]))
        faults.append(f"--config {path}: needs Python 3.11 or newer; this is {have}")
        return {}
    import tomllib  # noqa: PLC0415 - Python 3.11

    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        faults.append(f"--config {path}: {reason}")
        return {}
    known = (*OPTIONS, "dry-run")
    for name in sorted(found.keys() - {*known}):
        faults.append(f"{path}: {name}: no such option: {', '.join(known)}")
    return found


def _parsed(
    option: _Option, value: object, is_list: bool, where: str, faults: list[str]
) -> list[Any]:
    """Return what the value or the values of an option stand for."""
    found = []
    values = value if is_list and isinstance(value, (list, tuple)) else [value]
    for one in values:
        try:
            if isinstance(one, bool) or not isinstance(one, (str, int, float)):
                raise ValueError("neither a text nor a number")
            found.append(option.parse(str(one)))
        except ValueError as error:
            faults.append(f"{where} {one}: {error}")
    return found


def load(arguments: Sequence[str]) -> Options:
    """Return the options; those of the command line count more than the file's.

    Raises:
        Wrong: They can't be used.
    """
    given = vars(_parser().parse_args(arguments))
    faults: list[str] = []
    source = given["config"]
    file = {} if source is None else _from_file(source, faults)
    found: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        key, is_list = name.replace("-", "_"), name in _LISTS
        sources = [(f"--{name}", option.default)]
        if name in file:
            sources.append((f"{source}: {name}", file[name]))
        if given[key] is not None:
            sources.append((f"--{name}", given[key]))
        for where, value in sources:  # the last one counts
            parsed = _parsed(option, value, is_list, where, faults)
            found[key] = tuple(parsed) if is_list else next(iter(parsed), None)
    found["dry_run"] = dry_run = given["dry_run"] or file.get("dry-run", False)
    if not isinstance(dry_run, bool):
        faults.append(f"{source}: dry-run {dry_run}: neither true nor false")
    high, low = found["high"], found["low"]
    if None not in (high, low) and low >= high:
        faults.append(f"--low {low:g}: not below --high {high:g}")
    if not found["cgroup"] and not given["cgroup"] and "cgroup" not in file:
        faults.append("--cgroup: the directory of one is needed")
    if faults:
        raise Wrong("\n".join(faults))
    return Options(**found)

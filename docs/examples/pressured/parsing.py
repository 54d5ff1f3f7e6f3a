"""Values of options as texts: sizes, times, addresses, and what they stand for."""

from __future__ import annotations

import ipaddress
import math
import os
import re

MIB = 1 << 20
_SIZE = re.compile(r"([0-9]*\.?[0-9]+) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)
_PERCENT = re.compile(r"[0-9]*\.?[0-9]+%?")
_TIME = re.compile(r"([0-9]*\.?[0-9]+) ?(us|ms|s|min|h)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_NAME_BYTES = 15  # of a process's name: TASK_COMM_LEN - 1


class Share(float):
    """A part of a whole, 0 to 1."""


def _number(pattern: re.Pattern[str], text: str, example: str) -> tuple[float, str]:
    match = pattern.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not {example}")
    return float(match[1]), match[2].lower()


def size(text: str, least: int = 1) -> int:
    """Return bytes: of 65536, 64K, 1.5GiB."""
    number, unit = _number(_SIZE, text, "a size, such as 64M or 1.5GiB")
    n_bytes = number * 1024.0 ** ("kmgt".find(unit) + 1 if unit else 0)
    if not least <= n_bytes < 1 << 63:
        raise ValueError(f"not a size of {least} bytes or more, such as 64M")
    return int(n_bytes)


def seconds(text: str, example: str = "10ms") -> float:
    """Return seconds: of 10ms, 2s."""
    number, unit = _number(_TIME, text, f"a time with its unit, such as {example}")
    return number * _UNITS[unit]


def stall(text: str) -> float:
    """Return seconds, more than 0."""
    if not 0 < (found := seconds(text)) <= _UNITS["h"]:
        raise ValueError("not a time of more than 0, up to 1h")
    return found


def idle_time(text: str) -> float:
    """Return seconds that are worth a few looks, or infinity for `none`."""
    if text == "none":
        return math.inf
    if not 1 <= (found := seconds(text, "5min")) <= 24 * _UNITS["h"]:
        raise ValueError("not a time of 1s to 24h")
    return found


def percent(text: str) -> float:
    """Return a number, 0 to 100."""
    number = float(text.removesuffix("%")) if _PERCENT.fullmatch(text) else -1.0
    if not 0 <= number <= 100:
        raise ValueError("not a percentage, 0 to 100")
    return number


def share_or_size(text: str) -> Share | int:
    """Return a part of the swap, or bytes: of 15%, 64M, 0."""
    if not text.endswith("%"):
        return size(text, 0)
    if (share := percent(text)) == 100:
        raise ValueError("nothing could be paged out: less than 100%")
    return Share(share / 100)


def rate(text: str) -> float:
    """Return bytes a second, or infinity for `none`."""
    return math.inf if text == "none" else size(text.removesuffix("/s"), MIB)


def way(text: str) -> str:
    """Return the way in which memory is freed."""
    if text not in ("auto", "pageout"):
        raise ValueError("neither auto nor pageout")
    return text


def address(text: str) -> tuple[str, int]:
    """Return the IP address, "" for all, and the port: of :9779, [::1]:9779."""
    host, colon, port = text.rpartition(":")
    is_v6 = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_v6 else host
    try:
        if host and ipaddress.ip_address(host).version != (6 if is_v6 else 4):
            raise ValueError(host)
        if not (colon and re.fullmatch("[0-9]{1,5}", port) and int(port) < 1 << 16):
            raise ValueError(port)
    except ValueError:
        raise ValueError(
            "not ADDRESS:PORT, such as 127.0.0.1:9779, [::1]:9779, or :9779 for all"
        ) from None
    return host, int(port)


def excluded(text: str) -> str:
    """Return a pattern of names, or the path of a cgroup."""
    if "/" in text:
        return os.path.normpath(text)
    if not text or (
        not set(text) & set("*?[") and len(os.fsencode(text)) > _NAME_BYTES
    ):
        raise ValueError(f"a process's name has 1 to {_NAME_BYTES} bytes")
    return text


def path(text: str) -> str:
    """Return a path, without "." and ".."."""
    if not text or "\0" in text:
        raise ValueError("not a path")
    return os.path.normpath(text)

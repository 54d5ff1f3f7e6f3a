"""The selftest: each advice tried on child processes, and its effect observed.

``python -m pmadvise.selftest`` shows an operator what this host can do. It needs the
standard library and pmadvise only. Exit status: 0; 1 if a check failed, or if this host
and user cannot advise another process; 2 if the options are wrong; 128 and the number
of the signal that interrupted it. It leaves nothing behind in any case.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pmadvise.selftest.checks import CHECKS
    from pmadvise.selftest.command import main, run
    from pmadvise.selftest.report import Result

__all__ = ["CHECKS", "Result", "main", "run"]

_LAZY = {"CHECKS": "checks", "Result": "report", "main": "command", "run": "command"}


def __getattr__(name: str) -> object:
    """Load a name on first use: the program can take Ctrl-C before that."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only on first use

    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value

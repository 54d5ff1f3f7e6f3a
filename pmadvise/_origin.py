"""Origin of an exception: this package, or a callback or signal handler of a caller.

A signal handler runs between any two steps of this package. Its OSError is not the
kernel's answer to a call, so that it is neither caught nor translated.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    E = TypeVar("E", bound=BaseException)


def is_of_library(error: BaseException) -> bool:
    """Return whether this package raised an exception: no callback or signal handler.

    A function of the standard library raises it for the module that called it.
    """
    package, trace = "pmadvise", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        name = module.partition(".")[0]
        if name not in sys.stdlib_module_names or name == "__main__":
            package = name
        trace = trace.tb_next
    return package == "pmadvise"


def own(*kinds: type[E]) -> tuple[type[E], ...]:
    """Return the kinds for an except clause: none if this package did not raise it.

    To be called in the except clause, ``except own(OSError) as error:``.
    """
    error = sys.exc_info()[1]
    return kinds if isinstance(error, kinds) and is_of_library(error) else ()

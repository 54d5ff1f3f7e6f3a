"""The selftest: each advice tried on child processes, and its effect observed.

``python -m pmadvise.selftest`` shows an operator what this host can do. It needs the
standard library and pmadvise only. Exit status: 0; 1 if a check failed, or if this host
and user cannot advise another process; 2 if the options are wrong; 128 and the number
of the signal that interrupted it. It leaves nothing behind in any case.
"""

from pmadvise.selftest.checks import CHECKS
from pmadvise.selftest.command import main, run
from pmadvise.selftest.report import Result

__all__ = ["CHECKS", "Result", "main", "run"]

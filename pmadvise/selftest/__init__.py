"""Tells an operator what this host can do: ``python -m pmadvise.selftest``.

Forks children, advises their memory, and looks at the effect. Standard library and
pmadvise only. Exit status: 0; 1 if a check failed, or if this host and user cannot
advise another process; 2 if the options are wrong; 128 and the number of the signal
that interrupted it. It leaves nothing behind in any case.
"""

from pmadvise.selftest.checks import CHECKS
from pmadvise.selftest.command import main
from pmadvise.selftest.report import Result
from pmadvise.selftest.runner import run

__all__ = ["CHECKS", "Result", "main", "run"]

"""Programs run in forks of this process, where what they load is loaded already."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pmadvise
from helpers.needs import ROOT

TIMEOUT = 120
"""Seconds in which a program has to print something, or to end."""


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The lines of JSON."""
        return [json.loads(line) for line in self.out.split("\n") if line]

    @property
    def errors(self) -> list[str]:
        """The lines on stderr."""
        return self.err.split("\n")[:-1]


def load_names() -> None:
    """Load the public names, which come on first use: a child may not be able to."""
    for name in pmadvise.__all__:
        getattr(pmadvise, name)


def in_fork(
    main: Callable[[], int], arguments: list[str], variables: Mapping[str, str]
) -> Done:
    """Run the main function of a program that is loaded here, in a child.

    Args:
        main: Returns the exit status, or raises SystemExit.
        arguments: sys.argv.
        variables: The whole environment.
    """
    pipes = [os.pipe(), os.pipe()]
    pid = os.fork()
    if pid == 0:
        try:
            _become(pipes, arguments, variables)
            os._exit(_status_of(main))
        finally:
            os._exit(1)
    for _, writer in pipes:
        os.close(writer)
    try:
        out, err = _read_all([reader for reader, _ in pipes])
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Done(status, out.decode(), err.decode())


def _status_of(main: Callable[[], int]) -> int:
    """Return the exit status of a program, when all is written."""
    try:
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _become(
    pipes: list[tuple[int, int]], arguments: list[str], variables: Mapping[str, str]
) -> None:
    """Make this child what the shell would have started, but for what is loaded."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, (_, writer) in enumerate(pipes, 1):
        os.dup2(writer, number)
    os.closerange(3, 1024)
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = arguments
    faulthandler.disable()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout has it
    warnings.resetwarnings()
    warnings.simplefilter("ignore")


def _read_all(readers: list[int]) -> list[bytes]:
    """Read files to their ends, side by side, and close them."""
    texts = dict.fromkeys(readers, b"")
    with contextlib.ExitStack() as stack:
        for reader in readers:
            stack.callback(os.close, reader)
        left = set(readers)
        while left:
            ready = select.select([*left], [], [], TIMEOUT)[0]
            assert ready, f"nothing within {TIMEOUT} s, nor the end: {texts}"
            for reader in ready:
                part = os.read(reader, 1 << 16)
                texts[reader] += part
                if not part:
                    left.remove(reader)
        return [*texts.values()]

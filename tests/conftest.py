"""Fixtures, and what happens to a test that needs something this host lacks."""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest
from helpers.needs import LACKED_FOR_GOOD, NEEDS
from helpers.targets import Target

from pmadvise import Process

# How long an example takes says more of the machine than of what it tests.
hypothesis.settings.register_profile("pmadvise", deadline=None)
hypothesis.settings.register_profile("few", deadline=None, max_examples=20)
hypothesis.settings.register_profile("emulated", deadline=None, max_examples=10)
hypothesis.settings.load_profile("pmadvise")

pytest_plugins = ["helpers.workers"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --strict-kernel, and the options of tests/stress."""
    parser.addoption(
        "--strict-kernel",
        action="store_true",
        help="fail each test that would be skipped, except where the kernel or the "
        "machine itself lacks what it tests",
    )
    parser.addoption(
        "--stress-seconds",
        type=float,
        default=0,
        help="let tests/stress run for about so many seconds, and print a summary",
    )
    parser.addoption(
        "--stress-seed",
        type=int,
        default=None,
        help="the seed of tests/stress, as an earlier run printed it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let what tests start get signals, in the background and under nohup(1) too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Those that CPython ignores itself are restored in its children.
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            # execve(2) keeps an ignored signal, and drops a handler.
            signal.signal(number, lambda *_: None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs what is missing here, and print what that is."""
    for name, missing in NEEDS.items():
        for marker in item.iter_markers(name):
            if why := missing(*marker.args):
                pytest.skip(why)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With --strict-kernel, a skip that could have been avoided is a failure."""
    report = yield
    if item.config.getoption("--strict-kernel"):
        _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if collector.config.getoption("--strict-kernel"):
        _forbid_skip(report)
    return report


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    assert isinstance(report.longrepr, tuple)
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if not reason.startswith(LACKED_FOR_GOOD):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --strict-kernel forbids: {reason}"


@pytest.fixture
def no_gc() -> Iterator[None]:
    """No garbage collection: an exception that strikes in a callback of it is lost."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def target() -> Iterator[Target]:
    """A process of the same user, that maps what it is asked to map."""
    process = Target()
    yield process
    process.close()


@pytest.fixture
def process(target: Target) -> Iterator[Process]:
    """The handle of the target, which is at rest."""
    target.run("None")
    with Process(target.pid) as handle:
        yield handle

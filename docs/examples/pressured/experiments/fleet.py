"""What a fleet of idle interpreters keeps in memory, and what it could give."""

from __future__ import annotations

import contextlib
import statistics
import tempfile

from experiment import Experiment, Setting
from figures import Column, Goal, Sample, Samples, values
from host import MIB, MemoryCgroup, pause, until, zram
from programs import NICE, Daemon, Program
from workload import MODULES

from pmadvise import Process

N = 60
LIMIT = 4096  # MiB
HIGH, LOW = 2, 0  # percent: all that idles goes
QUIET = 2.0  # seconds in which nothing more is paged out


class Fleet(Experiment):
    """The interpreters."""

    name = "fleet"
    title = "Idle Python interpreters"
    columns = (
        Column("before", "PSS before MiB"),
        Column("after", "PSS after MiB"),
        Column("written", "in zram MiB"),
        Column("zram", "zram's memory MiB"),
        Column("net", "net MiB"),
        Column("net_each", "net MiB each", 1),
        Column("wake_before", "wake ms"),
        Column("wake_after", "from zram ms"),
        Column("cpu", "daemon % CPU", 1),
    )

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.n = max(N // setting.divisor, 2)

    def cases(self) -> list[str]:
        """Return the cases, in the order of a round."""
        return [f"{self.n} interpreters"]

    def conditions(self) -> dict[str, str]:
        """Return what to know beside the numbers."""
        return {
            "interpreters": "each started by itself, with "
            + " ".join(MODULES)
            + " loaded",
            "daemon": f"--high {HIGH} --low {LOW} of {LIMIT} MiB, so that all that "
            f"idles goes; nice {NICE}",
            "zram": "lz4; written is what was paged out, net is PSS before, less PSS "
            "after, less the memory of zram",
            "wake": "gc.collect(), which looks at each object: the median of the "
            "interpreters, one after another",
        }

    def run(self, case: str) -> Sample:  # noqa: ARG002 - there is one
        """Run one case once."""
        with contextlib.ExitStack() as stack:
            swap = stack.enter_context(zram(LIMIT * MIB))
            cgroup = stack.enter_context(MemoryCgroup(LIMIT * MIB, 60))
            fleet = [
                stack.enter_context(Program(cgroup, "interpreter"))
                for _ in range(self.n)
            ]
            for one in fleet:
                one.ready()
            _wake(fleet)  # the first allocates
            wake_before = _wake(fleet)
            before = _pss(fleet)
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            with Daemon(
                cgroup, directory, "--high", str(HIGH), "--low", str(LOW)
            ) as daemon:
                until(lambda: daemon.advised() > 0, "the daemon pages out")
                advised = -1.0
                while daemon.advised() > advised:
                    advised = daemon.advised()
                    pause(QUIET)
                cpu = daemon.cpu()
            after = _pss(fleet)
            written, used = (n / MIB for n in swap.zram())
            wake_after = _wake(fleet)
        net = before - after - used
        return Sample(
            {
                "before": before,
                "after": after,
                "written": written,
                "zram": used,
                "net": net,
                "net_each": net / self.n,
                "wake_before": wake_before,
                "wake_after": wake_after,
                "cpu": cpu,
            }
        )

    def goals(self, samples: Samples) -> list[Goal]:
        """Return what the runs were required to show, as far as they were run."""
        net = values(samples, self.cases()[0], "net")
        return [Goal("the memory of zram is less than it saves", min(net) > 0)]


def _pss(fleet: list[Program]) -> float:
    """Return the memory of all, in MiB: what several share is counted once."""
    total = 0
    for one in fleet:
        with Process(one.popen.pid) as process:
            total += process.memory().pss or 0
    return total / MIB


def _wake(fleet: list[Program]) -> float:
    """Wake one after the other; return the median time, in ms."""
    times: list[float] = []
    for one in fleet:
        one.ask("wake")
        times.append(1000 * one.answer())
    return statistics.median(times)

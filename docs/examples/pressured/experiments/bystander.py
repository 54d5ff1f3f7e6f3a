"""A process that shares a cgroup with one that idles and one that grows."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator

from experiment import Experiment
from figures import Column, Goal, Sample, Samples, curve, percentile, times_lower
from host import MIB, MemoryCgroup, pause, until, write_out, zram
from programs import NICE, WARM_UP, Daemon, Program

LIMIT, HOG, FILE, GROWN = 512, 288, 128, 200  # MiB
STEP, PAUSE = 128, 5  # KiB each so many ms
READ = 2  # ms from one read to the next
TIMES = 20  # required


class Bystander(Experiment):
    """The interactive process."""

    name = "bystander"
    title = "An interactive process beside one that grows"
    columns = (
        Column("p50", "p50 us"),
        Column("p99", "p99 us"),
        Column("p999", "p99.9 us"),
        Column("faults", "major faults"),
        Column("grow99", "grower p99 us"),
        Column("grow_most", "grower's worst us"),
        Column("advised", "paged out MiB"),
        Column("cpu", "daemon % CPU", 1),
    )

    def cases(self) -> list[str]:
        """Return the cases, in the order of a round."""
        return [
            f"swappiness {swappiness}, {daemon}"
            for swappiness in (60, 10)
            for daemon in ("without", "with")
        ]

    def conditions(self) -> dict[str, str]:
        """Return what to know beside the numbers."""
        mib, seconds = self.setting.mib, self._seconds()
        return {
            "cgroup": f"{mib(LIMIT)} MiB, swap on zram (lz4, not charged to it)",
            "idle": f"a process with {mib(HOG)} MiB that compress to a half",
            "interactive": f"each {READ} ms it reads a byte of each page of 64 KiB, "
            f"at random, of a mapped file of {mib(FILE)} MiB (MADV_RANDOM) that is in "
            "the page cache",
            "grows": f"to {mib(GROWN)} MiB, {STEP} KiB each {PAUSE} ms",
            "measured": f"the {seconds:.1f} s of the growth",
            "daemon": f"its own options (90 to 80 %), nice {NICE}, ready for "
            f"{WARM_UP} s before the growth begins",
        }

    def _seconds(self) -> float:
        return self.setting.mib(GROWN) * 1024 / STEP * PAUSE / 1000

    def run(self, case: str) -> Sample:
        """Run one case once."""
        mib, seconds = self.setting.mib, self._seconds()
        swappiness = int(case.split()[1].rstrip(","))
        with (
            contextlib.ExitStack() as stack,
            self._file() as path,
            zram(mib(LIMIT) * MIB),
            MemoryCgroup(mib(LIMIT) * MIB, swappiness) as cgroup,
            Program(cgroup, "idle", mib(HOG)) as idle,
            Program(cgroup, "read", path, READ, seconds) as reader,
            Program(cgroup, "grow", mib(GROWN), STEP, PAUSE) as grower,
            tempfile.TemporaryDirectory() as directory,
        ):
            for program in (idle, reader, grower):
                program.ready()
            daemon = None
            if case.endswith("with"):
                daemon = stack.enter_context(Daemon(cgroup, directory))
            began = time.monotonic()
            reader.ask("read")
            grower.ask("grow")
            series: dict[str, list[float]] = {"time": [], "used": [], "idle_swap": []}
            while not reader.answered():
                series["time"].append(time.monotonic() - began)
                series["used"].append(cgroup.used() / MIB)
                series["idle_swap"].append(idle.status()[1] / MIB)
                pause(0.05)
            read = reader.answer()
            until(grower.answered, "the growth ends")
            steps = sorted(grower.answer() or [0])
            advised, cpu = (daemon.advised(), daemon.cpu()) if daemon else (0, 0)
        times = sorted(read["us"])
        return Sample(
            {
                **{
                    name: percentile(times, level)
                    for name, level in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
                },
                "faults": read["major_faults"],
                "grow99": percentile(steps, 0.99),
                "grow_most": steps[-1],
                "advised": advised,
                "cpu": cpu,
            },
            {**series, "us": curve(times)},
        )

    @contextlib.contextmanager
    def _file(self) -> Iterator[str]:
        """Have a file that is not in the page cache."""
        with tempfile.NamedTemporaryFile(
            dir=self.setting.directory, prefix="pmadvise-file-"
        ) as file:
            write_out(file, self.setting.mib(FILE) * MIB)
            yield file.name

    def goals(self, samples: Samples) -> list[Goal]:
        """Return what the runs were required to show, as far as they were run."""
        goals = []
        for swappiness in (60, 10):
            case = f"swappiness {swappiness}, "
            times = times_lower(samples, "p99", f"{case}with", than=f"{case}without")
            if times is not None:
                text = f"swappiness {swappiness}: p99 {times:.0f} times lower with the "
                text += f"daemon, {TIMES} required"
                goals.append(Goal(text, times >= TIMES))
        return goals

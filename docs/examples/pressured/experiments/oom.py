"""Whether a process is killed for want of memory, and when nothing helps."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass

from experiment import Experiment
from figures import Column, Goal, Sample, Samples, values
from host import MIB, MemoryCgroup, pause, swap_file, zram
from programs import NICE, WARM_UP, Daemon, Program

LIMIT, HOG, GROWN = 512, 300, 400  # MiB
STEP, PAUSE = 1024, 5  # KiB each so many ms
HIGH, LOW = 80, 60  # percent: half a second of that growth before the limit


@dataclass(frozen=True)
class Condition:
    """What decides whether the kernel kills."""

    kind: str
    swappiness: int
    pause: int

    def __str__(self) -> str:
        pace = f"{STEP >> 10} MiB in {self.pause} ms" if self.pause else "no pauses"
        return f"{self.kind}, swappiness {self.swappiness}, {pace}"


SAVED = Condition("zram", 0, PAUSE)
CONDITIONS = (
    SAVED,
    Condition("zram", 60, PAUSE),
    Condition("swap file", 0, PAUSE),
    Condition("zram", 0, 0),
)
CASES = {
    f"{condition}, {daemon}": (condition, daemon == "with")
    for condition in CONDITIONS
    for daemon in ("without", "with")
}


class Oom(Experiment):
    """The kernel's last resort."""

    name = "oom"
    title = "A process grows past the limit of its cgroup, beside one that idles"
    columns = (
        Column("killed", "runs with a kill", is_count=True),
        Column("used", "cgroup at most MiB"),
        Column("swapped", "idle in swap MiB"),
    )

    def cases(self) -> list[str]:
        """Return the cases, in the order of a round."""
        return list(CASES)

    def conditions(self) -> dict[str, str]:
        """Return what to know beside the numbers."""
        mib = self.setting.mib
        return {
            "cgroup": f"{mib(LIMIT)} MiB; zram is not charged to it, the swap cache of "
            "a swap file is",
            "idle": f"a process with {mib(HOG)} MiB that compress to a half",
            "grows": f"to {mib(GROWN)} MiB",
            "daemon": f"--high {HIGH} --low {LOW}, nice {NICE}, ready for {WARM_UP} s "
            "before the growth begins",
        }

    def run(self, case: str) -> Sample:
        """Run one case once."""
        mib = self.setting.mib
        condition, has_daemon = CASES[case]
        size = mib(LIMIT) * MIB
        with contextlib.ExitStack() as stack:
            enter = stack.enter_context
            enter(
                zram(size)
                if condition.kind == "zram"
                else swap_file(size, self.setting.directory)
            )
            cgroup = enter(MemoryCgroup(mib(LIMIT) * MIB, condition.swappiness))
            idle = enter(Program(cgroup, "idle", mib(HOG))).ready()
            grower = enter(
                Program(cgroup, "grow", mib(GROWN), STEP, condition.pause)
            ).ready()
            directory = enter(tempfile.TemporaryDirectory())
            if has_daemon:
                enter(
                    Daemon(
                        *(cgroup, directory, "--high", str(HIGH), "--low", str(LOW)),
                        warm_up=WARM_UP / self.setting.divisor,
                    )
                )
            used = swapped = 0
            grower.ask("grow")
            while not grower.answered():
                with contextlib.suppress(ProcessLookupError):  # it was killed
                    swapped = max(swapped, idle.status()[1])
                used = max(used, cgroup.used())
                pause(0.02)
            killed = cgroup.killed() > 0
        return Sample(
            {
                "killed": killed,
                "used": used / MIB,
                "swapped": swapped / MIB,
            }
        )

    def goals(self, samples: Samples) -> list[Goal]:
        """Return what the runs were required to show, as far as they were run."""
        without = values(samples, f"{SAVED}, without", "killed")
        with_it = values(samples, f"{SAVED}, with", "killed")
        if not without or not with_it:
            return []
        return [
            Goal(f"{SAVED}: killed in every run without the daemon", all(without)),
            Goal(f"{SAVED}: in none with it", not any(with_it)),
        ]

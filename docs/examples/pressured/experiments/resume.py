"""How long memory takes to come back: by faults, or read ahead before."""

from __future__ import annotations

from experiment import Experiment
from figures import Column, Goal, Sample, Samples, times_lower
from host import MIB, MemoryCgroup, swap_file, zram
from programs import Program

from pmadvise import Process

SIZE = 256  # MiB
SPARE = 64 * MIB  # bytes of swap that are left
MAX_STALL = 0.01  # seconds, as the daemon has it


class Resume(Experiment):
    """The way back."""

    name = "resume"
    title = "A process that was paged out touches all of its memory"
    columns = (
        Column("willneed", "WILLNEED ms"),
        Column("touch", "touch ms"),
        Column("total", "total ms"),
    )

    def cases(self) -> list[str]:
        """Return the cases, in the order of a round."""
        return [
            f"{area}, {order}, {way}"
            for area in ("swap file", "zram")
            for order in ("in order", "random")
            for way in ("by faults", "WILLNEED")
        ]

    def conditions(self) -> dict[str, str]:
        """Return what to know beside the numbers."""
        return {
            "process": f"{self.setting.mib(SIZE)} MiB that compress to a half, paged "
            "out by pageout()",
            "swap file": f"on the disk of {self.setting.directory}, at the highest "
            "priority; the swap cache is emptied before",
            "touch": "a byte of each page, in the order of addresses or shuffled",
            "WILLNEED": f"willneed() of all of it, max_stall {MAX_STALL} s, then touch",
        }

    def run(self, case: str) -> Sample:
        """Run one case once."""
        size = self.setting.mib(SIZE) * MIB
        kind, order, way = case.split(", ")
        area = (
            zram(size + SPARE)
            if kind == "zram"
            else swap_file(size + SPARE, self.setting.directory)
        )
        with (
            area as swap,
            MemoryCgroup(4 * size + 64 * MIB, 60) as cgroup,
            Program(cgroup, "touch", size // MIB) as program,
            Process(program.ready().popen.pid) as process,
        ):
            process.pageout()
            cgroup.reclaim_all()
            out = min(swap.used(), process.status().swap)
            if out < 0.95 * size:
                raise RuntimeError(f"{out >> 20} MiB were paged out of {size >> 20}")
            took = 0.0
            if way == "WILLNEED":
                took = process.willneed(max_stall=MAX_STALL).elapsed
            program.ask(order)
            touch = program.answer()
        return Sample(
            {
                "willneed": 1000 * took,
                "touch": 1000 * touch,
                "total": 1000 * (took + touch),
            }
        )

    def goals(self, samples: Samples) -> list[Goal]:
        """Return what the runs were required to show, as far as they were run."""
        goals = []
        for order in ("in order", "random"):
            case = f"swap file, {order}, "
            times = times_lower(
                samples, "total", f"{case}WILLNEED", than=f"{case}by faults"
            )
            if times is not None:
                text = f"swap file, {order}: {times:.1f} times faster with WILLNEED"
                goals.append(Goal(text, times > 1))
        return goals

"""How memory comes back: by faults, read ahead before, or touched as well."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from experiment import Experiment
from figures import Column, Goal, Sample, Samples, Summary, times_lower, values
from host import MIB, MemoryCgroup, data_file, swap_file, zram
from programs import Program

from pmadvise import Process, Ranges

SIZE = 256  # MiB
SPARE = 64 * MIB  # bytes of swap that are left
MAX_STALL = 0.01  # seconds, as the daemon has it
PRESSURE = 10  # seconds
ORDERS = (
    ("zram", "random"),
    ("swap file", "in order"),
    ("swap file", "random"),
    ("mapped file", "random"),
)
WAYS = ("by faults", "WILLNEED", "WILLNEED and touch")


class Resume(Experiment):
    """The way back."""

    name = "resume"
    title = "A process that was paged out touches all of its memory"
    columns = (
        Column("willneed", "ahead ms"),
        Column("touch", "then touches ms"),
        Column("total", "total ms"),
        Column("minor", "minor faults"),
        Column("major", "major faults"),
        Column("later", "after pressure ms"),
        Column("later_minor", "minor faults then"),
        Column("later_major", "major faults then"),
    )

    def cases(self) -> list[str]:
        """Return the cases, in the order of a round."""
        return [f"{kind}, {order}, {way}" for kind, order in ORDERS for way in WAYS]

    def conditions(self) -> dict[str, str]:
        """Return what to know beside the numbers."""
        size = self.setting.mib(SIZE)
        return {
            "process": f"{size} MiB, paged out by pageout(): private memory that "
            "compresses to a half, or a mapped file that is only read",
            "files": f"on the disk of {self.setting.directory}; the swap cache is "
            "emptied before",
            "touches": "a byte of each page, in the order of addresses or shuffled",
            "ahead": f"willneed() of all of it, max_stall {MAX_STALL} s; touch=True",
            "pressure": f"paged out and ahead once more; then {PRESSURE} s in which "
            f"another process writes {size // 16} MiB and reads a file of {size} MiB, "
            f"over and over, with room for {size + size // 4} MiB in the cgroup; then "
            "it touches",
        }

    def run(self, case: str) -> Sample:
        """Run one case once."""
        size = self.setting.mib(SIZE) * MIB
        kind, order, way = case.split(", ")
        with (
            self._away(kind, size) as path,
            data_file(size, self.setting.directory) as other,
            MemoryCgroup(4 * size + SPARE, 60) as cgroup,
            Program(cgroup, "touch", size // MIB, path) as program,
            Process(program.ready().popen.pid) as process,
            Program(cgroup, "press", size // 16 // MIB, other) as press,
        ):
            press.ready()
            whole = process.maps().select(path=path or "", min_length=size)
            took = self._back(process, cgroup, whole, way)
            program.ask(order)
            now = program.answer()
            self._back(process, cgroup, whole, way)
            cgroup.limit(size + size // 4)
            press.ask(str(PRESSURE / self.setting.divisor**1.5))
            press.answer()
            program.ask(order)
            later = program.answer()
        return Sample(
            {
                "willneed": 1000 * took,
                "touch": 1000 * now["seconds"],
                "total": 1000 * (took + now["seconds"]),
                "minor": now["minor"],
                "major": now["major"],
                "later": 1000 * later["seconds"],
                "later_minor": later["minor"],
                "later_major": later["major"],
            }
        )

    @contextlib.contextmanager
    def _away(self, kind: str, size: int) -> Iterator[str]:
        """Have the place for what is paged out; yield the path of a mapped file."""
        directory = self.setting.directory
        if kind == "mapped file":
            with data_file(size, directory) as file:
                yield str(file)
            return
        room = 2 * size + SPARE
        with zram(room) if kind == "zram" else swap_file(room, directory):
            yield ""

    def _back(
        self, process: Process, cgroup: MemoryCgroup, whole: Ranges, way: str
    ) -> float:
        """Page out, and read back in one way; return the seconds of that."""
        process.pageout(whole)
        cgroup.reclaim_all()
        left = process.resident(whole).total
        if left > 0.05 * whole.total:
            raise RuntimeError(f"{left >> 20} MiB of {whole.total >> 20} stayed")
        if way == "by faults":
            return 0.0
        is_touched = way == "WILLNEED and touch"
        report = process.willneed(whole, max_stall=MAX_STALL, touch=is_touched)
        return report.elapsed

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
        for kind, order in ORDERS:
            case = f"{kind}, {order}, WILLNEED and touch"
            if left := values(samples, case, "minor"):
                pages = self.setting.mib(SIZE) << 8
                n = Summary.of(left).median
                goals.append(Goal(f"{case}: {n:.0f} faults are left", n < pages / 50))
        return goals

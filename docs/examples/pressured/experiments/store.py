"""A busy store of which few keys are asked for: what its idle memory is worth."""

from __future__ import annotations

from experiment import Experiment, Setting
from figures import Column, Goal, Sample, Samples, Summary, percentile, values
from host import MIB, MemoryCgroup, zram
from programs import Program

from pmadvise import Process

SIZE = 256  # MiB
HOT, OTHER = 30, 0.5  # percent: of the keys, and of the requests for the other keys
VALUE, ARENA = 64, 16  # KiB, MiB
REQUEST = 1  # ms from one to the next
AGE = 10  # seconds
MEASURED = 10  # seconds


class Store(Experiment):
    """The store."""

    name = "store"
    title = "A busy store, without the memory that it does not use"
    columns = (
        Column("before", "in memory before MiB"),
        Column("saved", "less after MiB"),
        Column("act", "the act ms"),
        Column("p50", "p50 us"),
        Column("p99", "p99 us"),
        Column("p999", "p99.9 us"),
        Column("faults", "major faults"),
    )

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._source = "not run"
        self._freed: dict[str, int] = {}
        """By layout: how many bytes the idle ranges were in the latest run."""

    def cases(self) -> list[str]:
        """Return the cases, in the order of a round."""
        return [
            f"{layout}, {how}"
            for layout in ("recent", "scattered")
            for how in ("as it is", "idle ranges", "reclaim of as much")
        ]

    def conditions(self) -> dict[str, str]:
        """Return what to know beside the numbers."""
        return {
            "store": f"{self.setting.mib(SIZE)} MiB, values of {VALUE} KiB in arenas "
            f"of {ARENA} MiB; each {REQUEST} ms a request reads a byte of each page of "
            f"one; {HOT} % of the keys get all of them but {OTHER} %",
            "recent": "the hot keys lie together, as those that were put in last do",
            "scattered": "they lie anywhere",
            "idle ranges": f"by the source {self._source!r}: what was not touched in "
            f"{AGE} s of requests, by pageout(), to zram",
            "reclaim of as much": "by memory.reclaim, in cgroup v1 by a limit that is "
            "lowered by so much",
            "measured": f"{MEASURED} s of requests right after; memory at their end",
        }

    def run(self, case: str) -> Sample:
        """Run one case once."""
        layout, how = case.split(", ")
        size = self.setting.mib(SIZE) * MIB
        seconds = [n / self.setting.divisor**1.5 for n in (AGE, MEASURED)]
        with (
            zram(2 * size),
            MemoryCgroup(2 * size, 60) as cgroup,
            Program(
                cgroup, "store", size // MIB, layout, HOT, OTHER, REQUEST
            ) as program,
            Process(program.ready().popen.pid) as process,
        ):
            before = process.status()
            act = 0.0
            if how == "idle ranges":
                act = self._page_out(process, program, seconds[0])
            else:
                program.ask(str(seconds[0]))
                program.answer()
            if how == "reclaim of as much" and self._freed[layout]:
                act = cgroup.reclaim(self._freed[layout])
            program.ask(str(seconds[1]))
            answer = program.answer()
            saved = before.rss - process.status().rss
        if how == "idle ranges":
            self._freed[layout] = max(saved, 0)
        times = sorted(answer["us"])
        return Sample(
            {
                "before": before.rss / MIB,
                "saved": saved / MIB,
                "act": 1000 * act,
                "p50": percentile(times, 0.5),
                "p99": percentile(times, 0.99),
                "p999": percentile(times, 0.999),
                "faults": answer["major_faults"],
            }
        )

    def _page_out(self, process: Process, program: Program, seconds: float) -> float:
        """Page out what is idle for so long; return the seconds that it took."""
        with process.track() as tracker:
            self._source = tracker.source
            program.ask(str(seconds))
            program.answer()
            tracker.look()
            return process.pageout(tracker.idle(seconds)).elapsed

    def goals(self, samples: Samples) -> list[Goal]:
        """Return what idle ranges must save, by a source that tells ranges apart."""
        saved = values(samples, "recent, idle ranges", "saved")
        if not saved or self._source == "mappings":
            return []
        cold = self.setting.mib(SIZE) * (1 - HOT / 100)
        least = Summary.of(saved).median
        text = (
            f"recent: {least:.0f} MiB saved of {cold:.0f} that are cold, 80 % required"
        )
        return [Goal(text, least >= 0.8 * cold)]

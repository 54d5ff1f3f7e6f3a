"""Memory that is wanted of a cgroup: what each way takes, and whom it hurts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from experiment import Experiment
from figures import Column, Goal, Sample, Samples, Summary, percentile, values
from host import MIB, MemoryCgroup, data_file, pause, setting_of, swap_file, zram
from programs import Program

import pmadvise

IDLE, STORE, FILE = 96, 128, 64  # MiB
HOT, OTHER = 30, 0.5  # percent: of the store's keys, and of the requests for the others
REQUEST = 2  # ms from one to the next
SECONDS = 10  # of requests before, and after
STEP, STALLED = MIB, 0.01  # of small steps, one in a quarter of a second
LRU_GEN = Path("/sys/kernel/mm/lru_gen/enabled")
ZSWAP = Path("/sys/module/zswap/parameters/enabled")


class Choice(Experiment):
    """The ways."""

    name = "choice"
    title = "Memory is wanted of a cgroup in which some idles"
    columns = (
        Column("taken", "taken MiB"),
        Column("away", "still away MiB"),
        Column("idle", "of the idle one"),
        Column("store", "of the store"),
        Column("file", "of the file"),
        Column("act", "the act ms"),
        Column("p50", "p50 us"),
        Column("p99", "p99 us"),
        Column("faults", "major faults"),
    )

    def cases(self) -> list[str]:
        """Return the cases, in the order of a round: those that the kernel has."""
        cases = ["as it is", "PAGEOUT of the idle process", "PAGEOUT of idle ranges"]
        if not pmadvise.support().reclaim:
            return cases
        cases += ["memory.reclaim", "memory.reclaim, swappiness=200"]
        cases += ["small steps until PSI rises"]
        if LRU_GEN.exists():
            cases.append("memory.reclaim, the other LRU")
        if ZSWAP.exists():
            cases += ["PAGEOUT of the idle process, zswap", "memory.reclaim, zswap"]
        return cases

    def conditions(self) -> dict[str, str]:
        """Return what to know beside the numbers."""
        mib = self.setting.mib
        return {
            "cgroup": f"a process that idles with {mib(IDLE)} MiB; a store of "
            f"{mib(STORE)} MiB, {HOT} % of whose keys, anywhere in it, get all but "
            f"{OTHER} % of the requests, one each {REQUEST} ms; {mib(FILE)} MiB of "
            "page cache of a mapped file that is read in full once a second",
            "wanted": f"{mib(IDLE)} MiB, to zram (zswap: on a swap file)",
            "small steps": f"{STEP // MIB} MiB by memory.reclaim four times a second, "
            f"until processes wait for memory {100 * STALLED:.1f} % of the time, or "
            f"for {SECONDS} s",
            "the other LRU": "MGLRU off where it is on, on where it is off",
            "measured": f"{SECONDS} s of requests before, meanwhile, and after; what "
            "is still away, at their end",
        }

    def run(self, case: str) -> Sample:
        """Run one case once."""
        mib, seconds = self.setting.mib, SECONDS / self.setting.divisor**1.5
        total = mib(IDLE + STORE + FILE) * MIB
        with (
            self._swap(case, total),
            data_file(mib(FILE) * MIB, self.setting.directory) as path,
            MemoryCgroup(2 * total, 60) as cgroup,
            Program(cgroup, "idle", mib(IDLE)) as idle,
            Program(cgroup, "scan", path) as scan,
            Program(
                cgroup, "store", mib(STORE), "scattered", HOT, OTHER, REQUEST
            ) as store,
            pmadvise.Process(idle.ready().popen.pid) as idler,
            pmadvise.Process(store.ready().popen.pid) as busy,
            pmadvise.Process(scan.ready().popen.pid) as scanner,
        ):
            store.ask(str(seconds))
            with contextlib.ExitStack() as stack:
                trackers = {}
                if "idle ranges" in case:  # DAMON tracks one process at a time
                    trackers[busy] = stack.enter_context(busy.track())
                    trackers[idler] = stack.enter_context(idler.track("mappings"))
                store.answer()
                before = [cgroup.used(), *map(_rss, (idler, busy, scanner))]
                store.ask(str(seconds))
                act = self._act(case, cgroup, (idler, busy), trackers, seconds)
                at_once = cgroup.used()
                store.answer()
            store.ask(str(seconds))
            answer = store.answer()
            after = [cgroup.used(), *map(_rss, (idler, busy, scanner))]
        times = sorted(answer["us"])
        fell = (max(a - b, 0) / MIB for a, b in zip(before, after, strict=True))
        return Sample(
            {
                "taken": max(before[0] - at_once, 0) / MIB,
                **dict(zip(("away", "idle", "store", "file"), fell, strict=True)),
                "act": 1000 * act,
                "p50": percentile(times, 0.5),
                "p99": percentile(times, 0.99),
                "faults": answer["major_faults"],
            }
        )

    @contextlib.contextmanager
    def _swap(self, case: str, size: int) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if "zswap" in case:
                stack.enter_context(swap_file(size, self.setting.directory))
                stack.enter_context(setting_of(ZSWAP, "1"))
            else:
                stack.enter_context(zram(size))
            if "other LRU" in case:
                is_on = int(LRU_GEN.read_text(), 16) & 1
                stack.enter_context(setting_of(LRU_GEN, "0" if is_on else "7"))
            yield

    def _act(
        self,
        case: str,
        cgroup: MemoryCgroup,
        processes: tuple[pmadvise.Process, pmadvise.Process],
        trackers: dict[pmadvise.Process, pmadvise.Tracker],
        seconds: float,
    ) -> float:
        """Take the memory while the store serves; return the seconds of that."""
        wanted = self.setting.mib(IDLE) * MIB
        began = time.monotonic()
        if case.startswith("PAGEOUT of the idle process"):
            processes[0].pageout()
        elif trackers:
            for tracker in trackers.values():
                tracker.look()
            pmadvise.advise_each(
                processes,
                pmadvise.Advice.PAGEOUT,
                select=lambda process: trackers[process].idle(seconds / 2),
                budget=wanted,
            )
        elif "memory.reclaim" in case:
            swappiness = 200 if "200" in case else None
            pmadvise.reclaim(cgroup.path, wanted, swappiness=swappiness)
        elif case.startswith("small steps"):
            self._small_steps(cgroup, wanted, seconds)
        return time.monotonic() - began

    def _small_steps(self, cgroup: MemoryCgroup, wanted: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        while wanted > 0 and time.monotonic() < end:
            stalled, began = _stalled(cgroup), time.monotonic()
            wanted -= pmadvise.reclaim(cgroup.path, STEP).reclaimed
            pause(0.25)
            share = (_stalled(cgroup) - stalled) / (time.monotonic() - began)
            if share > STALLED:
                break

    def goals(self, samples: Samples) -> list[Goal]:
        """Return what PAGEOUT of the idle process must leave alone."""
        taken = values(samples, "PAGEOUT of the idle process", "store")
        if not taken:
            return []
        most = Summary.of(taken).most
        return [Goal(f"{most:.0f} MiB of the store are taken with it", most < 4)]


def _rss(process: pmadvise.Process) -> int:
    return process.status().rss


def _stalled(cgroup: MemoryCgroup) -> float:
    """Return the seconds in which some process has waited for memory."""
    text = (cgroup.path / "memory.pressure").read_text()
    return int(text.partition("total=")[2].split()[0]) / 1e6

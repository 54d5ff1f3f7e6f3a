"""The experiments on the daemon: what it gains, and where it gains nothing.

As root. Each prints its conditions beside its numbers: the median of the runs, then
the least to the most. Cases are run in turn, so that what disturbs the machine disturbs
all of them. Swap and cgroups are made for each run, and undone however it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import signal
import sys
from pathlib import Path

from bystander import Bystander
from choice import Choice
from experiment import Experiment, Setting
from figures import Samples
from fleet import Fleet
from host import Lacking, Stopped, root_needed, stopping
from oom import Oom
from resume import Resume
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table
from store import Store

EXPERIMENTS: tuple[type[Experiment], ...] = (
    Bystander,
    Resume,
    Fleet,
    Oom,
    Store,
    Choice,
)
NAMES = [one.name for one in EXPERIMENTS]
NOT_MET, LACKING, INTERRUPTED = 1, 2, 130
QUICK = 8


def machine() -> dict[str, str]:
    """Return what to know of the machine."""

    def line(path: str) -> str:
        with contextlib.suppress(OSError):
            return Path(path).read_text().strip()
        return "none"

    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    huge = line("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "kernel": platform.release(),
        "CPUs": str(os.cpu_count()),
        "memory": f"{pages * size >> 20} MiB",
        "Python": platform.python_version(),
        "huge pages": huge.partition("[")[2].partition("]")[0] or huge,
        "page-cluster": line("/proc/sys/vm/page-cluster"),
        "multi-gen LRU": line("/sys/kernel/mm/lru_gen/enabled"),
        "load": " ".join(line("/proc/loadavg").split()[:3]),
    }


def run_all(
    experiments: list[Experiment], runs: int, results: dict[str, Samples]
) -> None:
    """Run the cases of each experiment in turn, and add up what they give."""
    total = runs * sum(len(experiment.cases()) for experiment in experiments)
    with Progress(
        *Progress.get_default_columns()[:2],
        TimeElapsedColumn(),
        "{task.completed}/{task.total}",
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("", total=total)
        for experiment in experiments:
            samples = results.setdefault(experiment.name, {})
            for _ in range(runs):
                for case in experiment.cases():
                    if stopping.is_set():
                        raise Stopped
                    progress.update(task, description=f"{experiment.name}: {case}")
                    sample = experiment.run(case)
                    samples.setdefault(case, []).append(sample)
                    progress.advance(task)


def show(console: Console, experiment: Experiment, samples: Samples) -> bool:
    """Print the numbers with their conditions; return whether the goals were met."""
    console.print(f"\n[bold]{experiment.name}[/]: {experiment.title}")
    for name, text in experiment.conditions().items():
        console.print(f"  {name}: {text}", highlight=False)
    table = Table("case", "runs")
    for column in experiment.columns:
        table.add_column(column.title, justify="right")
    for case, ran in samples.items():
        numbers = [[one.values[c.key] for one in ran] for c in experiment.columns]
        cells = (c.show(n) for c, n in zip(experiment.columns, numbers, strict=True))
        table.add_row(case, str(len(ran)), *cells)
    console.print(table)
    goals = experiment.goals(samples)
    for goal in goals:
        console.print(f"  {'met' if goal.met else 'NOT MET'}: {goal.text}")
    return all(goal.met for goal in goals)


def document(
    experiments: list[Experiment], results: dict[str, Samples], facts: dict[str, str]
) -> dict[str, object]:
    """Return all of it for programs."""
    return {
        "machine": facts,
        "experiments": {
            one.name: {
                "title": one.title,
                "conditions": one.conditions(),
                "runs": {
                    case: [dataclasses.asdict(sample) for sample in ran]
                    for case, ran in results.get(one.name, {}).items()
                },
                "goals": [
                    dataclasses.asdict(goal)
                    for goal in one.goals(results.get(one.name, {}))
                ],
            }
            for one in experiments
        },
    }


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser("experiments", description=__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    add("--runs", type=int, default=5, metavar="N", help="of each case (5)")
    add("--json", metavar="FILE", help="write each run")
    add("--plots", metavar="DIRECTORY", help="draw them; needs matplotlib")
    add("--directory", default="/var/tmp", help="on a disk, for files and swap")
    add("--quick", action="store_true", help="one small run: it measures nothing")
    add("--list", action="store_true", help="print the experiments and their cases")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no experiment {', '.join(sorted(unknown))}: {', '.join(NAMES)}")
    if options.runs < 1:
        parser.error("--runs: at least 1")
    return options


def main() -> int:
    """Run the command; return the exit status."""
    options = parse()
    setting = Setting(options.directory, QUICK if options.quick else 1)
    experiments = [
        one(setting) for one in EXPERIMENTS if one.name in (options.names or NAMES)
    ]
    if options.list:
        for experiment in experiments:
            print(f"{experiment.name}: {experiment.title}")
            print(*(f"    {case}" for case in experiment.cases()), sep="\n")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    results: dict[str, Samples] = {}
    status, facts = 0, machine()
    try:
        root_needed()
        if options.plots:
            import plots  # noqa: PLC0415 - needs matplotlib

        run_all(experiments, 1 if options.quick else options.runs, results)
    except Stopped:
        status = INTERRUPTED
    except (Lacking, ImportError) as error:
        print(f"experiments: {error}", file=sys.stderr)
        status = LACKING
    finally:
        console = Console(width=None if sys.stdout.isatty() else 160)
        ran = [one for one in experiments if results.get(one.name)]
        if ran:
            facts["load at the end"] = machine()["load"]
            line = ", ".join(f"{name} {text}" for name, text in facts.items())
            console.print(f"machine: {line}", highlight=False)
        met = [show(console, one, results[one.name]) for one in ran]
        if options.json and ran:
            text = json.dumps(document(ran, results, facts))
            Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.plots and ran:
        for path in plots.draw(Path(options.plots), results):
            console.print(f"drawn: {path}", highlight=False)
    if status == 0 and not all(met) and not options.quick:
        return NOT_MET
    return status


if __name__ == "__main__":
    sys.exit(main())

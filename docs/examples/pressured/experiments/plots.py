"""The experiments' results, drawn by matplotlib: small SVG files, text left as text."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bystander
import matplotlib as mpl
import oom
from figures import LEVELS, Samples, Summary, values
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

mpl.use("svg")
STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pmadvise",  # the same numbers, the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.constrained_layout.use": True,
}
COLOURS = {"without": "tab:red", "with": "tab:blue"}
DAEMON = {"without": "without the daemon", "with": "with it"}
SWAPPINESS = (60, 10)


def draw(directory: Path, results: dict[str, Samples]) -> list[Path]:
    """Draw what there are results of; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):
        for name, (experiment, plot) in PLOTS.items():
            if not results.get(experiment):
                continue
            path = directory / f"{name}.svg"
            figure = plot(results[experiment])
            figure.savefig(path, metadata={"Date": None})
            drawn.append(path)
    return drawn


def _pair(title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8, 3.2))
    axes = figure.subplots(1, len(SWAPPINESS), sharey=True)
    figure.suptitle(title, fontsize=10)
    for ax, swappiness in zip(axes, SWAPPINESS, strict=True):
        ax.set_title(f"swappiness {swappiness}", fontsize=9)
    return figure, list(axes)


def latency(samples: Samples) -> Figure:
    """Draw the percentile curves of the reads: each run, and the median of the runs."""
    figure, axes = _pair("Reads of a cached file beside a process that grows")
    rare = [1 - level for level in LEVELS]
    for (ax, swappiness), daemon in itertools.product(
        zip(axes, SWAPPINESS, strict=True), COLOURS
    ):
        curves = [
            sample.series["us"]
            for sample in samples.get(f"swappiness {swappiness}, {daemon}", ())
        ]
        colour = COLOURS[daemon]
        for one in curves:
            ax.plot(rare, one, linewidth=0.6, alpha=0.5, color=colour)
        if curves:
            median = [Summary.of(at).median for at in zip(*curves, strict=True)]
            ax.plot(rare, median, linewidth=2, color=colour, label=DAEMON[daemon])
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="percentile", xlim=(1, 1e-4))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 - 100 * x:g}"))
    axes[0].set_ylabel("µs a read")
    axes[0].legend(loc="upper left", frameon=False)
    return figure


def memory(samples: Samples) -> Figure:
    """Draw the cgroup's memory in the first run of each case."""
    figure, axes = _pair("Memory of the cgroup, and of the idle process in swap")
    for (ax, swappiness), daemon in itertools.product(
        zip(axes, SWAPPINESS, strict=True), COLOURS
    ):
        for sample in samples.get(f"swappiness {swappiness}, {daemon}", ())[:1]:
            for key, line in (("used", "-"), ("idle_swap", "--")):
                ax.plot(
                    *(sample.series["time"], sample.series[key], line),
                    color=COLOURS[daemon],
                    label=DAEMON[daemon] if key == "used" else None,
                )
    for ax in axes:
        ax.axhline(bystander.LIMIT, color="black", linewidth=0.8)
        ax.set(xlabel="s", ylim=(0, None))
    axes[0].set_ylabel("MiB (dashed: in swap)")
    axes[0].legend(loc="center left", frameon=False)
    return figure


def fleet(samples: Samples) -> Figure:
    """Draw the memory before and after."""
    [(case, runs)] = samples.items()

    def median(key: str) -> float:
        return Summary.of(values(samples, case, key)).median

    figure = Figure(figsize=(6, 1.9))
    ax = figure.subplots()
    bars = ("paged out", "all in memory")
    ax.barh(bars, [median("after"), median("before")], color="tab:blue", label="PSS")
    ax.barh(
        *(bars, [median("zram"), 0]),
        left=[median("after"), 0],
        color="tab:orange",
        label="memory of zram",
    )
    ax.set(xlabel="MiB")
    ax.set_title(
        f"{case}: {median('net'):,.0f} MiB net, {median('net_each'):.1f} each "
        f"(runs: {len(runs)})",
        fontsize=10,
    )
    ax.legend(frameon=False, loc="lower right")
    return figure


def resume(samples: Samples) -> Figure:
    """Draw how long the way back takes."""
    cases = list(samples)[::-1]
    figure = Figure(figsize=(7, 3.4))
    ax = figure.subplots()
    left = [0.0] * len(cases)
    for key, colour, label in (
        ("willneed", "tab:orange", "ahead of need"),
        ("touch", "tab:blue", "touch"),
    ):
        widths = [Summary.of(values(samples, case, key)).median for case in cases]
        ax.barh(cases, widths, left=left, color=colour, label=label)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    ax.set(xlabel="ms")
    ax.set_title("256 MiB come back", fontsize=10)
    ax.legend(frameon=False, loc="lower right")
    return figure


def kills(samples: Samples) -> Figure:
    """Draw the runs in which the kernel killed."""
    figure = Figure(figsize=(7, 3))
    ax = figure.subplots()
    conditions = [str(one) for one in oom.CONDITIONS]
    for shift, daemon in ((-0.2, "without"), (0.2, "with")):
        shares, labels = [], []
        for condition in conditions:
            killed = values(samples, f"{condition}, {daemon}", "killed")
            shares.append(100 * sum(killed) / max(len(killed), 1))
            labels.append(f"{sum(map(bool, killed))} of {len(killed)}")
        bars = ax.barh(
            *([i + shift for i in range(len(conditions))], shares, 0.36),
            color=COLOURS[daemon],
            label=DAEMON[daemon],
        )
        ax.bar_label(bars, labels, padding=3)
    ax.set_yticks(range(len(conditions)), conditions)
    ax.invert_yaxis()
    ax.set(xlabel="% of the runs in which a process was killed", xlim=(0, 110))
    ax.set_title("Growth past the limit of a cgroup", fontsize=10)
    ax.legend(frameon=False, loc=(0.55, 0.55))
    return figure


PLOTS: dict[str, tuple[str, Callable[[Samples], Figure]]] = {
    "bystander-latency": ("bystander", latency),
    "bystander-memory": ("bystander", memory),
    "fleet": ("fleet", fleet),
    "oom": ("oom", kills),
    "resume": ("resume", resume),
}
"""Each file, the experiment, and who draws it."""

"""The experiments on the daemon: their statistics, and that each runs and ends well."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import hypothesis
import pytest
from helpers.needs import ROOT
from helpers.waiting import until
from hypothesis import strategies

pytestmark = pytest.mark.needs_sources

FOLDER = ROOT / "docs/examples/pressured/experiments"
CASES = {"bystander": 4, "resume": 12, "fleet": 1, "oom": 8, "store": 6, "choice": 3}


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    """Import a module of the experiments by its name."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def figures(modules: Any) -> Any:
    """The statistics."""
    return modules("figures")


@pytest.mark.parametrize(
    ("n", "level", "expected"),
    [
        *((1, 0, 1), (1, 1, 1), (2, 0.5, 1), (3, 0.5, 2), (100, 0.07, 7)),
        *((100, 0.99, 99), (100, 0.999, 100), (4000, 0.999, 3996), (10, 0, 1)),
    ],
)
def test_percentile(figures: Any, n: int, level: float, expected: int) -> None:
    """The nearest rank: a value that was measured, never one in between."""
    assert figures.percentile(range(1, n + 1), level) == expected


@hypothesis.given(
    strategies.lists(strategies.floats(allow_nan=False), min_size=1),
    strategies.integers(min_value=0, max_value=1000),
)
@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_percentile_is_the_least(figures: Any, some: list[float], level: int) -> None:
    """So many values are not above it, and fewer are not above any lesser one."""
    ordered = sorted(some)
    found = figures.percentile(ordered, level / 1000)
    assert sum(one <= found for one in some) * 1000 >= level * len(some)
    below = [one for one in ordered if one < found]
    assert len(below) * 1000 < level * len(some) or not below


def test_no_values_have_no_percentile(figures: Any) -> None:
    """An experiment that measured nothing is an error, not a number."""
    with pytest.raises(ValueError, match="no values"):
        figures.percentile([], 0.5)
    with pytest.raises(ValueError, match="no run"):
        figures.Summary.of([])


def test_a_curve_rises(figures: Any) -> None:
    """The plotted curve goes from the least value to the rarest percentile."""
    found = figures.curve(range(1, 100_001))
    assert found == sorted(found)
    assert (found[0], found[20], found[-1]) == (1, 90_000, 99_990)


@pytest.mark.parametrize(
    ("column", "runs", "expected"),
    [
        ({"digits": 0}, [4463, 26, 21632], "4,463 (26 to 21,632)"),
        ({"digits": 1}, [1.0, 2.0], "1.5 (1.0 to 2.0)"),
        ({"digits": 0}, [7, 7, 7], "7"),
        ({"is_count": True}, [1, 0, True, 1, False], "3 of 5"),
    ],
)
def test_a_column_shows_the_spread(
    figures: Any, column: dict[str, Any], runs: list[float], expected: str
) -> None:
    """Beside the median of the runs are the least and the most; kills are counted."""
    assert figures.Column("key", "title", **column).show(runs) == expected


def test_times_lower_is_of_the_medians(figures: Any) -> None:
    """One lucky run of one case does not decide, and a missing case has no answer."""
    samples = {
        "without": [figures.Sample({"p99": n}) for n in (26, 4000, 5000)],
        "with": [figures.Sample({"p99": n}) for n in (20, 400, 25)],
    }
    assert figures.times_lower(samples, "p99", "with", than="without") == 160
    assert figures.times_lower(samples, "p99", "with", than="other") is None


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(FOLDER), *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_list() -> None:
    """--list needs no right, and names each experiment with its cases."""
    lines = run("--list").stdout.split("\n")
    names = [line.partition(":")[0] for line in lines if line[:1].strip()]
    assert names == list(CASES)
    assert sum(line.startswith("    ") for line in lines) == sum(CASES.values())


@pytest.mark.parametrize("arguments", [["bystand"], ["--runs", "0"]])
def test_wrong_usage(arguments: list[str]) -> None:
    """What does not exist is refused before anything is made."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr


def test_goals_can_be_missed(modules: Any) -> None:
    """A run that shows the opposite is not reported as a success."""
    figures, oom = modules("figures"), modules("oom")
    experiment = oom.Oom(modules("experiment").Setting("/var/tmp"))
    one = {
        f"{oom.SAVED}, {daemon}": [figures.Sample({"killed": killed})] * 5
        for daemon, killed in (("without", 1), ("with", 0))
    }
    other = {
        case: [
            *samples[:4],
            figures.Sample({"killed": 1 - samples[0].values["killed"]}),
        ]
        for case, samples in one.items()
    }
    assert [goal.met for goal in experiment.goals(one)] == [True, True]
    assert [goal.met for goal in experiment.goals(other)] == [False, False]


def test_what_is_lacking_is_named(
    modules: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message has the remedy, and nothing was made."""
    host = modules("host")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(host.Lacking, match=r"not root: .* sudo"):
        host.root_needed()
    monkeypatch.setattr(host, "ZRAM_CONTROL", tmp_path)
    with pytest.raises(host.Lacking, match="modprobe zram"), host.zram(1 << 20):
        pass


@pytest.fixture
def zram() -> None:
    """Skip without compressed memory to swap to, or with swap that goes first."""
    if not os.path.exists("/sys/class/zram-control"):
        pytest.skip("no zram: modprobe zram")
    lines = Path("/proc/swaps").read_text().split("\n")[1:]
    if any(line.split()[4] == "32767" for line in lines if line):
        pytest.skip("swap of the highest priority is on: swapoff it")


def traces() -> list[str]:
    """Return the swap and the cgroups that an experiment could have left."""
    swaps = Path("/proc/swaps").read_text().split("\n")
    found = [line.split()[0] for line in swaps if "pmadvise" in line]
    # not by glob(), which fails where another test removes its cgroup
    for above, names, _ in os.walk("/sys/fs/cgroup"):
        mine = (name for name in names if name.startswith("pmadvise-experiments-"))
        found += [f"{above}/{name}" for name in mine]
    return sorted(found + [str(path) for path in Path("/sys/block").glob("zram*")])


@pytest.mark.slow
@pytest.mark.owns_swap
@pytest.mark.needs_root
@pytest.mark.usefixtures("zram")
@pytest.mark.parametrize("name", CASES)
def test_each_runs(name: str, tmp_path: Path) -> None:
    """A small run gives a number for each column of each case, and leaves nothing."""
    before = traces()
    path = tmp_path / "result.json"
    done = run(name, "--quick", "--json", str(path), "--directory", str(tmp_path))
    assert done.returncode == 0, done.stderr
    [(ran, result)] = json.loads(path.read_text())["experiments"].items()
    assert ran == name
    assert [len(runs) for runs in result["runs"].values()] == [1] * CASES[name]
    assert f"{name}: {result['title']}" in done.stdout
    assert traces() == before


@pytest.mark.slow
@pytest.mark.owns_swap
@pytest.mark.needs_root
@pytest.mark.usefixtures("zram")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: int, tmp_path: Path) -> None:
    """It gives what there is, and undoes swap, cgroup and processes."""
    before = traces()
    path = tmp_path / "result.json"
    popen = subprocess.Popen(
        command("oom", "--json", str(path), "--directory", str(tmp_path)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    until(lambda: traces() != before, "the first run has begun")
    popen.send_signal(number)
    output = popen.communicate(timeout=60)[0]
    assert popen.returncode == 130
    assert "NOT MET" not in output
    assert traces() == before


@pytest.mark.needs_tool("matplotlib")
def test_plots(modules: Any, tmp_path: Path) -> None:
    """Each is a small SVG file, even if an experiment was interrupted."""
    figures, plots = modules("figures"), modules("plots")
    series = {"time": [0, 1], "used": [1, 2], "idle_swap": [0, 1]}
    memory = ("after", "before", "zram", "net", "net_each")
    sample = figures.Sample(
        dict.fromkeys(("killed", "willneed", "touch", *memory), 1.0),
        {**series, "us": [1.0] * 81},
    )
    setting = modules("experiment").Setting("/var/tmp")
    results = {
        name: {experiment(setting).cases()[0]: [sample]}
        for name, experiment in (
            ("bystander", modules("bystander").Bystander),
            ("fleet", modules("fleet").Fleet),
            ("oom", modules("oom").Oom),
            ("resume", modules("resume").Resume),
        )
    }
    drawn = plots.draw(tmp_path, results)
    assert [path.stem for path in drawn] == list(plots.PLOTS)
    for path in drawn:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        assert path.stat().st_size < 100_000

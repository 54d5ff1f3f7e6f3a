"""How pressured is watched: Prometheus' rules and Grafana's dashboard."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.needs import ROOT, program
from scrapes import config, sped_up

pytestmark = [pytest.mark.no_swap, pytest.mark.needs_sources]

EXAMPLE = ROOT / "docs/examples/pressured"
RULES = (EXAMPLE / "pressured.rules.yml").read_text(encoding="utf-8")
TESTS = ROOT / "tests/project/pressured.rules.test.yml"
ALERTS = re.findall(r"- alert: (\w+)", RULES)
RECORDED = set(re.findall(r"- record: (\S+)", RULES))
NAME = re.compile(
    r"\b(?:pressured|process)[\w:]*(?=\s*[{\[)]|$|\s+(?:[<>=]|unless|offset))", re.M
)
# What a panel's expression has besides PromQL.
VARIABLES = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
# Prints the names of all samples that the daemon's metrics can have.
REGISTRY = """
import telemetry
from prometheus_client import REGISTRY
suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
for one in REGISTRY.collect():
    for suffix in suffixes.get(one.type, [""]):
        print(one.name + suffix)
"""


def promtool(*arguments: str | Path) -> tuple[int, str]:
    """Run promtool; return its status and output."""
    path = program("promtool")
    assert path
    done = subprocess.run(
        [path, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """The names of the daemon's metrics."""
    done = subprocess.run(
        [sys.executable, "-c", REGISTRY],
        cwd=EXAMPLE,
        env={"PYTHONPATH": f"{EXAMPLE}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    """The dashboard's model."""
    model: dict[str, Any] = json.loads((EXAMPLE / "dashboard.json").read_text())
    return model


def expressions(model: dict[str, Any]) -> Iterator[str]:
    """Yield the panels' expressions, as PromQL."""
    for panel in model["panels"]:
        for target in panel["targets"]:
            expression: str = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            yield expression


@pytest.mark.needs_program("promtool")
def test_the_rules_are_valid() -> None:
    """Prometheus loads the rules."""
    status, output = promtool("check", "rules", EXAMPLE / "pressured.rules.yml")
    assert (status, "SUCCESS" in output) == (0, True), output


@pytest.mark.needs_program("promtool")
def test_the_documented_scrapes_are_valid(tmp_path: Path) -> None:
    """Prometheus takes the scrape configs at the top of the rules."""
    path = tmp_path / "prometheus.yml"
    (tmp_path / "rules.yml").write_text(sped_up(RULES))
    path.write_text(config(RULES, 9779))  # Debian's has no kubernetes_sd_configs
    status, output = promtool("check", "config", path)
    assert status == 0, output
    path.write_text(config(RULES, 9779).replace("labelmap", "no_such_action"))
    assert promtool("check", "config", path)[0] != 0


def test_only_times_are_faster() -> None:
    """Ranges, offsets and `for` are shortened; expressions stay as they are."""
    text = 'x{a="5m"} > 120 and rate(y[1h]) unless y offset 15m\n for: 10m\n # 30 min\n'
    expected = text.replace("[1h]", "[30000ms]").replace("15m", "7500ms")
    assert sped_up(text) == expected.replace("10m", "5000ms")


@pytest.mark.needs_program("promtool")
def test_the_alerts_do_what_they_should() -> None:
    """Each alert fires on the series that it is for, and not on a daemon at work."""
    status, output = promtool("test", "rules", TESTS)
    assert status == 0, output


def groups_of(alert: str) -> str:
    """Return the test file with only the groups in which an alert fires."""
    head, *groups = re.split(r"(?m)^(?=  - name: )", TESTS.read_text(encoding="utf-8"))
    fires = re.compile(rf"alertname: {alert}\n +exp_alerts:")
    return head + "".join(group for group in groups if fires.search(group))


@pytest.mark.needs_program("promtool")
@pytest.mark.parametrize("alert", ALERTS)
@pytest.mark.parametrize("expression", ["vector(0) > 1", "vector(1)"])
def test_the_alerts_are_tested(tmp_path: Path, alert: str, expression: str) -> None:
    """An alert that never fires, or always, is noticed by its own tests alone."""
    folder = tmp_path / "tests/project"
    folder.mkdir(parents=True)
    rules = tmp_path / "docs/examples/pressured/pressured.rules.yml"
    rules.parent.mkdir(parents=True)
    pattern = rf"(- alert: {alert}\n +expr:) (?:>-\n(?: {{10}}.*\n)+|.*\n)"
    changed, count = re.subn(pattern, rf"\1 {expression}\n", RULES)
    assert count == 1
    rules.write_text(changed)
    (folder / TESTS.name).write_text(groups_of(alert))
    assert promtool("check", "rules", rules)[0] == 0
    status, output = promtool("test", "rules", folder / TESTS.name)
    assert status != 0
    assert f"alertname: {alert}, " in output


def test_the_rules_use_what_is_exported(exported: set[str]) -> None:
    """Every metric of the rules is one that the daemon or another rule has."""
    # The comments and the texts of alerts have such words too.
    expressions = re.findall(r"expr: (.*\n(?: {10}.*\n)*)", RULES)
    assert len(expressions) == RULES.count("expr:")
    used = set(NAME.findall("".join(expressions)))
    assert {"pressured_watermark_ratio", "process_start_time_seconds"} <= used
    assert {"pressured_swap_floor_bytes", "pressured_listed_processes"} <= used
    assert used - exported - RECORDED == set()


def test_the_dashboard_uses_what_is_exported(
    dashboard: dict[str, Any], exported: set[str]
) -> None:
    """Every metric of the dashboard is one that the daemon or a rule has."""
    used = {
        name
        for expression in expressions(dashboard)
        for name in NAME.findall(expression)
    }
    assert "pressured_watermark_ratio" in used
    assert used - exported - RECORDED == set()


def test_the_daemon_s_metrics_are_shown(
    dashboard: dict[str, Any], exported: set[str]
) -> None:
    """The dashboard shows each metric that is the daemon's own."""
    shown = "\n".join(expressions(dashboard))
    own = {name for name in exported if name.startswith("pressured_")}
    own -= {name for name in own if name.endswith(("_seconds_count", "_seconds_sum"))}
    assert len(own) >= 11
    assert {name for name in own if name not in shown} == set()


@pytest.mark.needs_program("promtool")
def test_every_expression_of_the_dashboard_is_valid(
    tmp_path: Path, dashboard: dict[str, Any]
) -> None:
    """Prometheus parses every expression: as rules, of which each has one."""
    rules = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(expressions(dashboard))
    ]
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    status, output = promtool("check", "rules", path)
    assert status == 0, output
    assert f"{len(rules)} rules found" in output
    rules[0]["expr"] += ")"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert promtool("check", "rules", path)[0] != 0


def test_no_variable_is_left(dashboard: dict[str, Any]) -> None:
    """Every variable of an expression is Grafana's or the dashboard's own."""
    assert [one for one in expressions(dashboard) if "$" in one] == []
    own = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert {"datasource", "job", "instance"} == own


def test_the_data_source_is_chosen(dashboard: dict[str, Any]) -> None:
    """No data source of somebody's own Grafana is in the dashboard."""
    variable = dashboard["templating"]["list"][0]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    sources = [
        part["datasource"]
        for panel in dashboard["panels"]
        for part in (panel, *panel["targets"])
    ]
    assert {source["uid"] for source in sources} == {"${datasource}"}


def test_the_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    """Each cell of Grafana's grid, 24 wide, belongs to one panel at most."""
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert sorted(set(cells)) == sorted(cells)
    assert max(x for x, _ in cells) < 24
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert sorted(set(identities)) == sorted(identities)

"""Configuration of a Prometheus for one pressured: the documented one, only faster."""

import json
import re
import textwrap

from debian import Failed
from wheels import ROOT

EXAMPLE = ROOT / "docs/examples/pressured"
FASTER = 120  # times: ten minutes are five seconds
INTERVAL = "500ms"  # of scrapes and of rules
UNITS = {"s": 1, "m": 60, "h": 3600}


def scrape_configs(rules: str) -> str:
    """Return the scrape configs that the comment at the top of the rules has."""
    found = re.search(r"^#   scrape_configs:\n(?:#(?:   .*)?\n)+", rules, re.MULTILINE)
    if not found:
        raise Failed("no scrape configs at the top of the rules")
    return textwrap.dedent(re.sub(r"^# ?", "", found[0], flags=re.MULTILINE))


def sped_up(rules: str) -> str:
    """Shorten each range, offset and `for` of the rules."""

    def shorter(match: re.Match[str]) -> str:
        milliseconds = int(match[2]) * UNITS[match[3]] * 1000 // FASTER
        return f"{match[1]}{milliseconds}ms{match[4]}"

    return re.sub(r"(\[|offset |for: )(\d+)([smh])(\]|\b)", shorter, rules)


def pods(port: int) -> str:
    """Return what the discovery finds: a pod of daemonset.yaml, and one without."""
    text = (EXAMPLE / "daemonset.yaml").read_text(encoding="utf-8")
    annotations = dict(re.findall(r'prometheus\.io/(\w+): "?([^"\n]+)', text))
    name = re.search(r"app\.kubernetes\.io/name: (\w+)", text)
    if annotations.pop("port", "") != "9779" or not name:
        raise Failed("daemonset.yaml: no port 9779 in its annotations, or no name")
    meta = "__meta_kubernetes_pod_"
    labels = {f"{meta}label_app_kubernetes_io_name": name[1]}
    other = {"targets": ["127.0.0.1:1"], "labels": labels}
    found = {f"{meta}annotation_prometheus_io_{k}": v for k, v in annotations.items()}
    found[f"{meta}annotation_prometheus_io_port"] = str(port)
    return json.dumps([other, {**other, "labels": {**labels, **found}}])


def config(rules: str, port: int) -> str:
    """Return Prometheus' configuration: the documented one, of this daemon."""
    text = scrape_configs(rules)
    for old, new in (
        ('"host:9779"', f'"127.0.0.1:{port}"'),
        ("kubernetes_sd_configs: [{role: pod}]", f"static_configs: {pods(port)}"),
    ):
        if text.count(old) != 1:
            raise Failed(f"the scrape configs have not one {old}")
        text = text.replace(old, new)
    times = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    return f"global: {json.dumps(times)}\nrule_files: [rules.yml]\n{text}"

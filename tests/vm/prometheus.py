"""Prove the alerts of docs/examples/pressured by a real Prometheus and a real daemon.

    python tests/vm/prometheus.py               as root, with swap: a minute or so
    python tests/vm/prometheus.py --packages    the Debian packages that it needs

The daemon watches a directory that looks like a cgroup; what goes wrong there, or with
the daemon, has to fire an alert, by a static job and by one with the annotations of
daemonset.yaml, and the remedy has to resolve it.  Nothing else may fire.  The scrape
configs are those at the top of pressured.rules.yml; of its rules the times alone are
shortened.  The exit status is 0 only if all came as expected and every expression of
dashboard.json was evaluated, 1 if not, 2 if nothing could be run.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import matrix
from debian import Failed, VmError
from scrapes import EXAMPLE, config, sped_up
from wheels import ROOT

PACKAGES = {"prometheus": "prometheus", "setpriv": "util-linux"}
MIB = 1 << 20
DEADLINE, MOST = 30.0, 120.0  # seconds: for one alert, for all
JOBS = {"pressured", "kubernetes-pods"}
# Each start of the daemon is a restart; how many are within a window is chance.
BY_CHANCE = {"PressuredRestarts"}
VARIABLES = {"$__rate_interval": "4s", "$job": ".*", "$instance": ".*"}
TARGET = "import signal; kept = b'pmadvise' * (4 << 20); print('.', flush=True); "
NO_PTRACE = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Proof:
    """A Prometheus, a daemon and what looks like a cgroup, in a directory.

    Args:
        scratch: The directory.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.group = scratch, scratch / "group"
        self.end = time.monotonic() + MOST
        self.port, self.address = free_port(), f"127.0.0.1:{free_port()}"
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.proven: set[str] = set()

    def start(self, name: str, *command: object) -> subprocess.Popen[bytes]:
        """Start a program; its output goes to a file of that name."""
        with (self.scratch / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*map(str, command)],
                env={**os.environ, "PYTHONPATH": f"{ROOT}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.children[name] = child
        return child

    def stop(self, name: str) -> None:
        """Ask a program to end, and see to it."""
        child = self.children.pop(name)
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def close(self) -> None:
        """Leave nothing behind."""
        for name in [*self.children]:
            self.stop(name)

    def daemon(self, *arguments: str, under: tuple[str, ...] = ()) -> None:
        """Start the daemon; end the one before."""
        if "daemon" in self.children:
            self.stop("daemon")
        self.start(
            "daemon",
            *(*under, sys.executable, EXAMPLE / "pressured.py"),
            *("--cgroup", self.group, "--lock", self.scratch / "lock"),
            *("--listen", f"127.0.0.1:{self.port}", *arguments),
        )

    def write(self, name: str, text: object) -> None:
        """Write a file of the cgroup."""
        (self.group / name).write_text(f"{text}\n")

    def set_up(self) -> None:
        """Start all, as it should be."""
        target = self.start(
            "target", sys.executable, "-Sc", TARGET + "signal.sigwait([15])"
        )
        self.group.mkdir()
        self.write("memory.max", 100 * MIB)
        self.write("memory.current", 50 * MIB)
        self.write("cgroup.procs", target.pid)
        rules = (EXAMPLE / "pressured.rules.yml").read_text(encoding="utf-8")
        (self.scratch / "rules.yml").write_text(sped_up(rules))
        (self.scratch / "prometheus.yml").write_text(config(rules, self.port))
        self.daemon()
        self.start(
            "prometheus",
            *("prometheus", f"--config.file={self.scratch / 'prometheus.yml'}"),
            f"--storage.tsdb.path={self.scratch / 'data'}",
            f"--web.listen-address={self.address}",
            "--log.level=warn",
        )

    def ask(self, path: str, **parameters: object) -> Any:
        """Return what Prometheus answers.

        Raises:
            Failed: It refuses; OSError while it does not listen yet.
        """
        query = urllib.parse.urlencode(parameters)
        url = f"http://{self.address}/api/v1/{path}?{query}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it starts
                raise ConnectionError(path) from None
            raise Failed(f"{path} {parameters}: {error.read().decode()}") from None

    def up(self) -> dict[str, str]:
        """Return whether each job is up."""
        found = self.ask("query", query="up")["result"]
        return {one["metric"]["job"]: one["value"][1] for one in found}

    def firing(self) -> dict[str, set[str]]:
        """Return the alerts that fire, each with its jobs."""
        alerts: dict[str, set[str]] = {}
        for alert in self.ask("alerts")["alerts"]:
            if alert["state"] == "firing":
                labels = alert["labels"]
                alerts.setdefault(labels["alertname"], set()).add(labels.get("job", ""))
        return alerts

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for a condition."""
        end = min(time.monotonic() + DEADLINE, self.end)
        while True:
            with contextlib.suppress(ConnectionError, urllib.error.URLError):
                if condition():
                    return
            for name, child in self.children.items():
                if child.poll() is not None:
                    raise Failed(f"{what}: {name} ended: {child.returncode}")
            if time.monotonic() > end:
                raise Failed(f"{what}: not in time; firing: {self.firing()}")
            time.sleep(0.1)

    @contextlib.contextmanager
    def shows(self, *names: str) -> Iterator[None]:
        """Wait for alerts of both jobs at the end of the block, which is the cause."""
        began = time.monotonic()
        yield
        for name in names:
            self.until(f"{name} fires", lambda n=name: self.firing().get(n) == JOBS)  # type: ignore[misc]
            self.proven.add(name)
            print(f"ok {name} fires, {time.monotonic() - began:.1f} s", flush=True)

    def resolves(self, *names: str) -> None:
        """Wait for these alerts to end."""
        began = time.monotonic()
        for name in names:
            self.until(f"{name} resolves", lambda n=name: n not in self.firing())  # type: ignore[misc]
            print(f"ok {name} resolves, {time.monotonic() - began:.1f} s", flush=True)

    def alerts(self) -> None:
        """Let things go wrong, one after the other, and right again."""
        up = dict.fromkeys(JOBS, "1")
        # Prometheus may take 5 s to discover them, and Absent fires.
        self.until("up, no alert", lambda: self.up() == up and not self.firing())
        began = time.monotonic()
        print("ok both jobs are up, and no pod without annotations", flush=True)
        with self.shows("PressuredWatermark"):
            self.write("memory.current", 97 * MIB)
        self.write("memory.current", 50 * MIB)
        self.resolves("PressuredWatermark")

        pid = self.children["target"].pid
        with self.shows("PressuredMembersHidden"):
            self.write("cgroup.procs", f"{pid}\n0\n0")
        self.write("cgroup.procs", pid)
        self.resolves("PressuredMembersHidden")

        with self.shows("PressuredErrors"):
            self.group.rename(self.scratch / "gone")
        (self.scratch / "gone").rename(self.group)
        self.resolves("PressuredErrors")

        with self.shows("PressuredDown"):
            self.stop("daemon")
        with self.shows("PressuredSwapFloor"):
            self.daemon("--swap-floor", "900G")
            self.resolves("PressuredDown")

        self.write("memory.current", 97 * MIB)
        self.daemon(under=NO_PTRACE)
        self.resolves("PressuredSwapFloor")
        with self.shows("PressuredRefused"):
            pass
        self.proven.add("PressuredWatermark")
        self.write("memory.current", 50 * MIB)
        self.daemon()
        self.resolves("PressuredRefused", "PressuredWatermark")

        since = f"{int(time.monotonic() - began)}s"
        query = f'last_over_time(ALERTS{{alertstate="firing"}}[{since}])'
        found = self.ask("query", query=query)["result"]
        if (
            others := {o["metric"]["alertname"] for o in found}
            - self.proven
            - BY_CHANCE
        ):
            raise Failed(f"these fired too: {', '.join(sorted(others))}")
        print("ok no other alert fired")

    def panels(self) -> None:
        """Evaluate each expression of the dashboard, over the whole time."""
        model = json.loads((EXAMPLE / "dashboard.json").read_text(encoding="utf-8"))
        targets = [one for panel in model["panels"] for one in panel["targets"]]
        now, empty = time.time(), []
        for target in targets:
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            span = {"start": now - MOST, "end": now, "step": 1}
            if not self.ask("query_range", query=query, **span)["result"]:
                empty.append(target["expr"])
        print(f"ok {len(targets)} expressions of the dashboard are evaluated")
        print("\n".join(f"   without a value here: {one}" for one in empty))

    def logs(self) -> str:
        """Return the end of all output."""
        paths = sorted(self.scratch.glob("*.log"))
        return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in paths)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; say in a line why nothing could be run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", action="store_true", help="print them, and end")
    if parser.parse_args(argv).packages:
        print(*PACKAGES.values())
        return 0

    def end(*_: object) -> NoReturn:
        sys.exit(1)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    began = time.monotonic()
    try:
        matrix.require(PACKAGES)
        matrix.require_root_and_swap()
        with tempfile.TemporaryDirectory(prefix="pmadvise-prometheus-") as scratch:
            proof = Proof(Path(scratch))
            with contextlib.closing(proof):
                try:
                    proof.set_up()
                    proof.alerts()
                    proof.panels()
                except Failed as failed:
                    print(proof.logs(), f"FAILED, {failed}", sep="\n")
                    return 1
    except VmError as why:
        print(f"prometheus.py: {why}", file=sys.stderr)
        return 2
    seconds = time.monotonic() - began
    print(f"{len(proof.proven)} alerts fired and resolved, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How pressured is deployed: the unit, the DaemonSet, the Containerfile."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import options
import parsing
import pytest
from helpers.needs import ROOT, program

pytestmark = pytest.mark.needs_sources

EXAMPLE = ROOT / "docs/examples/pressured"
CAPABILITIES = {"SYS_NICE", "SYS_PTRACE", "DAC_READ_SEARCH"}
EXPOSURE = 2.5  # of systemd-analyze's 10, the worst


def text(name: str) -> str:
    return (EXAMPLE / name).read_text(encoding="utf-8")


def run(name: str, *arguments: str | Path) -> tuple[int, str, str]:
    """Run a program; return its status, and what it wrote to stdout and stderr."""
    path = program(name)
    assert path
    done = subprocess.run(
        [path, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a Python that exists."""
    path = tmp_path / "pressured.service"
    path.write_text(
        text("pressured.service").replace("/opt/pressured/bin/python", sys.executable)
    )
    return path


@pytest.mark.needs_program("systemd-analyze")
def test_systemd_takes_the_unit(unit: Path) -> None:
    """The unit has no fault that systemd sees: it only warns of unknown keys."""
    assert run("systemd-analyze", "verify", unit) == (0, "", "")


@pytest.mark.needs_program("systemd-analyze")
@pytest.mark.parametrize(
    ("old", "new"),
    [("ProtectClock", "ProtectClocks"), ("@system-service", "@sytem-service")],
)
def test_systemd_sees_a_slip(unit: Path, old: str, new: str) -> None:
    """A key or a set that is misspelt is not passed in silence."""
    unit.write_text(unit.read_text().replace(old, new))
    assert run("systemd-analyze", "verify", unit)[2]


@pytest.mark.needs_program("systemd-analyze")
def test_the_unit_is_hardened(unit: Path) -> None:
    """The exposure, as systemd measures it, is low."""
    _, report, _ = run("systemd-analyze", "security", "--offline=true", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found, report
    assert float(found[1]) <= EXPOSURE


def documents() -> list[dict[str, Any]]:
    """Return the objects of the DaemonSet's file."""
    import yaml  # noqa: PLC0415 - kubernetes-validate brings it

    return list(yaml.safe_load_all(text("daemonset.yaml")))


def pod() -> dict[str, Any]:
    specification: dict[str, Any] = documents()[1]["spec"]["template"]["spec"]
    return specification


@pytest.mark.needs_program("kubernetes-validate")
def test_kubernetes_takes_the_daemonset() -> None:
    """Every key is one that Kubernetes knows there, of the right type."""
    done = run("kubernetes-validate", "--strict", EXAMPLE / "daemonset.yaml")
    assert (done[0], "".join(done[1:]).count(" passed ")) == (0, 2), done


@pytest.mark.needs_program("kubernetes-validate")
@pytest.mark.parametrize(
    ("old", "new"), [("hostPID: true", "hostPID: 5"), ("tolerations:", "toleration:")]
)
def test_kubernetes_sees_a_slip(tmp_path: Path, old: str, new: str) -> None:
    """A key that is misspelt, or a value of the wrong type, is refused."""
    path = tmp_path / "daemonset.yaml"
    path.write_text(text("daemonset.yaml").replace(old, new))
    assert run("kubernetes-validate", "--strict", path)[0] != 0


def command_lines() -> dict[str, list[str]]:
    """Return the words of the command line that each engine runs the image by."""
    comment = text("Containerfile").partition("\nFROM ")[0].replace("\\\n#", "")
    lines = re.findall(r"^# +((\w+) run .+)$", comment, re.MULTILINE)
    return {engine: shlex.split(line) for line, engine in lines}


def values(words: list[str], option: str) -> set[str]:
    """Return the values of an option that may be given several times."""
    return {word.partition("=")[2] for word in words if word.startswith(f"{option}=")}


def test_the_engines_are_told_alike() -> None:
    """Docker, which gives capabilities to user 0 alone, needs that user and no more."""
    podman, docker = (command_lines()[name] for name in ("podman", "docker"))
    assert docker[2:] == ["--user=0", *podman[2:]]


def test_the_container_can_be_scraped() -> None:
    """It listens on all its addresses, and the host publishes its port locally."""
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", text("Containerfile"), re.MULTILINE)
    (listen,) = values(json.loads(entry), "--listen")
    assert parsing.address(listen) == ("", 9779)
    for words in command_lines().values():
        assert words[words.index("-p") + 1] == "127.0.0.1:9779:9779"


def test_the_container_sees_the_host() -> None:
    """Its processes and cgroups, and AppArmor's default profile is not on."""
    for words in command_lines().values():
        mounted, inside = words[words.index("-v") + 1].split(":")[:2]
        (cgroup,) = values(words, "--cgroup")
        assert {"--pid=host", "apparmor=unconfined"} < {*words}
        assert (mounted, cgroup.startswith(f"{inside}/")) == ("/sys/fs/cgroup", True)


@pytest.mark.needs_program("kubernetes-validate")
def test_the_capabilities_are_alike() -> None:
    """systemd, Kubernetes and the container's command line give the same ones."""
    service = text("pressured.service")
    given = [
        set(re.findall(r"CAP_(\w+)", line))
        for line in re.findall(r"^(?:Ambient|CapabilityB).*$", service, re.MULTILINE)
    ]
    rights = pod()["containers"][0]["securityContext"]["capabilities"]
    assert rights["drop"] == ["ALL"]
    given.append(set(rights["add"]))
    for words in command_lines().values():
        assert "--cap-drop=ALL" in words
        given.append(values(words, "--cap-add"))
    assert given == [CAPABILITIES] * 5


@pytest.mark.needs_program("kubernetes-validate")
@pytest.mark.parametrize(("age", "alive"), [(0, True), (25, True), (40, False)])
def test_the_probe_sees_a_heartbeat(tmp_path: Path, age: float, alive: bool) -> None:
    """The probe passes as long as the lock file was renewed lately."""
    lock = tmp_path / "lock"
    lock.touch()
    os.utime(lock, (time.time() - age, time.time() - age))
    *shell, command = pod()["containers"][0]["livenessProbe"]["exec"]["command"]
    command = command.replace("/run/pressured/lock", str(lock))
    done = subprocess.run([*shell, command], check=False, timeout=60)
    assert (done.returncode == 0) is alive


@pytest.mark.needs_program("kubernetes-validate")
def test_the_probe_sees_a_missing_heartbeat(tmp_path: Path) -> None:
    """Before the daemon has made its lock file the probe fails."""
    *shell, command = pod()["containers"][0]["startupProbe"]["exec"]["command"]
    command = command.replace("/run/pressured/lock", str(tmp_path / "lock"))
    done = subprocess.run(
        [*shell, command], check=False, timeout=60, capture_output=True
    )
    assert done.returncode != 0


@pytest.mark.needs_program("kubernetes-validate")
def test_the_pod_is_confined() -> None:
    """It can write nothing of the node, and sees the processes of all."""
    (container,) = pod()["containers"]
    security = container["securityContext"]
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    assert pod()["hostPID"] is True
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert mounts["cgroup"]["readOnly"] is True
    assert "cpu" not in container["resources"]["limits"]


@pytest.mark.needs_program("kubernetes-validate")
@pytest.mark.parametrize("where", ["daemonset", "unit", "container"])
def test_the_daemon_takes_the_options(where: str) -> None:
    """Every option that is given is one that the daemon has."""
    arguments = {
        "daemonset": " ".join(pod()["containers"][0]["args"]),
        "unit": text("pressured.service"),
        "container": " ".join(
            word
            for words in command_lines().values()
            for word in words[words.index("pressured") :]
        )
        + text("Containerfile").partition("\nENTRYPOINT")[2],
    }[where]
    known = {f"--{name}" for name in (*options.OPTIONS, "config", "dry-run")}
    used = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", arguments))
    assert "--cgroup" in used
    assert used - known == set()


@pytest.mark.needs_program("hadolint")
def test_the_containerfile_is_clean() -> None:
    """The Containerfile has no fault that hadolint sees."""
    assert run("hadolint", "--no-color", EXAMPLE / "Containerfile") == (0, "", "")


@pytest.mark.needs_program("hadolint")
def test_hadolint_sees_a_slip(tmp_path: Path) -> None:
    """A base that is not pinned is a fault."""
    path = tmp_path / "Containerfile"
    path.write_text(re.sub(r":3\.\S+", ":latest", text("Containerfile")))
    assert "DL3007" in run("hadolint", "--no-color", path)[1]


def test_the_container_copies_what_exists() -> None:
    """Every file that is copied into the image is in the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", text("Containerfile"), re.M)
    sources = [source for line in lines for source in line.split()]
    assert "pmadvise" in sources
    assert [one for one in sources if not list(ROOT.glob(one))] == []


def test_the_container_is_nobody() -> None:
    """The image runs as an ordinary user, unless told otherwise."""
    assert re.findall(r"^USER (.+)$", text("Containerfile"), re.M) == ["65534:65534"]


def test_the_page_s_links_lead_somewhere() -> None:
    """Every relative link of the page is a file beside it or in the repository."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text("README.md"))
    assert [link for link in links if not (EXAMPLE / link).exists()] == []


def test_the_page_names_every_file() -> None:
    """What is beside the page is on it."""
    names = {path.name for path in EXAMPLE.iterdir() if path.is_file()}
    page = text("README.md")
    assert {name for name in names - {"README.md"} if name not in page} == set()

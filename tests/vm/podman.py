"""Podman with images of its own, and the image of docs/examples/pressured in it."""

import ast
import contextlib
import os
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import debian
from debian import VmError
from wheels import ROOT

EXAMPLE = ROOT / "docs/examples/pressured"
CONTAINERFILE = EXAMPLE / "Containerfile"
DAEMONSET = EXAMPLE / "daemonset.yaml"
CGROUPS = Path("/sys/fs/cgroup")

# What python:slim has, without documentation.  Its pip is in /usr/local.
BASE = (
    *("--quiet", "--variant=minbase", "--skip=check/empty"),
    "--include=python3,python3-venv,libpython3-dev,ca-certificates",
    "--dpkgopt=force-unsafe-io",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale")),
    '--customize-hook=chroot "$1" python3 -m venv /usr/local',
)
BASE_PATH = "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# crun takes no cgroup tree of both versions.  A root without CAP_SYS_RESOURCE raises no
# limit, and podman lowers its own of processes.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{scratch}/tmp"
[network]
network_backend = "netavark"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{scratch}/graph"
runroot = "{scratch}/run"
"""


class Podman:
    """Podman, with images and containers of its own."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)
        processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 1 << 15)
        for name, text in ("containers", CONTAINERS_CONF), ("storage", STORAGE_CONF):
            filled = text.format(scratch=scratch, files=files, processes=processes)
            (scratch / name).write_text(filled)
        os.environ["CONTAINERS_CONF"] = str(scratch / "containers")
        os.environ["CONTAINERS_STORAGE_CONF"] = str(scratch / "storage")

    def __call__(self, *words: str | Path) -> str:
        """Run podman and return its output."""
        return debian.run("podman", *words).strip()

    def log(self, container: str) -> str:
        """Return what a container has printed to both streams."""
        done = subprocess.run(
            ("podman", "logs", container),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout

    def close(self) -> None:
        """Remove all containers, then all images."""
        for words in ("pod rm -fa", "rm -fa", "rmi -fa"):
            with contextlib.suppress(VmError):
                self(*words.split())
        mounts = Path("/proc/self/mounts").read_text().split("\n")
        for line in reversed(mounts):
            if f" {self.scratch}/" in line:
                debian.run("umount", "-l", line.split()[1])
        for parent in {
            *CGROUPS.glob("libpod_parent"),
            *CGROUPS.glob("*/libpod_parent"),
        }:
            with contextlib.suppress(OSError):  # another podman uses it
                for directory in (*parent.glob("*/"), parent):
                    directory.rmdir()

    def build(self, mirror: str) -> None:
        """Build the base under the name that the Containerfile has, then the image."""
        found = re.search(r"^FROM (\S+-slim-(\w+)) ", CONTAINERFILE.read_text(), re.M)
        if not found:
            raise VmError(f"{CONTAINERFILE}: FROM names no python of Debian")
        archive = self.scratch / "base.tar"
        debian.run("mmdebstrap", *BASE, found[2], archive, mirror)
        self("import", "--quiet", "--change", BASE_PATH, archive, found[1])
        archive.unlink()
        volumes = [
            f"--volume={path}:{at}:ro" for path, at in pip_settings(self.scratch)
        ]
        image = ("--tag=pressured", f"--tag={kube_image()}")
        self(
            *("build", "--quiet", "--network=host", *volumes, *image),
            *(f"--file={CONTAINERFILE}", ROOT),
        )


def pip_settings(scratch: Path) -> Iterator[tuple[Path, str]]:
    """Yield what pip needs to find packages as it does here, and where it is to be.

    The index may be in files, and of a server that a certificate of its own proves.
    """
    lines = debian.run(sys.executable, "-m", "pip", "config", "list").split("\n")
    # those of the environment, which count more, are the first
    pairs = [line.split("=", 1) for line in lines[::-1] if "=" in line]
    settings = {
        name.rpartition(".")[2]: ast.literal_eval(value) for name, value in pairs
    }
    settings.pop("constraint", None)  # the Containerfile has its own
    text = "".join(
        f"{name} = {value}\n".replace("\n", "\n  ").rstrip() + "\n"
        for name, value in settings.items()
    )
    file = scratch / "pip.conf"
    file.write_text(f"[global]\n{text}")
    yield file, "/etc/pip.conf"
    # An index in a folder `simple` links to files beside that folder.
    for path in {
        Path(name.removesuffix("/simple")) for name in re.findall(r"/[\w./+-]+", text)
    }:
        if len(path.parts) > 2 and path.exists():
            yield path, str(path)


def kube_image() -> str:
    """Return the name of the image in the file of the DaemonSet."""
    (found,) = re.findall(r"image: (\S+)", DAEMONSET.read_text("utf-8"))
    return str(found)


def is_own(pid: int, kind: str) -> bool:
    """Return whether a process has another namespace than the host."""
    return os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def is_frozen(group: str) -> bool:
    """Return whether a cgroup is, in either version."""
    states = (("", "cgroup.events"), ("unified", "cgroup.events"))
    for tree, name in (*states, ("freezer", "freezer.state")):
        with contextlib.suppress(FileNotFoundError):
            text = Path(f"{CGROUPS}/{tree}/{group}/{name}").read_text()
            if "frozen 1" in text or text == "FROZEN\n":
                return True
    return False


def documented() -> tuple[list[str], list[str]]:
    """Return the options of the documented command line: podman's, the daemon's."""
    text = CONTAINERFILE.read_text("utf-8")
    comment = re.sub(r"\\\n#", "", text.partition("\nFROM ")[0])
    found = re.findall(r"^#\s+(podman run .+)$", comment, re.MULTILINE)
    if len(found) != 1:
        raise VmError(f"{CONTAINERFILE}: documents {len(found)} times `podman run`")
    words = shlex.split(found[0])[2:]
    image = words.index("pressured")
    return words[:image], words[image + 1 :]

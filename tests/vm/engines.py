"""Prove the container of docs/examples/pressured under a real engine, podman; and park.

    python tests/vm/engines.py               all
    python tests/vm/engines.py --packages    the Debian packages that it needs

The image is built from the Containerfile as it is, on a base that Debian's packages
make, and run by the command line that the Containerfile documents; then the file of the
DaemonSet is, if this podman knows the kind; and a container of that image is parked and
unparked by docs/examples/park.  As root, with swap (`.ci/host up DIR`).
Images and containers are in a directory of their own, removed in the end.  The exit
status is 0 only if every check passed, 1 if one failed, 2 if nothing could be run.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import debian
import matrix
from debian import KEYRING, Failed, VmError
from podman import (
    CGROUPS,
    DAEMONSET,
    Podman,
    documented,
    is_frozen,
    is_own,
    kube_image,
)
from wheels import ROOT

T = TypeVar("T")

PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "/usr/lib/podman/netavark": "netavark",
    "iptables": "iptables",
    "nft": "nftables",  # of newer releases of netavark
    "catatonit": "catatonit",
    "mmdebstrap": "mmdebstrap",
    KEYRING: "debian-archive-keyring",
}
METRICS = "http://127.0.0.1:9779/metrics"
CAPABILITIES = "0000000000880004"  # DAC_READ_SEARCH, SYS_PTRACE, SYS_NICE
PARK = ROOT / "docs/examples/park/park.py"
MIB = 1 << 20
MOVED = 2 * MIB  # at least: from 95 % of some 50 MiB to the low watermark of 80 %
SOON = 10.0  # seconds from `ready` until memory is in swap

JOIN = """\
import mmap, os, sys  # all that another user may not read
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write("0")
os.setresuid(1000, 1000, 1000)
"""
HELD = 48 * MIB
HOLD = f"""\
import mmap, time
memory = mmap.mmap(-1, {HELD}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for offset in range(0, len(memory), 4096):
    memory[offset : offset + 8] = offset.to_bytes(8, "little")
print("held", flush=True)
time.sleep(3600)
"""


def wait(what: Callable[[], T], meant: str, seconds: float = 20) -> T:
    """Return the first true answer to a question."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds:g} s: {meant}")
        time.sleep(0.1)
    return answer


class Idle:
    """A process of another user, at rest in a cgroup that it fills to 95 %."""

    def __init__(self) -> None:
        self.directory = CGROUPS / f"pmadvise-{os.getpid()}"
        names = ("memory.current", "memory.max")
        if (CGROUPS / "memory/memory.usage_in_bytes").exists():
            self.directory = CGROUPS / "memory" / self.directory.name
            names = ("memory.usage_in_bytes", "memory.limit_in_bytes")
        used, limit = (self.directory / name for name in names)
        self.directory.mkdir()
        self._popen: subprocess.Popen[str] | None = None
        try:
            if not limit.exists():
                raise VmError(f"{self.directory.parent} has no controller of memory")
            self._popen = subprocess.Popen(
                [sys.executable, "-c", JOIN + HOLD, self.directory],
                stdout=subprocess.PIPE,
                text=True,
            )
            if not (self._popen.stdout and self._popen.stdout.readline()):
                raise VmError("the idle process can't hold memory")
            limit.write_text(str(int(used.read_text()) * 100 // 95))
        except BaseException:
            self.close()
            raise

    @property
    def swapped(self) -> int:
        """Its bytes in swap."""
        assert self._popen
        return swapped(self._popen.pid)

    def seen(self) -> str:
        """Return the directory of its cgroup in the container."""
        return f"/host/cgroup/{self.directory.relative_to(CGROUPS)}"

    def close(self) -> None:
        """Leave nothing of it behind."""
        if self._popen:
            self._popen.kill()
            self._popen.communicate()

        def removed() -> bool:
            with contextlib.suppress(OSError):
                self.directory.rmdir()
            return not self.directory.exists()

        wait(removed, f"{self.directory} is removed")


def status(pid: int, name: str) -> list[str]:
    """Return a field of /proc/PID/status."""
    text = Path(f"/proc/{pid}/status").read_text()
    return text.partition(f"\n{name}:")[2].partition("\n")[0].split()


def swapped(pid: int) -> int:
    """Return the bytes of a process in swap."""
    return int(status(pid, "VmSwap")[0]) * 1024


def prove(podman: Podman, idle: Idle, container: str) -> str:
    """Return what the daemon in a container does, from `ready` to `stopped`."""

    def events(name: str) -> list[dict[str, Any]]:
        lines = podman.log(container).split("\n")
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line["event"] == name]

    state = json.loads(podman("inspect", container))[0]["State"]
    if not state["Running"]:
        raise Failed(f"it ended with {state['ExitCode']}: {podman.log(container)}")
    pid = state["Pid"]
    if status(pid, "CapEff") != [CAPABILITIES] or status(pid, "Seccomp") != ["2"]:
        raise Failed(f"CapEff {status(pid, 'CapEff')}, {status(pid, 'Seccomp')}")
    ready = wait(lambda: events("ready"), "ready")[0]["time"]
    left = SOON - (time.time() - ready)
    try:
        wait(lambda: idle.swapped >= MOVED, "the idle process is in swap", left)
    except Failed as error:
        raise Failed(f"{error}; {podman.log(container)}") from None
    took = time.time() - ready
    if not wait(lambda: metrics()["pressured_freed_bytes_total"] >= MOVED, "metrics"):
        raise Failed("the metrics know of nothing freed")
    if metrics()["pressured_processes"] != 1 or events("members_hidden"):
        raise Failed(f"the idle process is not watched: {podman.log(container)}")
    user, own = status(pid, "Uid")[0], is_own(pid, "cgroup")
    if not is_own(pid, "net"):
        raise Failed("the container has the host's network")
    moved = idle.swapped
    podman("stop", container)
    ended = json.loads(podman("inspect", container))[0]["State"]["ExitCode"]
    if ended != 0 or not events("stopped"):
        raise Failed(f"stopped with {ended}: {podman.log(container)}")
    return (
        f"user {user}, {'private' if own else 'host'} cgroup namespace: "
        f"{moved / MIB:.1f} MiB in swap {took:.1f} s after ready, scraped, stopped"
    )


def metrics() -> dict[str, float]:
    """Return what is scraped through the port that the engine publishes."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(METRICS, timeout=10) as answer:
        lines = answer.read().decode().split("\n")
    pairs = (line.rpartition(" ") for line in lines if line and line[0] != "#")
    return {name: float(value) for name, _, value in pairs}


def as_documented(podman: Podman, idle: Idle) -> str:
    """The command line of the Containerfile, on that cgroup."""
    before, after = documented()
    # On a host with cgroup v1 too, podman would share the host's cgroup namespace.
    added = ("--detach", "--cgroupns=private")
    after = [re.sub("^--cgroup=.*", f"--cgroup={idle.seen()}", word) for word in after]
    container = podman("run", *added, *before, "pressured", *after)
    try:
        return prove(podman, idle, container)
    finally:
        podman("rm", "-f", container)


def as_daemonset(podman: Podman, idle: Idle) -> str:
    """The file of the DaemonSet, on that cgroup."""
    text = DAEMONSET.read_text("utf-8")
    file = podman.scratch / "daemonset.yaml"
    file.write_text(re.sub("--cgroup=.*", f"--cgroup={idle.seen()}", text))
    try:
        podman("kube", "play", "--publish=127.0.0.1:9779:9779", file)
    except VmError as error:
        kinds = ("unknown flag: --publish", "not contain any supported kube kind")
        if any(words in str(error) for words in kinds):
            return "not run: this podman does not know the kind DaemonSet"
        raise Failed(str(error)) from None
    names = podman("ps", "-a", f"--filter=ancestor={kube_image()}", "--format={{.ID}}")
    return prove(podman, idle, names.split()[0])


def as_parked(podman: Podman, _: Idle) -> str:
    """A container, paused or not, parked and unparked as docs/park.md has it."""
    container = podman(
        *("run", "--detach", "--stop-signal=KILL", "--entrypoint=python"),
        *("pressured", "-c", HOLD),
    )
    try:
        wait(lambda: "held\n" in podman.log(container), "it holds memory", 60)
        state = json.loads(podman("inspect", container))[0]["State"]
        pid, group = state["Pid"], state["CgroupPath"]
        took = []
        for words in ("pause", "unpause"), ():
            for word in words[:1]:
                podman(word, container)
            begin = time.monotonic()
            told = debian.run(sys.executable, PARK, "park", "--cgroup", group)
            if not is_frozen(group) or (moved := swapped(pid)) < HELD:
                raise Failed(f"not parked: {status(pid, 'VmSwap')}, {told}")
            more = ("--no-thaw",) if words else ()
            debian.run(sys.executable, PARK, "unpark", "--cgroup", group, *more)
            took.append(time.monotonic() - begin)
            for word in words[1:]:
                podman(word, container)
            if is_frozen(group) or swapped(pid) > HELD // 10:
                raise Failed(f"not unparked: {status(pid, 'VmSwap')}")
    finally:
        podman("rm", "-f", container)
    seconds = " and ".join(f"{one:.1f} s" for one in took)
    return f"{moved / MIB:.1f} MiB were in swap, there and back in {seconds}"


CHECKS = (as_documented, as_daemonset, as_parked)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--packages", action="store_true", help="name the Debian packages it needs")
    add("--mirror", metavar="URL", help="of Debian; else as in the machine's sources")
    return parser.parse_args(argv)


def run_all(mirror: str, begin: float) -> int:
    """Build the image and run each check; return how many failed."""
    bad = 0
    with tempfile.TemporaryDirectory(prefix="pmadvise-vm-", dir="/var/tmp") as scratch:
        podman = Podman(Path(scratch))
        try:
            podman.build(mirror)
            version = f"{podman('--version')}, {debian.run('runc', '--version')}"
            print(re.sub(r"\n.*", "", version), flush=True)
            print(f"image: built in {time.monotonic() - begin:.0f} s", flush=True)
            for check in CHECKS:
                with contextlib.closing(Idle()) as idle:
                    try:
                        told = check(podman, idle)
                    except (Failed, VmError, OSError) as error:
                        told, bad = f"FAILED: {error}", bad + 1
                print(f"{check.__name__}: {told}", flush=True)
        finally:
            podman.close()
    return bad


def main(argv: list[str] | None = None) -> int:
    """Run the command line; say in a line why nothing could be run."""
    options = arguments(argv)
    if options.packages:
        print(*PACKAGES.values())
        return 0
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        matrix.require(PACKAGES)
        matrix.require_root_and_swap()
        bad = run_all(options.mirror or debian.mirror(), begin)
    except (VmError, Failed) as error:
        print(f"engines.py: {error}", file=sys.stderr)
        return 2
    print(f"{len(CHECKS)} checks, {bad} failed, {time.monotonic() - begin:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""Prove the unit of docs/examples/pressured under real systemd, old and new.

    python tests/vm/systemd.py                    on Debian 12's and 13's
    python tests/vm/systemd.py --only bookworm    on one of them

Each guest boots Debian's kernel and systemd in software emulation, with the daemon and
the wheel installed as its README has it; systemd_guest.py is what runs there,
cgroups_guest.py: docs/examples/park, and whole cgroups; and tasks_guest.py: docs/tasks.
The exit status is 0 only if every check passed in every guest, 1 if one failed, 2 if
nothing could be run.
"""

import argparse
import concurrent.futures
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import guest
import matrix
import wheels
from cells import MACHINES, Cell
from debian import Archive, VmError, run
from suites import PINS, SELFTEST_RESULT

AMD64 = MACHINES["amd64"]
CELLS = tuple(
    Cell(f"systemd/{suite}", "amd64", suite, AMD64.kernel, AMD64.cpu, python, suite)
    for suite, python in (("bookworm", "3.11"), ("trixie", "3.13"))
)
PACKAGES = ("systemd", "mount", "base-files", "dbus")
EXAMPLE, PARK = "docs/examples/pressured", "docs/examples/park"
NIGHT = "docs/tasks/every-night.md"
GUEST = ("systemd_guest.py", "cgroups_guest.py", "guest_units.py", "tasks_guest.py")

INIT = """\
#!/bin/busybox sh
# Turn on swap, copy this file system to the disk, and become systemd there.
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /disk
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
dmesg -n 1
for module in /modules/*.ko; do
    insmod "$module"
done
echo 512M >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null && swapon /dev/zram0
mount -t xfs /dev/vda /disk
cp -a /bin /lib /lib64 /sbin /usr /etc /disk
cp -a /cell/root/. /disk
cd /disk && mkdir -p proc sys dev run tmp var root
echo
echo "cell: kernel $(uname -r)"
echo "cell: page 4096"
for mounted in proc sys dev; do
    mount --move "/$mounted" "/disk/$mounted"
done
export TERM=dumb
exec switch_root /disk /lib/systemd/systemd \
    --unit=proof.service --show-status=no --log-target=journal
"""

PROOF = """\
[Unit]
# systemctl freeze and thaw want the bus.
Wants=dbus.socket
After=dbus.socket
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/opt/pressured/bin/python /proof/systemd_guest.py
StandardOutput=file:/dev/ttyS0
StandardError=inherit
"""
HOLDER = """\
[Service]
Type=exec
User=app
ExecStart=/opt/pressured/bin/python /proof/systemd_guest.py hold
StandardOutput=truncate:/run/%N.out
MemoryMax=64M
"""
# README.md of the example has it, for memory.reclaim.
DROP_IN = """\
[Service]
ProtectControlGroups=no
AmbientCapabilities=CAP_DAC_OVERRIDE
CapabilityBoundingSet=CAP_DAC_OVERRIDE
"""
APART = """\
[Service]
RuntimeDirectory=
RuntimeDirectory=whole
EnvironmentFile=
Environment="PRESSURED_OPTIONS=--cgroup /sys/fs/cgroup/system.slice/lent.service \
--high 60 --low 40 --swap-floor 0 --lock /run/whole/lock --listen 127.0.0.1:9781"
"""
SESSION = """\
[Service]
Type=notify
NotifyAccess=all
User=app
Delegate=yes
RuntimeDirectory=session
TimeoutStartSec=infinity
ExecStart=/opt/pressured/bin/python /proof/systemd_guest.py session
"""
OPTIONS = """\
PRESSURED_OPTIONS=--cgroup /sys/fs/cgroup/system.slice/idle.service \
--cgroup /sys/fs/cgroup/system.slice/kept.service \
--cgroup /sys/fs/cgroup/system.slice/dear.service \
--high 60 --low 40 --max-stall 50ms --swap-floor 0
"""
UNIT_OF_PAGE = re.compile(
    r"^`/etc/systemd/system/([\w.-]+)`:\n\n```ini\n(.*?)```", re.MULTILINE | re.DOTALL
)
ETC = {
    "passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"
    "messagebus:x:100:100::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "group": "root:x:0:\ntty:x:5:\nmessagebus:x:100:\napp:x:1000:\nnogroup:x:65534:\n",
    "machine-id": "0123456789abcdef0123456789abcdef\n",
    "default/pressured": OPTIONS,
    "systemd/system/proof.service": PROOF,
    "systemd/system/idle.service": HOLDER,
    "systemd/system/kept.service": HOLDER + "MemoryLow=100%\n",
    "systemd/system/dear.service": HOLDER + "OOMScoreAdjust=-500\n",
    "systemd/system/held.service": HOLDER,
    "systemd/system/lent.service": HOLDER,
    "systemd/system/batch.service": HOLDER + "Slice=batch.slice\n",
    "systemd/system/session.service": SESSION,
    "systemd/system/whole.service.d/reclaim.conf": DROP_IN,
    "systemd/system/whole.service.d/apart.conf": APART,
}
COMMAND = """\
#!/opt/pressured/bin/python
from pmadvise.__main__ import main
main()
"""


def install_night(page: Path, root: Path) -> None:
    """Write the units of a page of the guide, and the command that they start."""
    for name, text in UNIT_OF_PAGE.findall(page.read_text(encoding="utf-8")):
        (root / "etc/systemd/system" / name).write_text(text)
    command = root / "opt/pmadvise/bin/pmadvise"
    command.parent.mkdir(parents=True)
    command.write_text(COMMAND)
    command.chmod(0o755)


def install(cell: Cell, source: Path, wheel: Path, root: Path) -> None:
    """Lay out what a guest has besides Debian's files."""
    for name, text in ETC.items():
        path = root / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    example = source / EXAMPLE
    for unit in ("pressured", "whole"):
        path = root / f"etc/systemd/system/{unit}.service"
        shutil.copy(example / "pressured.service", path)
    shutil.copytree(source / PARK, root / "opt/park")
    opt, bin_ = root / "opt/pressured", root / "opt/pressured/bin"
    bin_.mkdir(parents=True)
    for module in example.glob("*.py"):
        shutil.copy(module, opt)
    # What `python -m venv` makes of that Python, which does not run here.
    (bin_ / "python").symlink_to(f"/usr/bin/python{cell.python}")
    (opt / "pyvenv.cfg").write_text("home = /usr/bin\n")
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"),
        *("--only-binary=:all:", "--implementation=cp", "--no-warn-conflicts"),
        *("--platform=manylinux_2_28_x86_64", "--platform=manylinux2014_x86_64"),
        *(f"--python-version={cell.python}", "--constraint", PINS),
        *("--target", opt / f"lib/python{cell.python}/site-packages"),
        *(f"{wheel}[cli]", "prometheus-client"),
    )
    install_night(source / NIGHT, root)
    (root / "proof").mkdir()
    for name in GUEST:
        shutil.copy(Path(__file__).with_name(name), root / "proof")


def prove(
    cell: Cell, archive: Archive, source: Path, wheel: Path, timeout: float
) -> matrix.Result:
    """Boot a guest and judge it; one that can't be had is a failed one."""
    try:
        with tempfile.TemporaryDirectory(prefix="pmadvise-vm-") as scratch:
            root = Path(scratch, "root")
            install(cell, source, wheel, root)
            outcome = guest.start(cell, archive, PACKAGES, INIT, (root,), timeout)
    except VmError as error:
        return matrix.Result(cell.name, str(error))
    return matrix.judge(cell, outcome, SELFTEST_RESULT)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = [cell.kernel_suite for cell in CELLS]
    add("--only", choices=names, help="one guest")
    add("--timeout", type=float, default=600, metavar="S", help="for a guest (600 s)")
    add("--mirror", metavar="URL", help="of Debian; else as in the machine's sources")
    add("--source", type=Path, default=wheels.ROOT, metavar="TREE", help="to build")
    add("--wheelhouse", type=Path, metavar="DIR", help="with the wheel, none is built")
    add("--verbose", action="store_true", help="show the consoles")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; say in a line why nothing could be run."""
    options = arguments(argv)
    cells = [cell for cell in CELLS if options.only in (None, cell.kernel_suite)]
    begin = time.monotonic()
    results = []
    try:
        matrix.require(matrix.packages(cells, building=options.wheelhouse is None))
        with (
            Archive(options.mirror) as archive,
            tempfile.TemporaryDirectory(prefix="pmadvise-vm-") as scratch,
            concurrent.futures.ThreadPoolExecutor(len(cells)) as pool,
        ):
            wheelhouse = options.wheelhouse or Path(scratch)
            if options.wheelhouse is None:
                wheels.build(options.source, [AMD64], wheelhouse)
            wheel = matrix.wheels_by_architecture(cells, wheelhouse)["amd64"]
            for result in pool.map(
                lambda cell: prove(
                    cell, archive, options.source, wheel, options.timeout
                ),
                cells,
            ):
                show = result.console if result.why or options.verbose else ""
                print(show, result, sep="", flush=True)
                results.append(result)
    except VmError as error:
        print(f"systemd.py: {error}", file=sys.stderr)
        return 2
    bad = sum(bool(result.why) for result in results)
    print(f"{len(results)} guests, {bad} failed, {time.monotonic() - begin:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

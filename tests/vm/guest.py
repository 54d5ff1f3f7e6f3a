"""Make a guest of Debian's packages, boot it, and say what its console said."""

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cells import Cell
from debian import CACHE, Archive, made_once, run, unpack
from suites import Suite

MEMORY = "768M"
# A kernel now and then panics in emulation before it comes to /init: boot it again.
BOOTS = 3
STARTED = r"cell: kernel (\S+)"
KERNEL_PACKAGE = r"linux-(image|binary|modules)-\d.*"
# Swap (zram compresses with lz4 or lzo-rle, apart in some kernels), and a disk.  Not
# ext4: on s390x, 7.2 dies of its per-CPU variable (ext4_mb_new_blocks) in emulation.
MODULES = ("lz4", "lzo-rle", "zram", "virtio_pci", "virtio_blk", "xfs")

INIT = """\
#!/bin/busybox sh
# Turn on swap, install the wheel, run the command, and say how it ended.
/bin/busybox --install -s /bin
export TERM=dumb PATH=/usr/bin:/bin HOME=/tmp CI=true PYTHONDONTWRITEBYTECODE=1
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup
dmesg -n 1
ip link set lo up
for module in /modules/*.ko; do
    insmod "$module"
done
echo 256M >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null && swapon /dev/zram0
mount -t xfs /dev/vda /tmp
cd /cell
echo # the firmware's last line may be open
echo "cell: kernel $(uname -r)"
(
    set -e
    python="/usr/bin/python{python}"
    grep -q zram0 /proc/swaps
    grep -q vda /proc/mounts
    "$python" -c 'import os; print("cell: page", os.sysconf("SC_PAGESIZE"))'
    {install}
    # where Debian's alternatives, which nobody set up here, would lead to
    export LD_LIBRARY_PATH="$(echo /usr/lib/*/blas):$(echo /usr/lib/*/lapack)"
    export PYTHONPATH=/cell/site:/cell/pure PYTHONUNBUFFERED=1
    echo "cell: start"
    "$python" {command}
)
echo "cell: exit $?"
poweroff -f
"""

# pip takes half a minute to start here, so it installs one wheel an architecture.
PIP = (
    '"$python" "$(echo /usr/share/python-wheels/pip-*.whl)/pip" install --quiet'
    " --no-index --no-deps --no-compile --disable-pip-version-check"
    " --root-user-action ignore --target /cell/site /cell/*.whl"
)
UNZIP = '"$python" -m zipfile -e /cell/*.whl /cell/site'


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a guest's console said, and after how many seconds it ended."""

    console: str
    seconds: float
    ended: bool

    def said(self, pattern: str) -> str:
        """Return what a line says, '' unless exactly one does."""
        found = re.findall(rf"^{pattern}\r*$", self.console, re.MULTILINE)
        return found[0] if len(found) == 1 else ""


def _modules(tree: Path, into: Path) -> str:
    """Put the modules into a directory in loading order; name the release."""
    roots = [*tree.glob("lib/modules/*/kernel"), *tree.glob("usr/lib/modules/*/kernel")]
    release = roots[0].parent.name
    run("depmod", "-b", tree, release)
    plan: list[Path] = []
    for module in MODULES:
        shown = subprocess.run(
            ("modprobe", "-d", tree, "-S", release, "--show-depends", module),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        ).stdout
        named = (Path(line.split()[1]) for line in shown.splitlines() if ".ko" in line)
        plan += (path for path in named if path not in plan)
    into.mkdir()
    for number, path in enumerate(plan):
        target = into / f"{number:02}-{path.name.partition('.ko')[0]}.ko"
        unpacker = {".xz": "xz", ".zst": "zstd"}.get(path.suffix, "cat")
        with target.open("wb") as file:
            subprocess.run(
                (unpacker, *_options(unpacker), path), stdout=file, check=True
            )
    return release


def _options(unpacker: str) -> tuple[str, ...]:
    return () if unpacker == "cat" else ("-dcq",)


def kernel(cell: Cell, archive: Archive) -> Path:
    """Return a directory with the cell's `vmlinuz` and `modules/`."""
    product = CACHE / "kernels" / f"{cell.kernel_suite}-{cell.kernel_package}"
    with made_once(product) as scratch:
        if scratch:
            tree = scratch / "tree"
            (tree / "usr/lib").mkdir(parents=True)
            (tree / "lib").symlink_to("usr/lib")
            with archive.apt(cell.kernel_suite, cell.arch) as apt:
                names = apt.dependencies(cell.kernel_package, KERNEL_PACKAGE)
                debs = apt.download(*names)
            for deb in debs:
                unpack(deb, tree)
            release = _modules(tree, scratch / "modules")
            images = [
                *tree.glob("boot/vmlinu[xz]-*"),
                *tree.glob(f"usr/lib/modules/{release}/vmlinu[xz]"),
            ]
            shutil.copy(images[0], scratch / "vmlinuz")
            shutil.rmtree(tree)
    return product


def files(cell: Cell, archive: Archive, packages: tuple[str, ...]) -> Path:
    """Return the cpio.gz of the cell's Python, C library, busybox and more."""
    name = "-".join((cell.python_suite, cell.arch, f"py{cell.python}", *packages))
    product = CACHE / "guests" / name
    with made_once(product) as scratch:
        if scratch:
            tree = scratch / "tree"
            for merged in "bin", "lib", "lib64", "sbin":
                (tree / "usr" / merged).mkdir(parents=True)
                (tree / merged).symlink_to(f"usr/{merged}")
            with archive.apt(cell.python_suite, cell.arch) as apt:
                debs = apt.download_closure(
                    f"python{cell.python}-minimal",
                    f"libpython{cell.python}-stdlib",
                    "python3-cffi-backend",
                    "busybox-static",
                    *packages,
                )
                debs += apt.download("python3-pip-whl")
            for deb in debs:
                unpack(deb, tree)
            _pack(tree, scratch / "files.cpio.gz")
            shutil.rmtree(tree)
    return product / "files.cpio.gz"


def _pack(tree: Path, to: Path) -> None:
    """Write a directory as an initramfs."""
    run(
        "sh",
        "-c",
        f"find . -print0 | sort -z |"
        f' cpio --quiet --null -o -H newc -R 0:0 | gzip -1 >"{to}"',
        cwd=tree,
    )


def boot(
    cell: Cell,
    archive: Archive,
    suite: Suite,
    wheel: Path,
    timeout: float,
    kernel_files: Path | None = None,
) -> Outcome:
    """Boot the cell's kernel, or another, and run a suite on a wheel."""
    install = PIP if cell.by_pip else UNZIP
    init = INIT.format(python=cell.python, install=install, command=suite.command)
    payload = (wheel, *suite.payload)
    return start(cell, archive, suite.packages, init, payload, timeout, kernel_files)


def start(
    cell: Cell,
    archive: Archive,
    packages: tuple[str, ...],
    init: str,
    payload: tuple[Path, ...],
    timeout: float,
    kernel_files: Path | None = None,
) -> Outcome:
    """Boot the cell's kernel into an init, which finds the payload in /cell.

    `kernel_files`: of another kernel, as kernel() returns them.
    """
    kernel_files = kernel_files or kernel(cell, archive)
    python_files = files(cell, archive, packages)
    with tempfile.TemporaryDirectory(prefix="pmadvise-vm-") as scratch:
        tree = Path(scratch, "tree")
        shutil.copytree(kernel_files / "modules", tree / "modules")
        (tree / "cell").mkdir()
        for path in payload:
            to = tree / "cell" / path.name
            if path.is_dir():
                shutil.copytree(path, to, symlinks=True)
            else:
                shutil.copy(path, to)
        (tree / "init").write_text(init)
        (tree / "init").chmod(0o755)
        _pack(tree, Path(scratch, "init.cpio.gz"))
        initrd = Path(scratch, "initrd")
        with initrd.open("wb") as whole:
            for part in python_files, Path(scratch, "init.cpio.gz"):
                whole.write(part.read_bytes())
        for _ in range(BOOTS):
            outcome = _emulate(cell, kernel_files / "vmlinuz", initrd, timeout)
            if outcome.said(STARTED) or not outcome.ended:
                break
        return outcome


def _emulate(cell: Cell, vmlinuz: Path, initrd: Path, timeout: float) -> Outcome:
    disk = initrd.with_name("disk")
    # Not KVM: where the device opens, a guest may still hang in it.
    command = (
        *("setpriv", "--pdeathsig", "KILL"),
        *(cell.machine.qemu, "-machine", cell.machine.board, "-cpu", cell.cpu),
        *("-accel", "tcg,thread=multi", "-smp", "1", "-m", MEMORY),
        *("-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"),
        *("-kernel", vmlinuz, "-initrd", initrd),
        *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
        *("-append", f"console={cell.machine.console} panic=-1 quiet"),
    )
    start = time.monotonic()
    ended = True
    run("mkfs.xfs", "-q", "-d", f"file,name={disk},size=512m")
    try:
        console = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as hung:
        console, ended = hung.stdout or b"", False
    text = console.decode(errors="replace").replace("\r", "")
    return Outcome(text, time.monotonic() - start, ended)

"""Fetch Debian's packages for any architecture, without installing them.

Each (suite, architecture) gets an apt of its own: its lists, its cache and an
empty dpkg status, all in a scratch directory.  What is made of the packages (a
kernel, a guest's files) stays in the cache: a second run fetches nothing.
"""

import contextlib
import fcntl
import functools
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

# Raise the number when what is made of the packages changes.
CACHE = Path(
    os.environ.get("XDG_CACHE_HOME") or "~/.cache", "pmadvise-vm/1"
).expanduser()
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/*/gconv")

APT_CONF = """\
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
"""


class VmError(Exception):
    """The matrix cannot go on, and why."""


class Failed(Exception):
    """A proof did not come as expected, and why."""


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a command and return its output; what it says on failure is raised."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise VmError(f"{' '.join(map(str, command))}: {' '.join(said)}")
    return done.stdout


@functools.cache
def mirror() -> str:
    """Return the Debian mirror that this machine's own apt sources name."""
    targets = run(
        "apt-get",
        "indextargets",
        "--format=$(ORIGIN)|$(LABEL)|$(REPO_URI)",
        "Created-By: Packages",
    )
    for line in targets.splitlines():
        origin, label, uri = line.split("|")
        if (origin, label) == ("Debian", "Debian"):
            return uri
    raise VmError(
        "this machine's apt sources name no Debian mirror, or `apt-get update` has "
        "not been run: say --mirror URL"
    )


class Apt:
    """One suite of one architecture, seen through an apt of its own."""

    def __init__(self, suite: str, arch: str, mirror: str, root: Path) -> None:
        self.suite, self.arch, self.root = suite, arch, root
        self.config = str(root / "apt.conf")
        for needed in "state/lists/partial", "cache/archives/partial":
            (root / needed).mkdir(parents=True)
        (root / "status").touch()
        (root / "apt.conf").write_text(APT_CONF.format(arch=arch, root=root))
        (root / "sources.list").write_text(
            f"deb [signed-by={KEYRING}] {mirror} {suite} main\n"
        )
        self.run("apt-get", "update")

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run an apt command on this suite alone."""
        try:
            return run(*command, cwd=cwd, APT_CONFIG=self.config)
        except VmError as error:
            raise VmError(f"Debian {self.suite} {self.arch}: {error}") from None

    def dependencies(self, package: str, wanted: str) -> list[str]:
        """Name those of a package's dependencies, at any depth, that match."""
        listing = self.run("apt-cache", "depends", "--recurse", "--important", package)
        found = [name for name in listing.split() if re.fullmatch(wanted, name)]
        if not found:
            raise VmError(f"Debian {self.suite} {self.arch}: no {package} {wanted}")
        return sorted(set(found))

    def download(self, *packages: str) -> list[Path]:
        """Download these packages alone."""
        to = Path(tempfile.mkdtemp(dir=self.root))
        self.run("apt-get", "download", *packages, cwd=to)
        return sorted(to.glob("*.deb"))

    def download_closure(self, *packages: str) -> list[Path]:
        """Download these packages and all that they depend on."""
        self.run("apt-get", "install", "-dqy", "--no-install-recommends", *packages)
        return sorted((self.root / "cache/archives").glob("*.deb"))


class Archive:
    """The apts of one run, each made and updated once, removed on leaving."""

    def __init__(self, mirror_uri: str | None = None, refresh: bool = False) -> None:
        self.mirror_uri = mirror_uri
        if refresh:
            shutil.rmtree(CACHE, ignore_errors=True)
        self.lock = threading.Lock()
        self.locks: dict[tuple[str, str], threading.Lock] = {}
        self.apts: dict[tuple[str, str], Apt] = {}

    def __enter__(self) -> "Archive":
        CACHE.mkdir(parents=True, exist_ok=True)
        self.scratch = tempfile.TemporaryDirectory(dir=CACHE, prefix="apt-")
        return self

    def __exit__(self, *_: object) -> None:
        self.scratch.cleanup()

    @contextlib.contextmanager
    def apt(self, suite: str, arch: str) -> Iterator[Apt]:
        """Lend the apt of a suite and architecture to one thread."""
        key = suite, arch
        with self.lock:
            lock = self.locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self.apts:
                root = Path(self.scratch.name, f"{suite}-{arch}")
                self.apts[key] = Apt(suite, arch, self.mirror_uri or mirror(), root)
            yield self.apts[key]


def unpack(deb: Path, into: Path) -> None:
    """Unpack a package, following the /usr merge that `into` was laid out with."""
    excluded = " ".join(f"--exclude='./{path}'" for path in UNWANTED)
    run(
        "sh",
        "-c",
        f'dpkg-deb --fsys-tarfile "{deb}" |'
        f' tar -x -C "{into}" --keep-directory-symlink {excluded}',
    )


@contextlib.contextmanager
def made_once(product: Path) -> Iterator[Path | None]:
    """Give a directory to make `product` in, or None when it is in the cache.

    It becomes `product` whole or not at all, however many runs want it at once.
    """
    product.parent.mkdir(parents=True, exist_ok=True)
    with open(product.with_name(product.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if product.exists():
            yield None
            return
        scratch = Path(tempfile.mkdtemp(dir=product.parent, prefix=product.name))
        try:
            yield scratch
            scratch.rename(product)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

"""The cells: a kernel of Debian's, its architecture, and a Python to run there."""

from dataclasses import dataclass

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "newest": "sid"}
# The selftest's checks that a kernel can't pass.  No other may be skipped: a wrong
# system call number too is ENOSYS on an old kernel.
UNKNOWN_TO = {"5.10": frozenset({"willneed", "collapse"})}
# And what a machine can't do as qemu emulates it: s390x has no EDAT there, and so no
# huge pages.
LACKED_BY = {"s390x": frozenset({"collapse"})}


@dataclass(frozen=True, slots=True)
class Machine:
    """How an architecture is called by others, and emulated by qemu."""

    compiler: str
    wheel: str
    kernel: str
    qemu: str
    board: str
    cpu: str
    console: str


MACHINES = {
    "amd64": Machine(
        "x86_64-linux-gnu",
        "x86_64",
        "linux-image-cloud-amd64",
        "qemu-system-x86_64",
        "q35",
        "max",
        "ttyS0",
    ),
    "arm64": Machine(
        "aarch64-linux-gnu",
        "aarch64",
        "linux-image-cloud-arm64",
        "qemu-system-aarch64",
        "virt",
        "cortex-a57",
        "ttyAMA0",
    ),
    "ppc64el": Machine(
        "powerpc64le-linux-gnu",
        "ppc64le",
        "linux-image-powerpc64le",
        "qemu-system-ppc64",
        "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
        "power9",
        "hvc0",
    ),
    "s390x": Machine(
        "s390x-linux-gnu",
        "s390x",
        "linux-image-s390x",
        "qemu-system-s390x",
        "s390-ccw-virtio",
        "max",
        "ttysclp0",
    ),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the matrix."""

    name: str
    arch: str
    kernel_suite: str
    kernel_package: str
    cpu: str
    python: str = "3.11"
    python_suite: str = "bookworm"
    by_pip: bool = False
    may_skip: frozenset[str] = frozenset()

    @property
    def machine(self) -> Machine:
        """Say how this cell's architecture is called and emulated."""
        return MACHINES[self.arch]


def _kernels(arch: str, *releases: str) -> list[Cell]:
    """Make a cell of each kernel; one installs by pip, as users do."""
    return [
        Cell(
            f"{arch}/{release}",
            arch,
            SUITES[release],
            MACHINES[arch].kernel,
            MACHINES[arch].cpu,
            by_pip=release == "6.1",
            may_skip=UNKNOWN_TO.get(release, frozenset())
            | LACKED_BY.get(arch, frozenset()),
        )
        for release in releases
    ]


def _python(version: str) -> Cell:
    machine = MACHINES["amd64"]
    return Cell(
        f"amd64/py{version}",
        "amd64",
        "sid",
        machine.kernel,
        machine.cpu,
        python=version,
        python_suite="sid",
    )


CELLS = (
    *_kernels("amd64", "5.10", "6.1", "6.12", "newest"),
    *_kernels("arm64", "5.10", "6.1", "6.12", "newest"),
    # cortex-a57 has no 16 KiB pages
    Cell("arm64/6.12-16k", "arm64", "trixie", "linux-image-arm64-16k", cpu="max"),
    *_kernels("ppc64el", "6.1", "6.12", "newest"),
    *_kernels("s390x", "6.1", "6.12", "newest"),
    _python("3.14"),
    _python("3.15"),
)

"""Cgroups of a guest with the memory controller, and the targets in them."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from guest_targets import MIB, PAGES, Child
from proof import CGROUPS, require

SIZE = 64 * MIB
# A huge page that khugepaged makes of a few pages is charged at once: 1.7 MiB.
NO_HUGE_PAGES = "import ctypes; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)\n"


class Group:
    """A cgroup with the memory controller, and the targets in it."""

    def __init__(self, name: str, parent: Path = CGROUPS) -> None:
        self.path = parent / f"proof-{name}"
        self.path.mkdir()
        self._targets: list[Child] = []

    def __enter__(self) -> "Group":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the targets, with what they have forked, and remove it."""
        with contextlib.suppress(FileNotFoundError):  # a check has removed it
            self.write("cgroup.kill", 1)
            for target in self._targets:
                target.__exit__()
            while "populated 1" in (self.path / "cgroup.events").read_text():
                time.sleep(0.01)
            self.path.rmdir()

    def start(self, program: str, *arguments: object) -> Child:
        """Start a target in it."""
        join = f"import os; open({str(self.path / 'cgroup.procs')!r}, 'w').write('0')\n"
        child = Child(join + NO_HUGE_PAGES + program, *arguments)
        self._targets.append(child)
        return child

    def read(self, file: str) -> int:
        """Return the number in a file."""
        return int((self.path / file).read_text())

    def write(self, file: str, text: object) -> None:
        """Write to a file."""
        (self.path / file).write_text(str(text))


@contextlib.contextmanager
def filled(name: str, size: int = SIZE) -> Iterator[Group]:
    """Give a cgroup with a target of so many bytes, each page with bytes of its own."""
    with Group(name) as group:
        wait_for_rest(group.start(PAGES, size).pid)
        yield group


def wait_for_rest(pid: int) -> None:
    """Wait until a process sleeps: what it touches, once that is taken, comes back."""
    before: list[str] = []
    while True:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        state, *times = fields[0], *fields[11:13]
        if state == "S" and times == before:
            return
        before = times
        time.sleep(0.1)


def near(told: int, fall: int) -> str:
    """Require that two numbers of bytes are within a tenth of each other."""
    require(abs(told - fall) <= max(told, fall) / 10, f"told {told}, fell by {fall}")
    return f"told {told / MIB:.1f}, fell by {fall / MIB:.1f} MiB"

"""Holding a target still: what issue and design promise, on real processes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.hold_targets import Cgroup, Running, cgroup_of, until

from pmadvise import _sys, _target, pidfd_open
from pmadvise.hold import hold

frozen_only = (pytest.mark.needs_root, pytest.mark.needs_cgroup2)
METHODS = [
    "ptrace",
    pytest.param("freezer", marks=frozen_only),
    "sigstop",
    "auto",
]
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that a test leaves no descriptor, thread or child behind."""
    # a thread that was joined, or is about to end, may be in the kernel's list yet
    until(lambda: len(os.listdir("/proc/self/task")) == 1, "no other thread")
    before = census()
    yield
    # Where KeyboardInterrupt strikes between open(2) and the name for what it
    # returned, Python can't close it: the promise there is the target's.
    if request.node.originalname == "test_interrupted":
        return
    until(lambda: census() == before, f"{census()} again {before}")


def census() -> tuple[int, list[str], str]:
    children = "".join(
        path.read_text() for path in Path("/proc/self/task").glob("*/children")
    )
    return (
        len(os.listdir("/proc/self/fd")),
        os.listdir("/proc/self/task"),
        children,
    )


@pytest.fixture
def cgroup(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    """A cgroup of the target's own, of v2 unless parametrized."""
    with cgroup_of(getattr(request, "param", 2)) as found:
        yield found


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start processes that are killed at the end."""
    with contextlib.ExitStack() as stack:

        def start_one(*args: object, **kwargs: object) -> Running:
            running = Running(*args, **kwargs)  # type: ignore[arg-type]
            stack.callback(running.close)
            return running

        yield start_one


@pytest.fixture
def target(
    request: pytest.FixtureRequest, start: Callable[..., Running]
) -> Iterator[Running]:
    """A process of three threads; in a cgroup of its own where it is to be frozen."""
    running = start()
    if "method" in request.fixturenames and request.getfixturevalue("method") not in (
        "ptrace",
        "sigstop",
        "auto",
    ):
        with cgroup_of(2) as found:
            found.add(running.pid)
            yield running
    else:
        yield running


@pytest.fixture
def witness(start: Callable[..., Running]) -> Callable[[], None]:
    """Wait until a process like the target has made a hundred steps."""
    other = start()

    def wait() -> None:
        before = other.steps()[0]
        until(lambda: other.steps()[0] >= before + 100, "the witness runs")

    return wait


CALLER = """
import os, sys, time
from pmadvise import pidfd_open
from pmadvise.hold import hold
pid, method, then = int(sys.argv[2]), sys.argv[3], sys.argv[4]
with hold(pidfd_open(pid), os.open(f"/proc/{pid}", os.O_DIRECTORY), method):
    if then == "fork" and os.fork() == 0:
        time.sleep(600)
    print("held", flush=True)
    sys.stdin.read()
"""


@every_method
def test_held(target: Running, witness: Callable[[], None], method: str) -> None:
    """No thread of a held process makes a step."""
    with target.hold(method) as held:
        before = target.steps()
        witness()
        assert target.steps() == before
    assert (held.method, held.broken) == (
        "ptrace" if method == "auto" else method,
        None,
    )


@every_method
def test_goes_on(target: Running, method: str) -> None:
    """Every thread goes on when the block ends."""
    with target.hold(method):
        pass
    target.goes_on()


@every_method
def test_goes_on_after_an_exception(target: Running, method: str) -> None:
    """Every thread goes on when the block raises, and the exception is its own."""
    with pytest.raises(KeyError, match="ours"), target.hold(method):
        raise KeyError("ours")
    target.goes_on()


@pytest.mark.parametrize("then", ["wait", "fork"])
@every_method
def test_caller_killed(
    target: Running, start: Callable[..., Running], method: str, then: str
) -> None:
    """Every thread goes on when the caller is killed, also while its child lives."""
    caller = start(
        CALLER, str(target.pid), method, then, wait="held", start_new_session=True
    )
    try:
        os.kill(caller.pid, signal.SIGKILL)
        target.goes_on()
        assert target.tracers() == {0}
    finally:
        os.killpg(caller.pid, signal.SIGKILL)


@pytest.mark.parametrize("signal_number", [1, 2, 9, 15])
@every_method
def test_caller_group_killed(
    target: Running, start: Callable[..., Running], method: str, signal_number: int
) -> None:
    """A signal to the caller's whole process group loses no target."""
    caller = start(
        CALLER, str(target.pid), method, "wait", wait="held", start_new_session=True
    )
    os.killpg(caller.pid, signal_number)
    target.goes_on()


@every_method
def test_random_kills(target: Running, method: str) -> None:
    """A caller killed at any instant loses no target: 60 times."""
    for _ in range(60):
        pid = os.fork()
        if pid == 0:
            while True:
                with target.hold(method):
                    pass
        time.sleep(random.uniform(0, 0.01))  # the instant, not a synchronisation
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        target.goes_on()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@every_method
def test_forked_child_leaves_the_block(
    target: Running, witness: Callable[[], None], method: str
) -> None:
    """A forked child that runs to the end of the block does not let the target go."""
    with target.hold(method) as held:
        pid = os.fork()
        if pid == 0:
            held.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(pid, 0)
        before = target.steps()
        witness()
        assert target.steps() == before
    assert held.broken is None
    target.goes_on()


def test_forked_child_may_hold(target: Running) -> None:
    """A forked child has holds of its own, whatever its parent holds."""
    with target.hold("sigstop"):
        pid = os.fork()
        if pid == 0:
            with target.hold("ptrace") as held:
                os._exit(0 if held.method == "ptrace" else 1)
        assert os.waitpid(pid, 0)[1] == 0
    target.goes_on()


@every_method
def test_stopped_stays_stopped(target: Running, method: str) -> None:
    """A process that was stopped before is stopped afterwards."""
    os.kill(target.pid, signal.SIGSTOP)
    until(lambda: target.states() == "TTT")
    before = target.steps()
    with target.hold(method):
        pass
    until(lambda: target.states() == "TTT")
    assert target.steps() == before
    os.kill(target.pid, signal.SIGCONT)
    target.goes_on()


@every_method
def test_stopped_stays_stopped_when_caller_is_killed(
    target: Running, start: Callable[..., Running], method: str
) -> None:
    """A process that was stopped before is so after the caller was killed, too."""
    os.kill(target.pid, signal.SIGSTOP)
    until(lambda: target.states() == "TTT")
    before = target.steps()
    caller = start(CALLER, str(target.pid), method, "wait", wait="held")
    caller.popen.kill()
    caller.popen.wait()
    until(lambda: target.states() == "TTT")
    assert target.steps() == before


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize(
    ("cgroup", "chosen"),
    [
        ((2), {"ptrace": "ptrace", "auto": "ptrace", "freezer": "freezer"}),
        ((1), {"auto": "freezer", "freezer": "freezer"}),
    ],
    indirect=["cgroup"],
)
def test_frozen_stays_frozen(
    target: Running,
    start: Callable[..., Running],
    cgroup: Cgroup,
    chosen: dict[str, str],
) -> None:
    """A cgroup frozen before is frozen after the hold, and after the caller's end."""
    cgroup.add(target.pid)
    cgroup.freeze()
    before = target.steps()
    for method, by in chosen.items():
        with target.hold(method) as held:
            assert held.method == by
        until(cgroup.frozen)
        caller = start(CALLER, str(target.pid), method, "wait", wait="held")
        caller.popen.kill()
        caller.popen.wait()
        until(cgroup.frozen)
    assert target.steps() == before
    cgroup.thaw()
    target.goes_on()


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize("cgroup", [2, 1], indirect=True)
def test_sigstop_refuses_the_frozen(target: Running, cgroup: Cgroup) -> None:
    """A frozen process takes no SIGSTOP: PermissionError at once."""
    cgroup.add(target.pid)
    cgroup.freeze()
    with pytest.raises(PermissionError, match="frozen"):
        target.hold("sigstop", 600).__enter__()


@pytest.mark.needs_root
@pytest.mark.parametrize("cgroup", [1], indirect=True)
def test_ptrace_refuses_the_frozen_of_v1(target: Running, cgroup: Cgroup) -> None:
    """A process both stopped and frozen by v1 does not keep ptrace waiting."""
    os.kill(target.pid, signal.SIGSTOP)
    until(lambda: target.states() == "TTT")
    cgroup.add(target.pid)
    cgroup.freeze()
    with pytest.raises(PermissionError, match="frozen"):
        target.hold("ptrace", 600).__enter__()
    assert target.tracers() == {0}


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_ptrace_of_stopped_and_frozen(target: Running, cgroup: Cgroup) -> None:
    """A process both stopped and frozen by v2 is held by ptrace, and left so."""
    os.kill(target.pid, signal.SIGSTOP)
    until(lambda: target.states() == "TTT")
    cgroup.add(target.pid)
    cgroup.freeze()
    with target.hold("ptrace"):
        assert target.states() == "ttt"
    until(lambda: target.states() == "TTT")
    until(cgroup.frozen)  # threads that a tracer lets go freeze anew


TRACER = """
import os, sys
from pmadvise import _sys
pid = int(sys.argv[2])
array, n = _sys.task_list(os.open(f"/proc/{pid}", os.O_DIRECTORY))
tids = [t.tid for t in _sys.threads_get(array, n)]
index = tids.index(pid) if sys.argv[3] == "leader" else n - 1
import ctypes
ctypes.CDLL(None).ptrace(0x4206, tids[index], None, None)  # PTRACE_SEIZE
print("traced", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("method", ["ptrace", "sigstop", "auto"])
@pytest.mark.parametrize("which", ["leader", "last"])
def test_traced(
    target: Running, start: Callable[..., Running], method: str, which: str
) -> None:
    """A process traced in one thread: PermissionError, it runs on, none is seized."""
    tracer = start(TRACER, str(target.pid), which, wait="traced")
    with pytest.raises(PermissionError, match="traced already, by thread"):
        target.hold(method).__enter__()
    target.goes_on()
    assert target.tracers() == {0, tracer.pid}


VFORK = """
import os, sys
print("ready", flush=True)
opens = [(os.POSIX_SPAWN_OPEN, 0, sys.argv[2], os.O_RDONLY, 0)]
os.posix_spawn("/bin/true", ["true"], {}, file_actions=opens)
print("spawned", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def vfork_parent(start: Callable[..., Running], tmp_path: Path) -> Iterator[Running]:
    """A process that waits, in state D, for its vfork child to open a FIFO."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    running = start(VFORK, str(fifo))
    until(lambda: running.states() == "D", "it waits in vfork")
    yield running
    # If the child has gone, nobody reads.
    with contextlib.suppress(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize("method", ["ptrace", "sigstop", "auto"])
def test_vfork_parent(vfork_parent: Running, tmp_path: Path, method: str) -> None:
    """A vfork parent can't be stopped: TimeoutError, and nothing is left behind."""
    with pytest.raises(TimeoutError, match="not stopped in time"):
        vfork_parent.hold(method, 0.1).__enter__()
    assert vfork_parent.tracers() == {0}
    (status,) = vfork_parent.threads().values()
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    assert not pending & 1 << signal.SIGSTOP - 1
    os.close(os.open(tmp_path / "fifo", os.O_WRONLY))
    assert vfork_parent.line() == "spawned"


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_vfork_parent_frozen(vfork_parent: Running, cgroup: Cgroup) -> None:
    """A vfork parent can be frozen, its child being allowed company."""
    (children,) = Path(f"/proc/{vfork_parent.pid}/task").glob("*/children")
    for pid in (vfork_parent.pid, *map(int, children.read_text().split())):
        cgroup.add(pid)
    with pytest.raises(PermissionError, match="1 other process"):
        vfork_parent.hold("freezer").__enter__()
    with vfork_parent.hold("auto", whole_cgroup=True) as held:
        until(cgroup.frozen)
    assert (held.method, held.broken) == ("freezer", None)
    assert list(held.refused) == ["ptrace"]
    until(lambda: not cgroup.frozen())


RAIN = """
import fcntl, os, signal, sys, threading
r, w = os.pipe2(os.O_NONBLOCK)
fcntl.fcntl(w, fcntl.F_SETPIPE_SZ, 1 << 20)
signal.set_wakeup_fd(w)
signal.signal(signal.SIGRTMIN, lambda *_: None)
signal.signal(signal.SIGTERM, lambda *_: None)
for _ in range(2):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
os.set_blocking(r, True)
print("ready", flush=True)
handled = 0
while signal.SIGTERM not in (octets := os.read(r, 1 << 16)):
    handled += octets.count(int(signal.SIGRTMIN))
print(handled + octets.count(int(signal.SIGRTMIN)), flush=True)
"""


def test_rain_of_signals(start: Callable[..., Running]) -> None:
    """No real-time signal of the target is lost in 300 ptrace holds."""
    target = start(RAIN)
    sent = 0
    stop = threading.Event()

    def rain() -> None:
        nonlocal sent
        while not stop.is_set():
            with contextlib.suppress(BlockingIOError):  # its queue is full
                os.kill(target.pid, signal.SIGRTMIN)
                sent += 1
            stop.wait(0.0001)

    sender = threading.Thread(target=rain)
    sender.start()
    try:
        for _ in range(300):
            with target.hold("ptrace"):
                pass
    finally:
        stop.set()
        sender.join()
    # A standard signal is taken before a real-time one: so all of these first.
    until(
        lambda: all(
            set(s["SigPnd"] + s["ShdPnd"]) == {"0"} for s in target.threads().values()
        ),
        "every signal is taken",
    )
    os.kill(target.pid, signal.SIGTERM)
    assert target.line() == str(sent)


@pytest.mark.parametrize("method", ["ptrace", "sigstop", "auto"])
def test_signals_are_handed_back(target: Running, method: str) -> None:
    """A fatal signal sent while it is held ends it after the block, not before."""
    with target.hold(method):
        os.kill(target.pid, signal.SIGTERM)
        assert target.popen.poll() is None
    assert target.popen.wait() == -signal.SIGTERM


@every_method
def test_own_child_dies_while_held(target: Running, method: str) -> None:
    """The caller's own child, killed while held, has its status within the block."""
    with target.hold(method) as held:
        os.kill(target.pid, signal.SIGKILL)
        assert target.popen.wait() == -signal.SIGKILL
    assert held.broken is None


PARENT = """
import os, subprocess, sys
code = "import threading; [threading.Thread(target=threading.Event().wait).start() "
code += "for _ in range(3)]; print('up', flush=True)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
print(child.wait(), flush=True)
"""


@every_method
def test_parent_learns_of_death(
    start: Callable[..., Running], method: str, request: pytest.FixtureRequest
) -> None:
    """The parent of a process killed while held has its status within the block."""
    parent = start(PARENT, wait="")
    pid = int(parent.line())
    pidfd, proc = pidfd_open(pid), os.open(f"/proc/{pid}", os.O_DIRECTORY)
    if method == "freezer":
        request.getfixturevalue("cgroup").add(pid)
    try:
        with hold(pidfd, proc, method):
            os.kill(pid, signal.SIGKILL)
            assert parent.line() == "-9"
    finally:
        os.close(pidfd)
        os.close(proc)


@every_method
def test_thousand_holds(target: Running, method: str) -> None:
    """A thousand holds in a row leak no descriptor, process, thread or cgroup."""
    cgroups = set(Path("/sys/fs/cgroup").glob("*/*/"))
    before = census()
    for _ in range(1000):
        with target.hold(method, 10) as held:
            pass
        assert held.broken is None
    assert census() == before
    assert set(Path("/sys/fs/cgroup").glob("*/*/")) == cgroups
    target.goes_on()


CLONES = """
import sys, threading
stop = []
def relay():
    threading.Thread(target=relay, daemon=True).start()
print("ready", flush=True)
for _ in range(4):
    relay()
threading.Event().wait()
"""


@pytest.mark.parametrize("method", ["ptrace", "sigstop"])
def test_clone_storm(start: Callable[..., Running], method: str) -> None:
    """No thread runs while held, of a process whose threads are born and die."""
    target = start(CLONES)
    for _ in range(50):
        with target.hold(method, 10) as held:
            letters = set(target.states())
            threads = set(target.threads())
            assert letters == {"t" if method == "ptrace" else "T"}
            assert set(target.threads()) == threads
        assert held.broken is None


EXECS = """
import os, sys, threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
if len(sys.argv) == 2:
    print("ready", flush=True)
run = lambda: os.execv(sys.executable, [sys.executable, "-S", "-E", "-c", code, "", ""])
code = open("/proc/self/cmdline").read().split("\\0")
code = code[code.index("-c") + 1]
threading.Thread(target=run).start()
threading.Event().wait()
"""


def differs(target: Running, threads: object) -> bool:
    return target.threads() != threads


@pytest.mark.parametrize("method", ["ptrace", "sigstop"])
def test_exec_storm(start: Callable[..., Running], method: str) -> None:
    """A process whose threads call execve(2) over and over is held, and never hangs."""
    target = start(EXECS)
    for _ in range(60):
        with target.hold(method, 20) as held:
            letters = set(target.states())
            assert letters == {"t" if method == "ptrace" else "T"}
        assert held.broken is None
        command = target.threads()
        until(functools.partial(differs, target, command), "it execs again")


def test_wait_for_any_child(target: Running) -> None:
    """A waitpid(-1) elsewhere in the caller does not disturb a ptrace hold."""
    stop = threading.Event()

    def steal() -> None:
        while not stop.is_set():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG | os.WUNTRACED | 0x40000000)  # __WALL

    thief = threading.Thread(target=steal)
    thief.start()
    try:
        for _ in range(50):
            with target.hold("ptrace"):
                assert target.states() == "ttt"
    finally:
        stop.set()
        thief.join()
    target.goes_on()


DEAD_LEADER = """
import ctypes, sys, threading, time, mmap, os
counters = memoryview(mmap.mmap(int(sys.argv[1]), 32)).cast("Q")
def count(i):
    while True:
        counters[i] += 1
        time.sleep(0.0002)
for i in range(3):
    threading.Thread(target=count, args=(i,), daemon=True).start()
print("ready", flush=True)
ctypes.PyDLL(None).syscall.argtypes = [ctypes.c_long, ctypes.c_long]
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.parametrize("method", ["ptrace", "sigstop"])
def test_dead_leader(
    start: Callable[..., Running], witness: Callable[[], None], method: str
) -> None:
    """A process whose leader has exited is held by what threads it has."""
    target = start(DEAD_LEADER)
    until(lambda: "Z" in target.states())
    with target.hold(method):
        before = target.steps()
        witness()
        assert target.steps() == before
    target.goes_on()


def test_sigcont_is_reported(target: Running) -> None:
    """A SIGCONT from elsewhere ends a sigstop hold, which says so."""
    with target.hold("sigstop") as held:
        os.kill(target.pid, signal.SIGCONT)
        target.goes_on()
    assert held.broken == "a SIGCONT from elsewhere let it go"


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_move_is_reported(target: Running, cgroup: Cgroup) -> None:
    """A move to another cgroup ends a freezer hold, which says so."""
    cgroup.add(target.pid)
    with target.hold("freezer") as held:
        (cgroup.path.parent / "cgroup.procs").write_text(str(target.pid))
        target.goes_on()
    assert held.broken == "it was moved to another cgroup"


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize("cgroup", [2, 1], indirect=True)
def test_thaw_is_reported(target: Running, cgroup: Cgroup) -> None:
    """A thaw from elsewhere ends a freezer hold, which says so."""
    cgroup.add(target.pid)
    with target.hold("freezer") as held:
        cgroup.thaw()
        target.goes_on()
    assert held.broken == "the cgroup was thawed from elsewhere"


def test_broken_is_taken_anew(target: Running, witness: Callable[[], None]) -> None:
    """A hold that joins a broken one stops the target again; the broken one says so."""
    with target.hold("sigstop") as outer:
        os.kill(target.pid, signal.SIGCONT)
        target.goes_on()
        with target.hold("sigstop") as inner:
            before = target.steps()
            witness()
            assert target.steps() == before
    assert outer.broken
    assert inner.broken is None
    target.goes_on()


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize("cgroup", [2, 1], indirect=True)
def test_freezer_of_each_version(
    target: Running, cgroup: Cgroup, witness: Callable[[], None]
) -> None:
    """The freezers of cgroup v2 and of v1 hold, and restore what was."""
    cgroup.add(target.pid)
    with target.hold("freezer") as held:
        until(cgroup.frozen)
        before = target.steps()
        witness()
        assert target.steps() == before
    assert held.broken is None
    target.goes_on()


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_company(target: Running, start: Callable[..., Running]) -> None:
    """Other processes, also below it, keep a cgroup from being frozen, unless asked."""
    other = start()
    with cgroup_of(2) as cgroup:
        below = cgroup.child()
        try:
            cgroup.add(target.pid)
            below.add(other.pid)
            with pytest.raises(PermissionError, match="1 other process"):
                target.hold("freezer").__enter__()
            target.goes_on()
            with target.hold("freezer", whole_cgroup=True):
                until(below.frozen)
            other.goes_on()
        finally:
            below.close()


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
@pytest.mark.parametrize("whole_cgroup", [False, True])
def test_callers_own_cgroup(
    start: Callable[..., Running], cgroup: Cgroup, whole_cgroup: bool
) -> None:
    """The caller's own cgroup is never frozen."""
    target = start()
    cgroup.add(target.pid)
    pid = os.fork()
    if pid == 0:
        cgroup.add(os.getpid())
        try:
            target.hold("freezer", whole_cgroup=whole_cgroup).__enter__()
        except PermissionError as error:
            os._exit(0 if "the caller itself" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    target.goes_on()


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_two_targets_in_a_cgroup(start: Callable[..., Running], cgroup: Cgroup) -> None:
    """Holds of two processes in one cgroup join: the last one thaws it."""
    one, two = start(), start()
    for running in (one, two):
        cgroup.add(running.pid)
    first = one.hold("freezer", whole_cgroup=True)
    first.__enter__()
    with two.hold("freezer", whole_cgroup=True):
        first.__exit__(None, None, None)
        until(cgroup.frozen)
    one.goes_on()
    two.goes_on()


@every_method
def test_nested(target: Running, witness: Callable[[], None], method: str) -> None:
    """Nested holds join: the last one lets go."""
    with target.hold(method):
        with target.hold(method) as inner:
            pass
        before = target.steps()
        witness()
        assert target.steps() == before
    assert inner.broken is None
    target.goes_on()


def test_nested_of_another_method(target: Running) -> None:
    """A hold that joins another says by what the target is held, and why."""
    with target.hold("ptrace"), target.hold("sigstop") as inner:
        assert inner.method == "ptrace"
    assert inner.refused == {"sigstop": "joined an earlier hold, by ptrace"}


@every_method
def test_threads_join(target: Running, method: str) -> None:
    """Holds by several threads join: the target is held in every block."""
    errors: list[BaseException | str] = []

    def work() -> None:
        try:
            for _ in range(30):
                with target.hold(method, 20) as held:
                    before = target.steps()
                    time.sleep(0)
                    if target.steps() != before:
                        errors.append("a step")
                if held.broken:
                    errors.append(held.broken)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    target.goes_on()


DAEMON = """
import os, sys
from pmadvise import pidfd_open
from pmadvise.hold import hold
pid, method = int(sys.argv[2]), sys.argv[3]
with hold(pidfd_open(pid), os.open(f"/proc/{pid}", os.O_DIRECTORY), method) as held:
    os.closerange(3, 256)
    files = [os.open("/dev/null", os.O_RDWR) for _ in range(64)]
for fd in files:
    os.fstat(fd)
print(held.broken, flush=True)
"""


@every_method
def test_caller_closed_its_descriptors(
    target: Running, start: Callable[..., Running], method: str
) -> None:
    """Leaving closes no descriptor that became another's; it says if the target ran."""
    caller = start(DAEMON, str(target.pid), method, wait="")
    assert (caller.line() == "None") == (method in ("ptrace", "auto"))
    assert caller.popen.wait() == 0
    target.goes_on()


@pytest.mark.needs_root
def test_without_the_right(target: Running) -> None:
    """A stranger gets PermissionError from each method, with the reasons."""
    pid = os.fork()
    if pid == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            target.hold().__enter__()
        except PermissionError as error:
            text = str(error)
            names = all(f"{name}: " in text for name in ("ptrace", "sigstop"))
            os._exit(0 if names and "CAP_SYS_PTRACE" in text else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    target.goes_on()


@pytest.mark.needs_root
def test_sigstop_with_cap_kill_alone(target: Running) -> None:
    """With CAP_KILL alone the kernel could not let the target go: it is refused."""
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None)
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
        os.setresuid(65534, 65534, 65534)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        kill = 1 << 5
        libc.capset(header, (ctypes.c_uint32 * 6)(kill, kill, 0, 0, 0, 0))
        os.kill(target.pid, 0)
        try:
            target.hold("sigstop").__enter__()
        except PermissionError as error:
            os._exit(0 if "could not let it go" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert "T" not in target.states()


def test_self() -> None:
    """The caller can't hold itself."""
    pidfd = pidfd_open(os.getpid())
    proc = os.open("/proc/self", os.O_DIRECTORY)
    try:
        for method in ("ptrace", "freezer", "sigstop", "auto"):
            with pytest.raises(PermissionError, match="itself"):
                hold(pidfd, proc, method).__enter__()
    finally:
        os.close(pidfd)
        os.close(proc)


@every_method
def test_ended(target: Running, method: str) -> None:
    """A process that has ended: ProcessLookupError, reaped or not."""
    target.popen.kill()
    os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        target.hold(method).__enter__()
    target.popen.wait()
    with pytest.raises(ProcessLookupError):
        target.hold(method).__enter__()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("gdb",), ValueError),
        ((None,), TypeError),
        ((b"ptrace",), TypeError),
        (("auto", -1), ValueError),
        (("auto", float("nan")), ValueError),
        (("auto", "1"), TypeError),
        (("auto", None), TypeError),
        (("auto", 1, "yes"), TypeError),
    ],
)
def test_arguments(
    target: Running, arguments: tuple[object, ...], error: type[Exception]
) -> None:
    """What is wrong with the arguments is said at the call, before any block."""
    with pytest.raises(error):
        hold(target.pidfd, target.proc, *arguments)  # type: ignore[arg-type]


def test_once(target: Running) -> None:
    """A Hold can be entered once."""
    held = target.hold("ptrace")
    with held:
        pass
    with pytest.raises(RuntimeError, match="once"):
        held.__enter__()


@every_method
def test_dropped(target: Running, method: str) -> None:
    """A Hold that nobody leaves lets go when it is dropped."""
    target.hold(method).__enter__()
    target.goes_on()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@every_method
def test_interrupted(target: Running, method: str) -> None:
    """Ctrl-C at any instant of a hold lets the target go."""

    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for microseconds in range(1, 3000, 30):
            interrupted.clear()
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                with target.hold(method):
                    pass
                until(interrupted.is_set)
            target.goes_on()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_seize_of_a_strangers_thread(target: Running) -> None:
    """A thread ID that became another process's is never interrupted."""
    array, n = _sys.task_list(target.proc)
    with_proc_of_caller = os.open("/proc/self", os.O_DIRECTORY)
    result: list[int] = []

    def seize() -> None:
        _sys.ptrace_seize(with_proc_of_caller, array, n)
        result.extend(thread.seized for thread in _sys.threads_get(array, n))

    thread = threading.Thread(target=seize)
    thread.start()
    thread.join()
    os.close(with_proc_of_caller)
    assert result == [-errno.EXDEV] * 3
    until(lambda: target.tracers() == {0})
    target.goes_on()


def test_import_is_light() -> None:
    """Importing pmadvise does not load what holds."""
    code = "import sys, pmadvise; sys.exit('pmadvise.hold' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.needs_root
@pytest.mark.needs_cgroup2
def test_watchdog_without_setsid(
    target: Running, cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where posix_spawn has no setsid, a process group of its own will do."""
    spawn = os.posix_spawn

    def without_setsid(*args: object, **kwargs: object) -> int:
        if "setsid" in kwargs:
            raise NotImplementedError
        return spawn(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "posix_spawn", without_setsid)
    cgroup.add(target.pid)
    with target.hold("freezer"):
        until(cgroup.frozen)
    target.goes_on()


def test_pauses_end() -> None:
    """Looking goes on until the deadline, and at least once."""
    assert len(list(_target.pauses(time.monotonic() - 1))) == 1

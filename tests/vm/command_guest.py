"""What the command `pmadvise reclaim` does, in a guest with cgroup v2."""

import errno
import json
import signal
import subprocess
import sys
import time

from guest_groups import SIZE, Group, filled, near
from guest_targets import MIB
from proof import require


def asked(group: Group, *words: object) -> "subprocess.Popen[str]":
    """Start `pmadvise reclaim` of a cgroup."""
    command = [sys.executable, "-m", "pmadvise", "reclaim", "--cgroup", str(group.path)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, *map(str, words)], stdout=pipe, stderr=pipe, text=True
    )


def answer(group: Group, *words: object) -> tuple[int, str, str]:
    """Return the exit status of `pmadvise reclaim` and what it prints to both."""
    running = asked(group, *words)
    stdout, stderr = running.communicate()
    return running.returncode, stdout, stderr


def command() -> str:
    """The command has the account, of less too, and tells which cgroup has gone."""
    with filled("command") as group:  # of which 6.1 may take twice what it is asked
        before = group.read("memory.current")
        status, text, _ = answer(group, "8M", "--json")
        account = json.loads(text)
        require(
            (status, account["ended"], account["error"]) == (0, "complete", None), text
        )
        said = near(account["reclaimed"], before - group.read("memory.current"))
        status, text, _ = answer(group, "8M")
        require((status, "8.0 MiB asked" in text) == (0, True), text)
        status, text, _ = answer(group, SIZE)
        require((status, "the kernel found no more" in text) == (1, True), text)
    status, text, error = answer(group, "8M", "--json")
    require((status, "no cgroup" in error) == (1, True), (text, error))
    require(json.loads(text)["error"]["errno"] == errno.ENOENT, text)
    return said


def command_interrupted() -> str:
    """Ctrl-C ends the command with status 130 and the account so far."""
    with filled("ctrl-c") as group:
        before = group.read("memory.current")
        running = asked(group, SIZE, "--json")
        while before - group.read("memory.current") < SIZE // 16:
            require(running.poll() is None, "it ended early")
            time.sleep(0.01)
        begin = time.monotonic()
        running.send_signal(signal.SIGINT)
        text, error = running.communicate()
        seconds = time.monotonic() - begin
        require((running.returncode, error) == (130, ""), (running.returncode, error))
        account = json.loads(text)
        require((account["ended"], account["error"]) == ("cancelled", None), text)
        require(seconds < 1, seconds)
        told, fall = account["reclaimed"], before - group.read("memory.current")
        # of what was taken the target may touch some again before it is at rest
        require(0 < told < SIZE and abs(told - fall) < 4 * MIB, (fall, text))
        return f"told {told}, fell by {fall} bytes, ended after {seconds:.2f} s"


CHECKS = (command, command_interrupted)

"""Tasks of the guide that want a real systemd: the timer of a slice, and rights."""

from guest_units import MIB, digest, run, show, swapped

PMADVISE = "/opt/pmadvise/bin/pmadvise"
RIGHTS = "AmbientCapabilities=CAP_SYS_NICE CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
MOVED = 40 * MIB  # of the 44 that a unit holds


def at_night() -> str:
    """The timer is on, and its service pages out the slice, and nothing else."""
    for unit in "batch", "held":
        run("systemctl", "start", unit)
        digest(unit, 0)
    before = swapped("held")
    run("systemctl", "start", "pmadvise-night.timer")
    assert show("ActiveState", "pmadvise-night.timer") == "active"
    run("systemctl", "start", "pmadvise-night.service")
    assert show("Result", "pmadvise-night.service") == "success"
    assert swapped("batch") >= MOVED
    assert swapped("held") == before
    return f"{swapped('batch') >> 20} MiB are in swap"


def granted() -> str:
    """Ambient capabilities are enough for nobody to advise another user's process."""
    command = (PMADVISE, "check", show("MainPID", "batch"))
    plain = ("systemd-run", "--quiet", "--pipe", "--wait", "--uid", "nobody")
    refused = run(*plain, "/bin/sh", "-c", f"{' '.join(command)}; true")
    given = run(*plain, "--property", RIGHTS, *command)
    for row in "other processes", f"process {command[-1]}", "its pages":
        lines = [line.split() for line in given.splitlines() if f"  {row} " in line]
        assert [(line[0], line[-1]) for line in lines] == [("✓", "yes")], given
        assert f"✓  {row} " not in refused, refused
    return "as nobody"


CHECKS = (at_night, granted)

"""Examples: the last paragraph of the help of each verb."""

from __future__ import annotations

EXAMPLES = {
    "top": (
        "pmadvise top",
        "pmadvise top --sort swap --user nobody",
        "pmadvise top --name 'python*' --watch 2s",
    ),
    "show": (
        "pmadvise show 1234",
        "pmadvise show --all --tree 1234",
        "pmadvise show --ages --watch 1s 1234",
    ),
    "cold": (
        "pmadvise cold 1234",
        "pmadvise cold --tree 1234 --budget 25% --max-stall 5ms",
    ),
    "pageout": (
        "pmadvise pageout --dry-run 1234",
        "pmadvise pageout --budget 512M --swap-floor 10% 1234",
        "pmadvise pageout --name 'worker*' --idle 5min --timeout 10min",
    ),
    "willneed": (
        "pmadvise willneed 1234",
        "pmadvise willneed --touch --tree 1234",
    ),
    "collapse": (
        "pmadvise collapse 1234",
        "pmadvise collapse --path '[heap]' --min-size 64M 1234",
    ),
    "reclaim": (
        "pmadvise reclaim --cgroup /sys/fs/cgroup/system.slice 512M",
        "pmadvise reclaim --cgroup /system.slice --swap-floor 10% --timeout 1min 64M",
    ),
    "check": (
        "pmadvise check",
        "pmadvise check 1234",
    ),
    "selftest": (
        "pmadvise selftest",
        "pmadvise selftest --only cold,pageout --size 16",
    ),
}
"""Lines of a shell, where 1234 is the ID of a process."""


def examples(verb: str) -> str:
    """Return the paragraph of a verb, the epilog of its help."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in EXAMPLES[verb])])

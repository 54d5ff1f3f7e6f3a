"""A daemon that pages idle processes out before the kernel has to choose.

It looks at the fill of some cgroups each 100 ms and listens to the kernel's pressure
stall information; over the high watermark it pages their idle processes out (policy.py
ranks them) until the low one is reached, and reads back in who wakes. JSON lines on
stdout, metrics for Prometheus, readiness and watchdog for systemd.
"""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import telemetry
from cgroup import Cgroup, host, swap_cache, swapped_in
from members import MOST
from options import Options, Wrong, load
from relief import REST, TICK, Relief
from startup import lock_of_one_instance, prepare
from telemetry import log, notify
from tracking import MOST as MOST_TRACKED
from tracking import Tracking

from pmadvise import Pressure

LOOK, LOOK_MAX = 2.0, 10.0  # seconds between looks at all processes: so that they
SHARE = 0.01  # take no more of a CPU
CALM = 10.0  # seconds below the high watermark: it has recovered
PAGES_BACK = 64  # swapped in by the host within a tick: somebody wakes
SHARE_WOKEN = 0.05  # of a CPU, for looks who wakes
DESCRIPTORS = 64  # for all but the handles of processes, which have two each


class Daemon:
    """The loop.

    Raises:
        OSError: A cgroup does not exist.
    """

    def __init__(
        self,
        options: Options,
        arguments: Sequence[str],
        lock: int,
        no_pageout: str = "",
    ) -> None:
        self.options, self.arguments, self.lock = options, arguments, lock
        self.groups: list[Cgroup] = []
        self.stopping, self.reloading = threading.Event(), threading.Event()
        self.relief = Relief(options, self.stopping.is_set)
        self.relief.wholes.may_page_out = not no_pageout
        if no_pageout:
            log("no_pageout", message=no_pageout)
        self.next_look, self.next_woken, self.pause = 0.0, 0.0, TICK
        self.swapped_in, self.looked = swapped_in(), 0.0
        self.use(options)

    def use(self, options: Options) -> None:
        """Use these options from now on; say what of them can have no effect."""
        have = {group.directory: group for group in self.groups}
        wanted = dict.fromkeys(options.cgroup)
        groups = [have.get(directory) or Cgroup(directory) for directory in wanted]
        for directory in have.keys() - wanted:
            have[directory].close()
            telemetry.drop_ratio(directory)
        self.options = self.relief.options = self.relief.wholes.options = options
        self.groups = groups
        free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - DESCRIPTORS
        free -= self.use_trackers(max(free // 4, 1))
        for group in groups:
            group.most = min(MOST, max(free // 2 // len(groups), 1))
        for path in options.exclude:
            if "/" in path and not os.path.isdir(path):
                log("no_such_cgroup", exclude=path)
        try:
            if (space := self.relief.swap_space()).why_full:
                log(space.why_full, total=space.total, floor=space.floor)
        except OSError as error:
            log("error", message=str(error))

    def use_trackers(self, most: int) -> int:
        """Track busy processes, if that is asked for; return how many at most."""
        tracking = self.relief.tracking
        if math.isinf(self.options.idle_ranges):
            if tracking is not None:
                tracking.close()
            self.relief.tracking = None
            return 0
        if tracking is None:
            tracking = self.relief.tracking = Tracking(self.options)
        tracking.options, tracking.most = self.options, min(most, MOST_TRACKED)
        return tracking.most

    def run(self, port: int) -> None:
        """Look, and act, until the end is asked for."""
        poll = select.poll()
        try:
            pressure = Pressure()
            poll.register(pressure, select.POLLIN)
        except OSError as error:  # a kernel without PSI
            log("no_pressure", message=str(error))
        notify("READY=1")
        cgroups, more = self.options.cgroup, self.named_options()
        log("ready", cgroups=cgroups, pid=os.getpid(), port=port, **more)
        while not self.stopping.is_set():
            fired = bool(poll.poll(self.pause * 1000))
            self.pause = TICK
            telemetry.EVENTS.inc(fired)
            if self.reloading.is_set():
                self.reload()
            self.tick(fired, time.monotonic())
        if self.relief.tracking is not None:
            self.relief.tracking.close()
        notify("STOPPING=1")
        log("stopped")

    def named_options(self) -> dict[str, float]:
        """Return the options that are off by default, and are not off, for the log."""
        idle_ranges = self.options.idle_ranges
        return {} if math.isinf(idle_ranges) else {"idle_ranges": idle_ranges}

    def reload(self) -> None:
        """Read the options again; if they are wrong those so far stay."""
        self.reloading.clear()
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        before = self.options
        try:
            self.use(load(self.arguments))
        except (Wrong, OSError) as error:
            log("not_reloaded", message=str(error))
        else:
            now = self.options
            later = [
                n for n in ("listen", "lock") if getattr(before, n) != getattr(now, n)
            ]
            more = self.named_options()
            log("reloaded", cgroups=now.cgroup, after_a_restart=later, **more)
        notify("READY=1")

    def tick(self, fired: bool, now: float) -> None:
        """Look at what is due, and act on it."""
        before, self.swapped_in = self.swapped_in, swapped_in()
        due, woken = now >= self.next_look, now >= self.next_woken
        woken = woken and self.swapped_in - before > PAGES_BACK
        self.looked = 0.0
        for group in self.groups:
            try:
                self.attend(group, now, due=due, woken=woken, fired=fired)
            except (OSError, MemoryError) as error:  # removed, or an error of its own
                telemetry.ERRORS.labels(telemetry.name_of(error)).inc()
                if isinstance(error, FileNotFoundError):
                    telemetry.drop_ratio(group.directory)
                group.wait(now, REST, LOOK)
                group.teller.tell("error", str(error), now, message=str(error))
        if woken:  # others may swap in all the time
            self.next_woken = now + self.looked / SHARE_WOKEN
        tracking = self.relief.tracking
        if due:
            known = [one for group in self.groups for one in group.known.values()]
            if tracking is not None:
                tracking.choose(known, now)
                self.looked, tracking.spent = self.looked + tracking.spent, 0.0
        if tracking is not None:
            tracking.step(now)
        if due:
            self.next_look = now + min(max(LOOK, self.looked / SHARE), LOOK_MAX)
            alone = [one for one in known if one.until > now]
            telemetry.LISTED.set(sum(group.n_listed for group in self.groups))
            telemetry.PROCESSES.set(len(known))
            telemetry.BACKOFFS.set(len(alone))
            telemetry.REFUSING.set(sum(bool(one.refused) for one in known))
            with suppress(OSError):  # /proc hides the swap
                self.relief.swap_space()
            telemetry.LOOKED.set_to_current_time()
            os.utime(self.lock)
            notify("WATCHDOG=1")

    def attend(
        self, group: Cgroup, now: float, *, due: bool, woken: bool, fired: bool
    ) -> None:
        """Look at one cgroup, and act on it."""
        began = time.thread_time()
        if due:
            group.refresh(now)
            if why := group.hidden:
                counts = {"listed": group.n_listed, "watched": len(group.known)}
                group.teller.tell("members_hidden", why, now, message=why, **counts)
        fill = group.fill()
        high, low = (
            fill.limit * n / 100 for n in (self.options.high, self.options.low)
        )
        if fill.used > high:
            fill = fill._replace(used=fill.used - swap_cache(fill.where))
        telemetry.RATIO.labels(group.directory).set(fill.ratio)
        if fill.used > high:
            group.full_at = now
        elif group.is_full and (fill.used <= low or now - group.full_at > CALM):
            group.recover()
            log("recovered", cgroup=group.directory, ratio=round(fill.ratio, 3))
        room = high - fill.used
        if due or woken:
            for one in group.known.values():
                room -= self.relief.look(one, now, room) if due or one.swap else 0
            self.looked += time.thread_time() - began
        trigger = "watermark" if room < 0 else ""
        if fired and not trigger:
            # The host's PSI tells of each cgroup that is at a limit of its own.
            is_short = host().ratio * 100 > self.options.high or group.is_stalled()
            trigger = "pressure" if is_short else ""
        if (
            trigger
            and now >= group.later
            and self.relief.relieve(group, now, fill, trigger)
        ):
            self.pause = 0.0  # meanwhile the group may have grown past the watermark


def main() -> None:
    """Run the daemon."""
    try:
        options = load(sys.argv[1:])
    except Wrong as wrong:
        lines = str(wrong).split("\n")
        print("\n".join(f"pressured: {line}" for line in lines), file=sys.stderr)
        sys.exit(2)
    try:
        no_pageout = prepare(options)
        lock = lock_of_one_instance(options.lock)
        telemetry.start_log()
        daemon = Daemon(options, sys.argv[1:], lock, no_pageout)
        metrics = telemetry.Metrics(*options.listen)
    except BlockingIOError:
        sys.exit(f"pressured: another one runs: it holds {options.lock}")
    except OSError as error:
        sys.exit(f"pressured: {error}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stopping.set())
    signal.signal(signal.SIGHUP, lambda *_: daemon.reloading.set())
    daemon.run(metrics.port)
    telemetry.flush(1.0)


if __name__ == "__main__":
    main()

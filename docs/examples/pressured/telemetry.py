"""What the daemon tells: metrics for Prometheus, lines for programs, its state."""

from __future__ import annotations

import errno
import json
import math
import os
import queue
import socket
import socketserver
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, MetricsHandler

RATIO = Gauge("pressured_watermark_ratio", "Bytes in use, of the limit", ["cgroup"])
LISTED = Gauge("pressured_listed_processes", "Processes in the cgroups, seen or not")
PROCESSES = Gauge("pressured_processes", "Processes that are watched")
BACKOFFS = Gauge("pressured_backoffs", "Processes left alone for a while")
REFUSING = Gauge("pressured_refusing_processes", "Those that refused the latest advice")
LOOKED = Gauge("pressured_last_look_timestamp_seconds", "When it last looked at all")
SWAP_FREE = Gauge("pressured_swap_free_bytes", "Free swap")
SWAP_FLOOR = Gauge("pressured_swap_floor_bytes", "Swap that it leaves free")
ADVISED = Counter("pressured_advised_bytes", "Bytes advised", ["advice"])
IDLE_RANGES = Counter(
    "pressured_idle_range_bytes", "Bytes advised of busy processes, idle for long"
)
TRACKERS = Gauge("pressured_trackers", "Busy processes whose idle memory is tracked")
FREED = Counter("pressured_freed_bytes", "Bytes that left memory")
RECLAIMED = Counter(
    "pressured_reclaimed_bytes", "Of the freed, those that cgroups gave as a whole"
)
REFAULTED = Counter("pressured_refaulted_bytes", "Bytes that came back from swap")
ACTS = Counter("pressured_acts", "Times it acted", ["cgroup", "trigger", "ended"])
REFUSALS = Counter("pressured_refusals", "Times that a process refused", ["errno"])
ERRORS = Counter("pressured_errors", "Errors of its own, or of a cgroup", ["errno"])
EVENTS = Counter("pressured_pressure_events", "Events of the PSI trigger")
LOST = Counter("pressured_lost_lines", "Lines of the log that could not be written")
CALL = Histogram(
    "pressured_longest_call_seconds", "Longest call: the target may wait for it"
)

SELDOM, FORGOTTEN = 10.0, 60.0  # seconds between lines; without what lasts
_LINES, _CONNECTIONS = 1000, 8  # waiting to be written; open
_PATIENCE = 5.0  # seconds that a connection may be silent


class _Log(threading.Thread):
    """Writes lines to stdout, so that the loop waits for no disk and no reader."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._waiting: queue.Queue[bytes] = queue.Queue(_LINES)
        self._lock = threading.Lock()
        self._lost, self._is_torn = 0, False

    def put(self, event: str, **fields: object) -> None:
        """Give a line to be written; if too many wait, it is lost."""
        try:
            self._waiting.put_nowait(_line(event, **fields))
        except queue.Full:
            self._lose(1)

    def run(self) -> None:
        """Write."""
        while True:
            line, lost = self._waiting.get(), self._lost
            if lost and self._write(_line("lines_lost", lines=lost)):
                self._lose(-lost)
            if not self._write(line):
                self._lose(1)
            self._waiting.task_done()

    def end(self, seconds: float) -> None:
        """Wait until all is written, but not longer."""
        end = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.01)

    def _lose(self, n: int) -> None:
        with self._lock:
            self._lost += n
        LOST.inc(max(n, 0))

    def _write(self, line: bytes) -> bool:
        """Write a line; return False if the disk is full or nobody reads."""
        left = b"\n" + line if self._is_torn else line
        try:
            while left:
                left = left[os.write(1, left) :]
        except OSError:
            self._is_torn = self._is_torn or len(left) < len(line)
            return False
        self._is_torn = False
        return True


def _line(event: str, **fields: object) -> bytes:
    line = {"time": round(time.time(), 3), "event": event, **fields}
    return json.dumps(line).encode("ascii") + b"\n"


_LOG = _Log()
log, flush = _LOG.put, _LOG.end


def start_log() -> None:
    """Begin to write the lines."""
    _LOG.start()


class Teller:
    """Logs what lasts once, until it changes, and not too often.

    Args:
        cgroup: Of which it tells; "" if of none.
    """

    def __init__(self, cgroup: str) -> None:
        self._cgroup = cgroup
        self._told: dict[str, tuple[object, float, float]] = {}

    def tell(
        self,
        event: str,
        key: object,
        now: float,
        lasting: float = FORGOTTEN,
        /,
        **fields: object,
    ) -> None:
        """Log an event, unless the latest of its kind had the same key.

        Args:
            event: Its name.
            key: What it is about.
            now: By time.monotonic().
            lasting: Seconds until it is forgotten, if it does not happen again.
            **fields: Of the line.
        """
        latest, seen, said = self._told.get(event, (None, now, -math.inf))
        if latest == key and now - seen < lasting:
            self._told[event] = key, now, said
        elif now - said >= SELDOM:
            self._told[event] = key, now, now
            about = {"cgroup": self._cgroup} if self._cgroup else {}
            log(event, **about, **fields)

    def forget(self) -> None:
        """Tell all anew."""
        self._told.clear()


class Metrics(socketserver.ThreadingTCPServer):
    """Serves the metrics to a few at once: a newcomer ends the oldest connection.

    Args:
        host: An IP address; "" for all.
        port: Of TCP; 0 for any.

    Raises:
        OSError: It can't be had.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        is_any = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if is_any or ":" in host else socket.AF_INET
        try:
            listening = socket.create_server(
                (host, port), family=family, dualstack_ipv6=is_any
            )
        except OSError as error:
            why = os.strerror(error.errno or errno.EIO)
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise OSError(f"--listen {address}: {why}") from None
        handler = MetricsHandler.factory(REGISTRY)
        super().__init__((host, port), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.port: int = listening.getsockname()[1]
        self._lock = threading.Lock()
        self._open: dict[socket.socket, None] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base
        """Answer in a thread of its own."""
        request.settimeout(_PATIENCE)
        with self._lock:
            self._open[request] = None
            if len(self._open) > _CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _shut_down(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as the base
        """End a connection."""
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Count what went wrong, unless whoever connected has gone or is slow."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            ERRORS.labels(type(error).__name__).inc()


def _shut_down(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended by itself
        return


def drop_ratio(cgroup: str) -> None:
    """Show no ratio of a cgroup that has gone, or that is not looked at any more."""
    with suppress(KeyError):
        RATIO.remove(cgroup)


def name_of(error: BaseException) -> str:
    """Return "EMFILE" and the like."""
    number = getattr(error, "errno", None) or 0
    return errno.errorcode.get(number, type(error).__name__)


def notify(state: str) -> None:
    """Tell systemd, if it asked for that: sd_notify(3)."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1.0)  # the receiver's queue may be full
            try:
                sock.connect(address.replace("@", "\0", 1))
                sock.sendall(state.encode())
            except OSError as error:
                log("not_notified", state=state, message=str(error))

"""Several processes as one sidecar: who takes the ports, starts the workers and looks after them.

It has no data path and answers nobody: it holds the listening sockets, which all workers accept
from, waits for signals, and starts another worker where one has ended. Workers end with it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from core.errors import ConfigError
from proxy.app import APP_LISTENER, EXIT_DRAINED, bind_ports
from proxy.config import Config
from proxy.crew import CUT, DRAIN, socket_of
from proxy.explicit import Explicit
from proxy.net.loads import make_loads, write_absent
from proxy.net.sockopt import drop_new_handshakes
from proxy.telemetry.log import Logger

ENDING: Final = frozenset((signal.SIGTERM, signal.SIGINT))
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
"""Between a worker's end and the next start; one that has served for so long begins anew."""
_LOOK_S: Final = 0.02
"""How often is looked whether the first worker has come up."""
_FAILED: Final = 1
_CGROUP: Final = Path("/sys/fs/cgroup")
_QUOTAS: Final = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Of cgroup v2 and v1, below where it is mounted."""
_PLACES: Final = ("/dev/shm", "")  # noqa: S108 - a directory of our own in it, of mode 0700


@final
class Worker:
    """One worker's place: the process in it, or when there will be one."""

    def __init__(self, number: int) -> None:
        self.number: Final = number
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.began = 0.0
        self.due = 0.0
        """When it is to be started, in monotonic seconds."""
        self.pause_s = FIRST_PAUSE_S

    def ended(self, now: float) -> float:
        """Take notice of the process's end; return seconds until the next start."""
        self.process = None
        if now - self.began >= LONGEST_PAUSE_S:
            self.pause_s = FIRST_PAUSE_S
        pause_s = self.pause_s
        self.due = now + pause_s
        self.pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        return pause_s


@final
class Workers:
    """The workers of one sidecar; leaving its ``with`` block ends what is left of them."""

    def __init__(
        self, config: Config, explicit: Explicit | None, log: Logger, *, is_gateway: bool
    ) -> None:
        """Take the ports. Raises ConfigError naming all that cannot be had."""
        self._bound = bind_ports(config, explicit)
        self._is_gateway = is_gateway
        self._log = log
        self._directory = _private_directory()
        self._loads = -1
        """The table of how many connections each has; there once workers are."""
        self._workers: list[Worker] = []
        self._is_up = False
        """Whether the first worker has come up: it makes the key that all have."""
        self._is_ending = False
        self._asked = 0
        """How many signals asked us to end."""
        self._worst = EXIT_DRAINED

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in self._workers:
            if each.process is not None:
                each.process.kill()
                each.process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._loads >= 0:
            os.close(self._loads)

    def run(self, count: int) -> int:
        """Keep ``count`` workers running until we are asked to end; return the worst status."""
        self._workers = [Worker(number) for number in range(1, count + 1)]
        self._loads = make_loads(count)
        self._log.info("workers", count=count)
        heard = {*ENDING, DRAIN, signal.SIGCHLD}
        # Held back, so that none is lost between two waits; workers begin with them held back.
        signal.pthread_sigmask(signal.SIG_BLOCK, heard)
        # Who started us may ignore its children's ends: we would inherit that, and hear of none.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            self._start_due()
            found = signal.sigtimedwait(heard, self._patience())
            if found is not None and found.si_signo != signal.SIGCHLD:
                self._end(signal.Signals(found.si_signo))
            is_stillborn = self._reap()
            if is_stillborn or (self._is_ending and all(w.process is None for w in self._workers)):
                return self._worst

    def _patience(self) -> float:
        """Return how long there is nothing to do, in seconds."""
        if self._is_ending:
            return LONGEST_PAUSE_S
        if not self._is_up:
            return _LOOK_S
        due = [each.due for each in self._workers if each.process is None]
        return max(0.0, min(due, default=math.inf) - time.monotonic()) if due else LONGEST_PAUSE_S

    def _start_due(self) -> None:
        if self._is_ending:
            return
        first = self._workers[0]
        if not self._is_up and first.process is not None:
            self._is_up = socket_of(self._directory, first.number).exists()
        now = time.monotonic()
        for each in self._workers if self._is_up else (first,):
            if each.process is None and each.due <= now:
                self._start(each, now)

    def _start(self, worker: Worker, now: float) -> None:
        worker.starts += 1
        worker.began = now
        sockets = [(name, sock.fileno()) for name, sock in self._bound.socks]
        told: Mapping[str, object] = {
            "parent": os.getpid(),
            "number": worker.number,
            "count": len(self._workers),
            "starts": worker.starts,
            "directory": str(self._directory),
            "is_gateway": self._is_gateway,
            "loads": self._loads,
            "sockets": sockets,
            "taken": [(each.ip, each.port) for each in self._bound.taken],
        }
        home = str(Path(__file__).resolve().parent.parent)
        others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        try:
            worker.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cli.worker", json.dumps(told)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([home, *others])},
                stdin=subprocess.DEVNULL,
                pass_fds=[self._loads, *(fd for _, fd in sockets)],
                # A terminal's Ctrl-C is for us, who pass it on once.
                process_group=0,
            )
        except OSError as error:
            pause_s = worker.ended(now)
            reason = error.strerror or str(error)
            self._log.error(
                "worker not started", worker=worker.number, reason=reason, again_s=pause_s
            )
            return
        self._log.info(
            "worker started",
            worker=worker.number,
            process=worker.process.pid,
            starts=worker.starts,
        )

    def _reap(self) -> bool:
        """Take notice of who has ended; True when the first worker did before it came up.

        What stops that one at its start would stop them all.
        """
        is_stillborn = False
        for each in self._workers:
            status = None if each.process is None else each.process.poll()
            if status is None:
                continue
            pause_s = each.ended(time.monotonic())
            write_absent(self._loads, each.number)
            # A killed worker's must not be taken for that of one that has come up, nor stay behind.
            with contextlib.suppress(OSError):
                socket_of(self._directory, each.number).unlink(missing_ok=True)
            is_stillborn |= not (self._is_up or self._is_ending)
            if self._is_ending or not self._is_up:
                self._worst = max(self._worst, status if status >= 0 else _FAILED)
            else:
                self._log.error(
                    "worker ended", worker=each.number, status=_status_text(status), again_s=pause_s
                )
        return is_stillborn

    def _end(self, number: signal.Signals) -> None:
        """Let all workers drain; asked by a second signal to end, let them cut what is left."""
        is_first, self._is_ending = not self._is_ending, True
        self._asked += number in ENDING
        if is_first:
            self._log.info("asked to end", signal=number.name)
            for kind, sock in self._bound.socks:
                if kind in {"inbound", APP_LISTENER}:
                    drop_new_handshakes(sock)
                # The ports close with the last worker that has them.
                sock.close()
            self._tell(signal.SIGTERM)
        elif self._asked > 1:
            self._log.warning("asked to end at once", signal=number.name)
            self._tell(CUT)

    def _tell(self, number: signal.Signals) -> None:
        for each in self._workers:
            if each.process is not None:
                each.process.send_signal(number)


def usable_workers(wanted: int, log: Logger) -> int:
    """Return how many workers there can be: no more than cores that we may use."""
    cores = usable_cores(len(os.sched_getaffinity(0)), read_quota(_CGROUP))
    if cores < wanted:
        log.warning("fewer workers than asked for", asked=wanted, cores=cores)
    return min(wanted, cores)


def usable_cores(affinity: int, quota: str) -> int:
    """Return how many cores can be busy at once, at least 1.

    ``quota``: microseconds that may be used, and in how many, as ``read_quota`` returns them.
    """
    used, _, period = quota.strip().partition(" ")
    if not (used.isdecimal() and period.isdecimal() and int(period)):
        return max(1, affinity)
    return max(1, min(affinity, math.ceil(int(used) / int(period))))


def read_quota(cgroup: Path) -> str:
    """Return the text of cgroup v2's ``cpu.max``, or v1's two numbers as one; empty: none.

    Where there is no quota, v2 has the word ``max`` for it and v1 the number -1.
    """
    for names in _QUOTAS:
        with contextlib.suppress(OSError):
            return " ".join([(cgroup / name).read_text(encoding="ascii").strip() for name in names])
    return ""


def _private_directory() -> Path:
    """Make a directory for the workers' sockets that nobody else may enter (mode 0700)."""
    reason = ""
    for place in _PLACES:
        try:
            return Path(tempfile.mkdtemp(prefix="pillion-", dir=place or None))
        except OSError as error:
            reason = error.strerror or str(error)
    raise ConfigError(
        f"there is no place for the workers' sockets: {reason}",
        hint="make /dev/shm or /tmp writable for us, or set PILLION_WORKERS to 1",
    )


def _status_text(status: int) -> str:
    if status >= 0:
        return str(status)
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return str(status)

"""The processes of a run: started on a core, watched, and ended, whatever happens.

Each is the leader of a session of its own, so that ending it takes its workers along, and gets
SIGTERM from the kernel should this process die. Nothing is ended that was not started here.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self, final

from core.errors import ConfigError, UnreachableError
from discovery.model import Address

START_TIMEOUT_S: Final = 15.0
"""A hop that does not accept by then has failed; each needs less than a second."""
STOP_TIMEOUT_S: Final = 2.0
"""Between SIGTERM and SIGKILL."""
POLL_S: Final = 0.002
LOG_TAIL: Final = 600
"""Characters of a dead process's log that go into the error."""
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_TICKS_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@final
@dataclass(frozen=True, slots=True)
class Child:
    """A process we started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """Return the end of what it wrote."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:].strip()


@final
class Processes:
    """Starts processes; leaving the context ends all of them."""

    def __init__(self, directory: Path) -> None:
        missing = [tool for tool in ("setpriv", "taskset") if shutil.which(tool) is None]
        if missing:
            raise ConfigError(f"{', '.join(missing)} not found", hint="apt-get install util-linux")
        self._directory = directory
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(list(self._children))

    def start(
        self,
        name: str,
        command: list[str],
        core: int,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start ``command`` pinned to ``core``; standard input and output are pipes to us.

        ``environment`` is all it gets; None: what we have.
        """
        log = self._directory / f"{name}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def stop(self, children: list[Child]) -> None:
        """End these processes with their workers: SIGTERM, and SIGKILL for who stays."""
        for child in children:
            _signal(child, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(child, signal.SIGKILL)
                child.process.wait(STOP_TIMEOUT_S)
            for pipe in (child.process.stdin, child.process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            self._children.remove(child)


def end_by_clean_up() -> None:
    """Have SIGINT and SIGTERM end this process by way of its clean-up, with status 128 + number."""
    for number in _ENDING:
        signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    # The first signal ends the run by way of its clean-up; another must not cut that short.
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process.poll() is None:
        os.killpg(child.process.pid, number)


def wait_until_accepting(child: Child, address: Address) -> None:
    """Wait until ``address`` accepts.

    Raises UnreachableError, with the end of the log, when the process ends or START_TIMEOUT_S
    have passed.
    """
    began = time.monotonic()
    while time.monotonic() - began < START_TIMEOUT_S:
        if child.process.poll() is not None:
            raise UnreachableError(
                f"{child.name} ended with status {child.process.returncode}: {child.tail()}"
            )
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((address.ip, address.port)) == 0:
                return
        time.sleep(POLL_S)
    raise UnreachableError(f"{child.name} does not accept on {address}: {child.tail()}")


def family(pid: int) -> list[int]:
    """Return ``pid`` and its descendants; those that have ended are left out."""
    members = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                members += family(int(child))
        members.append(pid)
    return members


def cpu_ns(children: list[Child]) -> int:
    """Return the CPU time, in ns, that the processes and their descendants have used."""
    return sum(family_cpu_ns(child.process.pid) for child in children)


def family_cpu_ns(pid: int) -> int:
    """Return the CPU time, in ns, that ``pid`` and its descendants have used."""
    return sum(_cpu_ns(each) for each in family(pid))


def _cpu_ns(pid: int) -> int:
    # A process's own clock counts threads that have ended; /proc has only those that live. Its
    # number is made of the complement of the process's and CPUCLOCK_SCHED (linux/posix-timers.h).
    with suppress(OSError):
        return time.clock_gettime_ns(~pid << 3 | 2)
    return 0


def resident_kib(child: Child) -> int:
    """Return the resident memory, in KiB, of a process and its descendants."""
    total = 0
    for pid in family(child.process.pid):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
    return total


@final
@dataclass(frozen=True, slots=True)
class CoreTime:
    """What a core did since it was started, in ns."""

    passed: int
    idle: int
    stolen: int
    """Taken by other machines on the same hardware."""


def core_time(core: int) -> CoreTime:
    """Return what a core has done (proc_stat(5)); zeros for a core there is not."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            spent = [int(field) * _TICKS_NS for field in fields[:8]]
            return CoreTime(sum(spent), spent[3] + spent[4], spent[7])
    return CoreTime(0, 0, 0)

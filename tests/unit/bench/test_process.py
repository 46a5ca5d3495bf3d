"""bench.process: what is started is ended, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.place import reserve_addresses
from bench.process import (
    CoreTime,
    Processes,
    core_time,
    cpu_ns,
    family,
    resident_kib,
    wait_until_accepting,
)
from core.errors import UnreachableError
from tests.support.processes import wait_until

pytestmark = pytest.mark.needs("setpriv", "taskset")
CORE = min(os.sched_getaffinity(0))
STUBBORN = "trap '' TERM; sleep 60 & echo up; wait; wait"
"""Ignores SIGTERM, and has a child that does."""


def is_running(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_leaving_ends_a_process_and_its_children_even_stubborn_ones(tmp_path: Path) -> None:
    """SIGTERM first, SIGKILL for who stays."""
    with Processes(tmp_path) as processes:
        child = processes.start("stubborn", ["sh", "-c", STUBBORN], CORE)
        assert child.process.stdout is not None
        assert child.process.stdout.readline() == b"up\n"
        members = family(child.process.pid)
        assert len(members) == 2
    wait_until(
        lambda: not any(is_running(pid) for pid in members), seconds=5, what="the end of both"
    )


def test_processes_go_when_their_parent_is_killed(tmp_path: Path) -> None:
    """No clean-up runs then: the kernel does it."""
    script = (
        "import sys; from pathlib import Path; from bench.process import Processes\n"
        f"with Processes(Path({str(tmp_path)!r})) as p:\n"
        f"    c = p.start('x', ['sh', '-c', 'echo up; exec sleep 60'], {CORE})\n"
        "    c.process.stdout.readline(); print(c.process.pid, flush=True); sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    wait_until(lambda: not is_running(pid), seconds=5, what="the child's end")


def test_a_process_that_ends_early_is_quoted(tmp_path: Path) -> None:
    """Its last words are the reason."""
    (address,) = reserve_addresses(1)
    with Processes(tmp_path) as processes:
        child = processes.start("broken", ["sh", "-c", "echo bad option >&2; exit 3"], CORE)
        with pytest.raises(UnreachableError, match="status 3: bad option"):
            wait_until_accepting(child, address)


def test_cpu_time_and_memory_are_those_of_the_whole_family(tmp_path: Path) -> None:
    """The worker's count, not the master's alone."""
    busy = "sh -c 'i=0;while [ $i -lt 200000 ]; do i=$((i+1)); done; echo up; exec sleep 60' & wait"
    with Processes(tmp_path) as processes:
        child = processes.start("busy", ["sh", "-c", busy], CORE)
        assert child.process.stdout is not None
        assert child.process.stdout.readline() == b"up\n"
        wait_until(lambda: cpu_ns([child]) > 10_000_000, seconds=5, what="10 ms of CPU time")
        assert resident_kib(child) > 500


def test_cpu_time_of_threads_that_have_ended_counts(tmp_path: Path) -> None:
    """A peer may have a thread for each connection."""
    script = (
        "import threading, time\n"
        "def burn():\n"
        "    while time.thread_time() < 0.2: pass\n"
        "t = threading.Thread(target=burn); t.start(); t.join(); print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    with Processes(tmp_path) as processes:
        child = processes.start("threads", [sys.executable, "-c", script], CORE)
        assert child.process.stdout is not None
        assert child.process.stdout.readline() == b"up\n"
        assert cpu_ns([child]) >= 200_000_000


def test_a_core_has_time_and_an_unknown_one_none() -> None:
    """Idle and stolen time are part of what passed."""
    seen = core_time(CORE)
    assert seen.passed > 0
    assert min(seen.idle, seen.stolen) >= 0
    assert seen.idle + seen.stolen <= seen.passed
    assert core_time(100_000) == CoreTime(0, 0, 0)

"""The pool of pipes: its bounds, and what becomes of a pipe that is given back."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from proxy.net.splice import (
    LEAST_BYTES,
    MOST_PIPES,
    PIPE_BYTES,
    Pipes,
    affordable_pipes,
    open_pipe,
)
from tests.support.relays import pipe_ends
from tests.support.streams import connected

_ROOT: Final = Path(__file__).parents[4]
_AS_NOBODY: Final = """
import os
from proxy.net.splice import open_pipe
os.setresuid(54_321, 54_321, 54_321)
made = [open_pipe() for _ in range(400)]
print(made[0] is not None, made[-1] is not None)
"""


class Borrower:
    """Who has a pipe, and remembers what it was told."""

    def __init__(self) -> None:
        self.idle = 0

    def on_filled(self, size: int) -> None:
        """Nothing to keep."""

    def on_unfilled(self) -> None:
        """Nothing to keep."""

    def on_idle(self) -> None:
        """Count it."""
        self.idle += 1


def test_a_pipe_is_as_large_as_the_system_lets_it_be() -> None:
    """One mebibyte, unless the machine's bound is lower."""
    most = int(Path("/proc/sys/fs/pipe-max-size").read_text(encoding="ascii"))
    pipe = open_pipe()
    assert pipe is not None
    assert pipe.size == PIPE_BYTES if most >= PIPE_BYTES else pipe.size >= LEAST_BYTES
    pipe.close()


def test_one_more_than_the_bound_is_not_lent() -> None:
    """What is given back can be lent again, and an empty pipe is."""
    before = pipe_ends()
    pipes = Pipes(2)
    first, second = pipes.lend(Borrower()), pipes.lend(Borrower())
    assert first is not None
    assert second is not None
    assert pipes.lend(Borrower()) is None
    pipes.give_back(first)
    assert pipes.lend(Borrower()) is first
    pipes.give_back(first)
    pipes.give_back(second)
    assert pipe_ends() == before + 4
    pipes.on_tick(1.0)
    assert pipe_ends() == before
    assert pipes.on_loan == 0


def test_with_a_bound_of_none_there_are_none() -> None:
    """A process that may open few descriptors copies everything."""
    assert Pipes(0).lend(Borrower()) is None


def test_somebody_s_bytes_reach_nobody_else() -> None:
    """A pipe that holds some is closed."""
    before = pipe_ends()
    pipes = Pipes()
    with connected() as (near, peer):
        pipe = pipes.lend(Borrower())
        assert pipe is not None
        peer.sendall(b"secret")
        assert pipe.fill(near.fileno()) == 6
        pipes.give_back(pipe)
    assert pipe_ends() == before


def test_without_descriptors_there_are_no_pipes_until_the_next_tick() -> None:
    """What the system refuses is not asked for at each read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pipes = Pipes()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        assert pipes.lend(Borrower()) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert pipes.lend(Borrower()) is None
    pipes.on_tick(1.0)
    pipe = pipes.lend(Borrower())
    assert pipe is not None
    pipes.give_back(pipe)
    pipes.close()
    assert pipes.lend(Borrower()) is None


def test_a_pipe_that_was_not_used_between_two_ticks_is_asked_back() -> None:
    """The first tick after it was lent comes too soon."""
    pipes = Pipes()
    borrower = Borrower()
    pipe = pipes.lend(borrower)
    assert pipe is not None
    pipes.on_tick(1.0)
    assert borrower.idle == 0
    pipes.on_tick(2.0)
    assert borrower.idle == 1
    with connected() as (near, peer):
        peer.sendall(b"waits")
        pipe.fill(near.fileno())
    for now in (3.0, 4.0):
        pipes.on_tick(now)
    assert borrower.idle == 1, "bytes wait in it"
    pipes.give_back(pipe)
    pipes.close()


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, 0), (63, 0), (64, 1), (1024, 16), (1 << 20, MOST_PIPES), (-1, MOST_PIPES)],
)
def test_few_descriptors_are_few_pipes(count: int, expected: int) -> None:
    """-1 is no limit."""
    assert affordable_pipes(count) == expected


@pytest.mark.needs("root")
def test_past_the_user_s_share_there_are_no_pipes() -> None:
    """The kernel then gives pipes of two pages, which move less than a copy does."""
    ran = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY], cwd=_ROOT, capture_output=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout.decode()) == (0, "True False\n"), ran.stderr

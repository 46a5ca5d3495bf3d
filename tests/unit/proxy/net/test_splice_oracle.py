"""Whatever two sides do, a relay that splices tells them what one that copies does."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, final

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.net.loop import Loop, poller_of
from proxy.net.splice import Pipes
from tests.support.relays import joined
from tests.support.streams import reset

_PATTERN: Final = bytes(range(251)) * 16_384
_SIZES: Final = (1, 100, 8_191, 8_192, 65_535, 65_536, 300_000, 3_000_000)
_QUIET_TURNS: Final = 12


class Do(Enum):
    """What a side does in a step."""

    SEND = "send"
    READ = "read"
    END = "end"
    RESET = "reset"
    TICK = "tick"
    """Nothing: a second passes."""


@final
@dataclass(frozen=True)
class Step:
    """One side's next act; ``size`` is how much is sent or read at most."""

    is_client: bool
    do: Do
    size: int
    settles: bool
    """Whether the relay may do all it can before the next step."""


STEPS: Final = st.builds(
    Step,
    st.booleans(),
    st.sampled_from((Do.SEND, Do.SEND, Do.SEND, Do.READ, Do.READ, Do.END, Do.RESET, Do.TICK)),
    st.sampled_from(_SIZES),
    st.booleans(),
)
BULK: Final = Step(is_client=True, do=Do.SEND, size=300_000, settles=True)


@final
@dataclass
class Side:
    """A client or a server: what it wants to send, and what it has seen."""

    sock: socket.socket
    wanted: int = 0
    sent: int = 0
    wants_end: bool = False
    has_ended: bool = False
    is_gone: bool = False
    """Whether it has reset the connection, or heard of a reset when it sent."""
    got: bytearray = field(default_factory=bytearray)
    ending: str = ""

    def push(self) -> bool:
        """Send what is wanted and goes; whether anything did."""
        moved = False
        try:
            while not self.is_gone and self.sent < self.wanted:
                start = self.sent % 251
                count = self.sock.send(_PATTERN[start : start + self.wanted - self.sent])
                self.sent += count
                moved = True
            if self.wants_end and not self.has_ended and not self.is_gone:
                self.has_ended = moved = True
                self.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.is_gone = True
        return moved

    def pull(self, most: int) -> bool:
        """Read as much as there is, at most so much; whether anything came."""
        moved = False
        while not self.ending and self.sock.fileno() >= 0 and most > 0:
            try:
                data = self.sock.recv(min(most, 1 << 20))
            except BlockingIOError:
                break
            except OSError:
                self.ending, moved = "reset", True
                break
            if not data:
                # Who was told of the reset when sending is told of an end when reading.
                self.ending = "reset" if self.is_gone else "end"
            self.got += data
            most -= len(data)
            moved = True
        return moved


@final
@dataclass(frozen=True)
class Seen:
    """What came out."""

    is_orderly: bool
    endings: tuple[str, str]
    sizes: tuple[int, int]


async def run(steps: list[Step], pipes: Pipes | None) -> Seen:
    """Play it, let everything come to its end, and hold what has to hold of any relay."""
    poller = poller_of(asyncio.get_running_loop())
    with joined(poller, pipes) as both:
        client, server = Side(both.client), Side(both.server)
        both.relay.start()
        for step in steps:
            act(step, client if step.is_client else server, pipes)
            await settle((client, server), 0, _QUIET_TURNS if step.settles else 1)
        for side in (client, server):
            side.wants_end = True
        await settle((client, server), 1 << 30, 4 * _QUIET_TURNS)
        for receiver, sender in ((client, server), (server, client)):
            size = len(receiver.got)
            assert receiver.got == (_PATTERN * (size // len(_PATTERN) + 1))[:size]
            assert size <= sender.sent
            if receiver.ending == "end":
                assert sender.has_ended
                assert size == sender.wanted == sender.sent
        assert both.outcomes, "both sides are done, the relay is not"
        seen = Seen(
            both.outcomes == [None],
            (client.ending, server.ending),
            (len(client.got), len(server.got)),
        )
    poller.close()
    return seen


def act(step: Step, side: Side, pipes: Pipes | None) -> None:
    """Do one step."""
    if step.do is Do.SEND and not side.wants_end:
        side.wanted += step.size
    elif step.do is Do.READ:
        side.pull(step.size)
    elif step.do is Do.END:
        side.wants_end = True
    elif step.do is Do.RESET and side.sock.fileno() >= 0:
        side.is_gone = True
        reset(side.sock)
    elif step.do is Do.TICK and pipes is not None:
        pipes.on_tick(0.0)


async def settle(sides: tuple[Side, Side], most: int, turns: int) -> None:
    """Let the relay run until so many turns in a row moved nothing."""
    quiet = 0
    while quiet < turns:
        moved = [side.push() for side in sides] + [side.pull(most) for side in sides]
        quiet = 0 if any(moved) else quiet + 1
        await asyncio.sleep(0 if quiet < turns // 2 else 0.001)


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=12))
def test_splicing_shows_what_copying_shows(steps: list[Step]) -> None:
    """Sizes, ends and resets at any moment, slow readers, the pipe taken away in between."""
    # Both directions may have a pipe from early on.
    program = [BULK, *steps]
    pipes = Pipes()
    with asyncio.Runner(loop_factory=Loop) as runner:
        copied = runner.run(run(program, None))
        spliced = runner.run(run(program, pipes))
    pipes.close()
    if any(step.do is Do.RESET for step in steps):
        # How far bytes came before a reset is the kernel's affair.
        assert spliced.is_orderly == copied.is_orderly
    else:
        assert spliced == copied
        assert spliced.is_orderly

"""A relay between two bare sockets, for tests."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from proxy.net.poller import Poller
from proxy.net.relay import Relay
from proxy.net.splice import Pipes
from proxy.net.stream import Stream
from tests.support.streams import Witness, connected


@dataclass
class Joined:
    """A relay between a client and a server, who are bare sockets."""

    client: socket.socket
    server: socket.socket
    near: Stream
    far: Stream
    pipes: Pipes | None = None
    outcomes: list[Exception | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.relay = Relay(self.near, self.far, self, self.pipes)

    def relay_done(self, error: Exception | None) -> None:
        """Keep what the owner is told."""
        self.outcomes.append(error)


@contextmanager
def joined(poller: Poller, pipes: Pipes | None = None) -> Iterator[Joined]:
    """Return a relay that is still to be started; at the end it has no descriptors and no pipes."""
    with connected() as (near, client), connected() as (far, server):
        streams = (Stream(poller, near, Witness()), Stream(poller, far, Witness()))
        made = Joined(client, server, *streams, pipes)
        yield made
        made.relay.cut(ConnectionAbortedError("the test is over"))
        assert near.fileno() < 0
        assert far.fileno() < 0
        assert len(made.outcomes) == 1
        assert pipes is None or pipes.on_loan == 0


def pipe_ends() -> int:
    """Return how many ends of pipes this process has open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(entry.readlink()).startswith("pipe:")
    return count

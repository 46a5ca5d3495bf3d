"""One relayed connection and what is counted about it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Protocol, final

from proxy.net.relay import Relay
from proxy.net.splice import Pipes
from proxy.net.stream import Stream
from proxy.telemetry.transport import SideSlots


class ConnectionOwner(Protocol):
    """Who keeps the list of open connections."""

    def connection_closed(self, connection: Connection, error: Exception | None) -> None:
        """Take notice that a connection is over."""
        ...


class About(Protocol):
    """What an owner remembers of a connection."""

    def facts(self) -> Mapping[str, str]:
        """Return who, whither and why, as the log and the admin server say it."""
        ...


class OpenConnection(Protocol):
    """What the sidecar knows of every connection that is open."""

    @property
    def opened_at(self) -> float:
        """When it was opened, in monotonic seconds."""
        ...

    def count(self) -> None:
        """Bring the byte counters up to now."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Return who, whither and how much so far, as the admin server says it."""
        ...

    def drain(self) -> None:
        """Come to an end soon, where the protocol has a way to."""
        ...

    def cut(self, error: Exception) -> None:
        """End now."""
        ...


@final
class Tally:
    """What is counted of one stream: its opening, its bytes so far, its end."""

    __slots__ = ("_read", "_slots", "_written", "stream")

    def __init__(self, stream: Stream, slots: SideSlots) -> None:
        self.stream = stream
        self._slots = slots
        self._read = self._written = 0
        slots.opened.value += 1
        slots.now.value += 1

    def count(self) -> None:
        """Bring the byte counters up to now."""
        stream = self.stream
        self._slots.moved(stream.bytes_in - self._read, stream.bytes_out - self._written)
        self._read, self._written = stream.bytes_in, stream.bytes_out

    def close(self, cause: str) -> None:
        """Count the end, by its cause's name."""
        self.count()
        self._slots.now.value -= 1
        self._slots.closed(cause).value += 1

    def peer(self) -> str:
        """Return the peer's socket address; empty once it is gone."""
        return peer_of(self.stream)


@final
class Tallies:
    """What is counted of the streams that a pool dials."""

    __slots__ = ("_tallies",)

    def __init__(self) -> None:
        self._tallies: dict[Stream, Tally] = {}

    def __len__(self) -> int:
        return len(self._tallies)

    def open(self, stream: Stream, slots: SideSlots) -> None:
        """Count a stream from now on."""
        self._tallies[stream] = Tally(stream, slots)

    def close(self, stream: Stream, error: Exception | None) -> None:
        """Count the end of a stream, once."""
        tally = self._tallies.pop(stream, None)
        if tally is not None:
            tally.close(error_name(error))

    def on_tick(self) -> None:
        """Bring the byte counters up to now; count the ends of streams that had left HTTP."""
        for stream, tally in list(self._tallies.items()):
            if stream.closed:
                self.close(stream, None)
            else:
                tally.count()

    def abort(self) -> None:
        """End every stream now."""
        for stream in tuple(self._tallies):
            stream.abort()


@final
class Connection:
    """A connection through us, from the verdict to the end."""

    __slots__ = ("_far", "_near", "_owner", "about", "opened_at", "relay")

    def __init__(
        self,
        owner: ConnectionOwner,
        near: Stream,
        far: Stream,
        near_slots: SideSlots,
        far_slots: SideSlots,
        about: About,
        opened_at: float,
        pipes: Pipes,
    ) -> None:
        self._owner = owner
        self._near = Tally(near, near_slots)
        self._far = Tally(far, far_slots)
        self.about = about
        """What the owner remembers of it: the permit and its facts."""
        self.opened_at = opened_at
        """Monotonic seconds."""
        self.relay = Relay(near, far, self, pipes)

    def count(self) -> None:
        """Bring the byte counters up to now."""
        self._near.count()
        self._far.count()

    def describe(self) -> dict[str, object]:
        """Return who, whither and how much so far."""
        near = self.relay.near
        return {
            **self.about.facts(),
            "client_address": self._near.peer(),
            "server_address": self._far.peer(),
            "bytes_from_client": near.bytes_in,
            "bytes_to_client": near.bytes_out,
        }

    def drain(self) -> None:
        """Go on: bytes have no way to say that they should end."""

    def cut(self, error: Exception) -> None:
        """End both sides now."""
        self.relay.cut(error)

    def relay_done(self, error: Exception | None) -> None:
        """Count the end and tell the owner."""
        cause = error_name(error)
        self._near.close(cause)
        self._far.close(cause)
        self._owner.connection_closed(self, error)


def peer_of(stream: Stream) -> str:
    """Return a stream's peer as ``ip:port``; empty once it is gone."""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return ""
    ip = str(name[0]).removeprefix("::ffff:")
    return f"[{ip}]:{name[1]}" if ":" in ip else f"{ip}:{name[1]}"


def error_name(error: Exception | None) -> str:
    """Return an error's label: errno's name, an error code, or empty for an orderly end."""
    if error is None:
        return ""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, "EIO")
    code = getattr(error, "code", "")
    return code if isinstance(code, str) and code else "aborted"

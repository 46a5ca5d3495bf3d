"""One relayed connection and what is counted about it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Protocol, final

from proxy.net.relay import Relay
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


@final
class Connection:
    """A connection through us, from the verdict to the end."""

    __slots__ = (
        "_far_in",
        "_far_out",
        "_far_slots",
        "_near_in",
        "_near_out",
        "_near_slots",
        "_owner",
        "about",
        "opened_at",
        "relay",
    )

    def __init__(
        self,
        owner: ConnectionOwner,
        near: Stream,
        far: Stream,
        near_slots: SideSlots,
        far_slots: SideSlots,
        about: About,
        opened_at: float,
    ) -> None:
        self._owner = owner
        self._near_slots = near_slots
        self._far_slots = far_slots
        # What the slots have of each side's bytes so far.
        self._near_in = self._near_out = self._far_in = self._far_out = 0
        self.about = about
        """What the owner remembers of it: the permit and its facts."""
        self.opened_at = opened_at
        """Monotonic seconds."""
        for slots in (near_slots, far_slots):
            slots.opened.value += 1
            slots.now.value += 1
        self.relay = Relay(near, far, self)

    def count(self) -> None:
        """Bring the byte counters up to now."""
        near, far = self.relay.near, self.relay.far
        self._near_slots.moved(near.bytes_in - self._near_in, near.bytes_out - self._near_out)
        self._far_slots.moved(far.bytes_in - self._far_in, far.bytes_out - self._far_out)
        self._near_in, self._near_out = near.bytes_in, near.bytes_out
        self._far_in, self._far_out = far.bytes_in, far.bytes_out

    def addresses(self) -> tuple[str, str]:
        """Return the socket addresses of both peers, near and far; empty once they are gone."""
        return _peer(self.relay.near), _peer(self.relay.far)

    def relay_done(self, error: Exception | None) -> None:
        """Count the end and tell the owner."""
        self.count()
        cause = error_name(error)
        for slots in (self._near_slots, self._far_slots):
            slots.now.value -= 1
            slots.closed(cause).value += 1
        self._owner.connection_closed(self, error)


def _peer(stream: Stream) -> str:
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

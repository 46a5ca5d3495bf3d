"""One relayed connection and what is counted about it."""

from __future__ import annotations

import errno
from typing import Protocol, final

from discovery.model import Labels
from proxy.net.relay import Relay
from proxy.net.stream import Stream
from proxy.telemetry.metric import Metrics


class ConnectionOwner(Protocol):
    """Who keeps the list of open connections."""

    def connection_closed(self, connection: Connection, error: Exception | None) -> None:
        """Take notice that a connection is over."""
        ...


@final
class SideMeter:
    """The TCP families of one side of a connection, their slots looked up once."""

    __slots__ = ("_counted_in", "_counted_out", "_labels", "_metrics", "_now", "_read", "_write")

    def __init__(self, metrics: Metrics, labels: Labels) -> None:
        self._metrics = metrics
        self._labels = labels
        self._now = metrics.tcp_open_now.child(labels)
        self._read = metrics.tcp_read.child(labels)
        self._write = metrics.tcp_write.child(labels)
        self._counted_in = 0
        self._counted_out = 0
        metrics.tcp_open.child(labels).value += 1
        self._now.value += 1

    def count(self, stream: Stream) -> None:
        """Add what the stream moved since it was counted last."""
        self._read.value += stream.bytes_in - self._counted_in
        self._write.value += stream.bytes_out - self._counted_out
        self._counted_in = stream.bytes_in
        self._counted_out = stream.bytes_out

    def close(self, stream: Stream, cause: str) -> None:
        """Count the end, with the name of the system's error or the empty string."""
        self.count(stream)
        self._now.value -= 1
        self._metrics.tcp_close.child((*self._labels, ("errno", cause))).value += 1


@final
class Connection:
    """A connection through us, from the verdict to the end."""

    __slots__ = ("_far_meter", "_near_meter", "_owner", "about", "opened_at", "relay")

    def __init__(
        self,
        owner: ConnectionOwner,
        near: Stream,
        far: Stream,
        *,
        metrics: Metrics,
        near_labels: Labels,
        far_labels: Labels,
        about: object,
        opened_at: float,
    ) -> None:
        self._owner = owner
        self.about = about
        """What the owner remembers of it: the permit and its facts."""
        self.opened_at = opened_at
        """Monotonic seconds."""
        self._near_meter = SideMeter(metrics, near_labels)
        self._far_meter = SideMeter(metrics, far_labels)
        self.relay = Relay(near, far, self)

    def count(self) -> None:
        """Bring the byte counters up to now."""
        self._near_meter.count(self.relay.near)
        self._far_meter.count(self.relay.far)

    def relay_done(self, error: Exception | None) -> None:
        """Count the end and tell the owner."""
        cause = error_name(error)
        self._near_meter.close(self.relay.near, cause)
        self._far_meter.close(self.relay.far, cause)
        self._owner.connection_closed(self, error)


def error_name(error: Exception | None) -> str:
    """Return an error's label: errno's name, an error code, or empty for an orderly end."""
    if error is None:
        return ""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, "EIO")
    code = getattr(error, "code", "")
    return code if isinstance(code, str) and code else "aborted"

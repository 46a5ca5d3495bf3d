"""An HTTP/2 connection on a stream: what both ends do with codec, socket and clock.

Frames gather in the codec and go out together when all that was ready has been told; while the
kernel is full they stay there, and content behind them in its streams.
"""

from __future__ import annotations

from typing import Final, Protocol, final

from core.errors import UnreachableError
from proxy.net.poller import Corked, Poller
from proxy.net.stream import Stream
from proxy.wire.http2_streams import Http2Streams

PING_S: Final = 10.0
"""How long a peer may be silent before it is asked for a sign of life (Linkerd's chart)."""
OWING_S: Final = 1.0
"""The same for a server that owes a response: alive, it answers a ping however slow it is."""
PONG_S: Final = 3.0
"""How long the sign may take (the same)."""
_PING: Final = b"pillion?"


class LinkOwner(Protocol):
    """Who has more to send on a connection."""

    __slots__ = ()

    def refill(self) -> None:
        """Go on: what could be sent is."""
        ...


@final
class Http2Link(Corked):
    """The sending half and the heartbeat of one connection."""

    __slots__ = ("_codec", "_is_corked", "_owner", "_pinged", "_poller", "heard", "stream")

    def __init__(
        self, poller: Poller, stream: Stream, codec: Http2Streams, owner: LinkOwner
    ) -> None:
        self.stream: Final = stream
        self.heard = poller.loop.time()
        """When the peer last sent anything."""
        self._poller = poller
        self._owner: LinkOwner | None = owner
        self._codec = codec
        self._is_corked = False
        self._pinged = -1.0

    def cork(self) -> None:
        """Send what the codec has, soon."""
        if not self._is_corked:
            self._is_corked = True
            self._poller.cork(self)

    def uncork(self) -> None:
        """Send what the codec has, as long as the kernel takes it, and ask for more."""
        self._is_corked = False
        stream = self.stream
        while not stream.congested:
            data = self._codec.take()
            if not data:
                break
            stream.write(data)
        for drained in self._codec.drained():
            if drained.listener is not None:
                drained.listener.on_room()
        if self._owner is not None:
            self._owner.refill()

    def let_go(self) -> None:
        """Forget the owner, which knows the link: the connection is over."""
        self._owner = None

    def next_beat(self, ping_s: float, pong_s: float) -> float:
        """Return when there may be something to do for ``beat``."""
        return self.heard + ping_s if self.heard >= self._pinged else self._pinged + pong_s

    def beat(self, now: float, ping_s: float, pong_s: float) -> UnreachableError | None:
        """Ask a silent peer for a sign of life; return why it is given up."""
        if self.heard >= self._pinged:
            if now - self.heard >= ping_s:
                self._pinged = now
                self._codec.ping(_PING)
                self.cork()
            return None
        if now - self._pinged >= pong_s:
            return UnreachableError(
                f"no sign of life within {pong_s:g} s of a ping", code="http2-silent"
            )
        return None

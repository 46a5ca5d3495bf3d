"""Who is told what a peer's frames of HTTP/2 mean, in the order of the wire.

A call comes when the codec has taken its frame over: the listener may send, acknowledge and reset
at once, on any stream. What a stream has to say goes to its own listener while it has one; a
stream that is over, and one whose listener let it go, is silent.
"""

from __future__ import annotations

from typing import Protocol

from proxy.wire.http2_stream import Stream
from proxy.wire.http_message import RequestHead


class Http2Listener(Protocol):
    """Who is told what concerns a connection, and of the streams that a client opens."""

    __slots__ = ()

    def on_request(self, stream: Stream, head: RequestHead, *, ended: bool) -> None:
        """Take a stream that a client opened, and put its listener into it.

        ``ended``: nothing follows, neither content nor trailers.
        """
        ...

    def on_refused(self, stream_id: int, reason: str) -> None:
        """Take notice of a fault on a stream that nobody listens to.

        ``reason`` is the row of ``http2_reason``; the peer has been told.
        """
        ...

    def on_settings(self) -> None:
        """Take notice that the peer's settings hold: streams may be allowed that were not."""
        ...

    def on_pong(self, payload: bytes) -> None:
        """Take notice that the peer answered our ping."""
        ...

    def on_goaway(self, last_stream_id: int, error: int, debug: bytes) -> None:
        """Take notice that the peer takes no new streams; those it gave up were told before."""
        ...

    def on_broken(self, error: int, reason: str) -> None:
        """Take notice that the peer broke a rule of the connection: GOAWAY is queued, no more."""
        ...

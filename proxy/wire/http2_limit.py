"""What an HTTP/2 connection announces, and how much it puts up with.

The windows are Linkerd's; the bounds on floods are nghttp2's where it has one (1,000 resets or
oddities at once, 33 a second, 1,000 answers waiting to be sent).
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from proxy.wire.http2_frame import DEFAULT_WINDOW


@final
@dataclass(frozen=True, slots=True)
class Http2Limits:
    """The bounds of one connection; what is past one ends a stream or the connection."""

    stream_window: int = DEFAULT_WINDOW
    """Octets of content a stream may have on the way to us, not yet acknowledged."""

    connection_window: int = 1_048_576
    """The same for all streams of the connection."""

    lent: int = 16_777_216
    """Octets of streams that are held back which the connection's window is spared: readers that
    are slow do not hold up the others, as long as all of them together hold no more than this."""

    streams: int = 4_096
    """Streams at once, announced to clients: a table must end somewhere.

    Linkerd announces no bound; this one is far above what its proxies open.
    """

    header_list: int = 16_384
    """The size of a field section (RFC 9113 §6.5.2), announced; past it a request gets 431."""

    header_list_hard: int = 65_536
    """Past this size a section is not even decoded to its end, and the connection ends."""

    header_block: int = 65_536
    """Octets of one header block in all its frames."""

    header_frames: int = 64
    """Frames of one header block."""

    resets: int = 1_000
    """Streams that a client may give up rapidly, or have given up by its faults, at once."""

    resets_per_second: int = 33

    rapid: float = 0.1
    """Seconds within which an unanswered stream is given up rapidly. Later it has held its place
    among ``streams`` for a while, as one that is served does, and a deadline may have passed."""

    noise: int = 1_000
    """Frames that carry nothing, at once; each that carries something buys another."""

    noise_per_second: int = 33

    replies: int = 1_000
    """Answers to pings, settings and faults that wait to be sent."""

    output: int = 262_144
    """Octets of frames ready to be sent; content beyond waits in its stream."""

    stall: float = 300.0
    """Seconds that a stream may hold content for a peer whose window stays shut (Envoy's 5 min)."""


HTTP2_LIMITS: Final = Http2Limits()


@final
class Allowance:
    """A bucket of tokens: ``most`` at once, ``rate`` a second back."""

    def __init__(self, most: int, rate: int) -> None:
        self._most: Final = float(most)
        self._rate: Final = float(rate)
        self._left = float(most)
        self._then = -1.0

    def spend(self, now: float) -> bool:
        """Take one; False: there is none left. ``now`` is in seconds and never goes back."""
        if self._then >= 0 and now > self._then:
            self._left = min(self._most, self._left + (now - self._then) * self._rate)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def refund(self) -> None:
        """Give one back."""
        if self._left < self._most:
            self._left = min(self._most, self._left + 1)

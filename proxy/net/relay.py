"""Two streams joined: bytes go both ways unchanged, with back-pressure and half-close.

Reading one side stops while the other side's kernel is full, so a relay holds at most what one
read brings, in each direction. An end is passed on after all bytes before it; an error on one
side resets the other, so that a torn stream never looks whole.
"""

from __future__ import annotations

from typing import Protocol, final

from proxy.net.stream import Stream


class RelayOwner(Protocol):
    """Who is told when a relay is over."""

    def relay_done(self, error: Exception | None) -> None:
        """Take notice: both streams are closed; ``error`` is None when both ended in order."""
        ...


@final
class Half:
    """One direction: what ``source`` reads, ``target`` writes."""

    __slots__ = ("relay", "source", "target")

    def __init__(self, relay: Relay, source: Stream, target: Stream) -> None:
        self.relay = relay
        self.source = source
        self.target = target

    def on_data(self, data: memoryview) -> None:
        """Pass bytes on; hold the source back while the target's kernel is full."""
        target = self.target
        target.write(data)
        if target.congested:
            self.source.pause()

    def on_end(self) -> None:
        """Pass the end on."""
        self.target.end()
        self.relay.settle()

    def on_drained(self) -> None:
        """The source of this half has room again: the other half may read on."""
        self.target.resume()
        self.relay.settle()

    def on_closed(self, error: Exception | None) -> None:
        """Take the other side along."""
        self.relay.lost(error)


@final
class Relay:
    """A connection through us: ``near`` was accepted, ``far`` was dialled."""

    __slots__ = ("_done", "_owner", "far", "near")

    def __init__(self, near: Stream, far: Stream, owner: RelayOwner) -> None:
        self.near = near
        self.far = far
        self._owner: RelayOwner | None = owner
        self._done = False

    def start(
        self, early_near: bytes | bytearray = b"", early_far: bytes | bytearray = b""
    ) -> None:
        """Join the streams; ``early`` bytes were read before and go first."""
        outward = Half(self, self.near, self.far)
        inward = Half(self, self.far, self.near)
        self.near.set_sink(outward)
        self.far.set_sink(inward)
        for stream, target, half, early in (
            (self.near, self.far, outward, early_near),
            (self.far, self.near, inward, early_far),
        ):
            if early:
                target.write(early)
            if stream.closed:
                self.lost(None)
            elif stream.ended_in:
                half.on_end()
            elif target.congested:
                stream.pause()
            else:
                stream.resume()

    def settle(self) -> None:
        """Close both once each has ended in both directions."""
        near, far = self.near, self.far
        if near.ended_in and near.ended_out and far.ended_in and far.ended_out:
            self._finish(None)

    def lost(self, error: Exception | None) -> None:
        """One side is gone before its time: reset the other."""
        self._finish(error if error is not None else ConnectionAbortedError("closed"))

    def cut(self, error: Exception) -> None:
        """End it now, both ways, for the given reason."""
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self._done:
            return
        self._done = True
        for stream in (self.near, self.far):
            if error is None:
                stream.close()
            else:
                stream.abort(error)
        # Owner and relay know each other; let go, both are freed without the collector.
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.relay_done(error)

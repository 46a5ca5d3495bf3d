"""Two streams joined: bytes go both ways unchanged, with back-pressure and half-close.

Reading one side stops while the other side's kernel is full, so a relay holds at most what one
read brings, in each direction. Between two plaintext streams a direction that moves much is lent
a pipe, and the kernel moves the bytes; a read brings what the pipe holds, at most. A direction
that falls silent, or speaks in small messages, is copied again.

An end is passed on after all bytes before it; an error on one side resets the other, so that a
torn stream never looks whole.
"""

from __future__ import annotations

from typing import Protocol, final

from proxy.net.splice import PATIENCE, SMALL_BYTES, SPLICE_AFTER_BYTES, Pipe, Pipes
from proxy.net.stream import Sink, Stream
from proxy.wire.buffer import Buffer


class RelayOwner(Protocol):
    """Who is told when a relay is over."""

    def relay_done(self, error: Exception | None) -> None:
        """Take notice: both streams are closed; ``error`` is None when both ended in order."""
        ...


@final
class Half(Sink):
    """One direction: what ``source`` reads, ``target`` writes."""

    __slots__ = ("_moved", "_pipe", "_pipes", "_small", "relay", "source", "target")

    def __init__(self, relay: Relay, source: Stream, target: Stream, pipes: Pipes | None) -> None:
        """``pipes``: where to borrow one; None: everything is copied."""
        self.relay = relay
        self.source = source
        self.target = target
        self._pipes = pipes
        self._pipe: Pipe | None = None
        self._moved = 0
        """Bytes copied since the start, or since the pipe was given back."""
        self._small = 0
        """Small reads in a row."""

    def on_data(self, data: Buffer) -> None:
        """Pass bytes on; hold the source back while the target's kernel is full."""
        target = self.target
        target.write(data)
        if target.congested:
            self.source.pause()
        if self._pipes is not None:
            size = len(data)
            self._moved += size
            if size >= SMALL_BYTES and self._moved >= SPLICE_AFTER_BYTES:
                self._borrow(self._pipes)

    def on_filled(self, size: int) -> None:
        """Pass on what lies in the pipe; hold the source back while the target's kernel is full."""
        pipe = self._pipe
        if pipe is None:
            return
        target = self.target
        target.write_from(pipe)
        if target.congested:
            self.source.pause()
        elif pipe.held:
            # The target takes nothing any more; what comes is read and dropped, as when copied.
            self.give_back()
        self._small = self._small + 1 if size < SMALL_BYTES else 0
        if self._small >= PATIENCE and not pipe.held:
            self.give_back()

    def on_unfilled(self) -> None:
        """Copy what the kernel does not move; if there is nothing, that shows soon enough."""
        self.give_back()

    def on_idle(self) -> None:
        """Leave the pipe to others."""
        self.give_back()

    def _borrow(self, pipes: Pipes) -> None:
        if self.source.closed:
            return
        pipe = pipes.lend(self)
        if pipe is not None:
            self._pipe = pipe
            self.source.read_into(pipe)

    def give_back(self) -> None:
        """Copy from now on; what the pipe still holds is lost."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None and self._pipes is not None:
            self.source.read_into(None)
            self._pipes.give_back(pipe)
            self._moved = 0
            self._small = 0

    def on_end(self) -> None:
        """Pass the end on."""
        self.give_back()
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

    __slots__ = ("_done", "_halves", "_owner", "_pipes", "far", "near")

    def __init__(
        self, near: Stream, far: Stream, owner: RelayOwner, pipes: Pipes | None = None
    ) -> None:
        """``pipes``: where plaintext that moves much borrows one; None: everything is copied."""
        self.near = near
        self.far = far
        self._pipes = pipes
        self._halves: tuple[Half, ...] = ()
        self._owner: RelayOwner | None = owner
        self._done = False

    def start(
        self, early_near: bytes | bytearray = b"", early_far: bytes | bytearray = b""
    ) -> None:
        """Join the streams; ``early`` bytes were read before and go first."""
        is_plain = self.near.engine is None and self.far.engine is None
        pipes = self._pipes if is_plain else None
        outward = Half(self, self.near, self.far, pipes)
        inward = Half(self, self.far, self.near, pipes)
        self._halves = (outward, inward)
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
        halves, self._halves = self._halves, ()
        for half in halves:
            half.give_back()
        # Owner and relay know each other; let go, both are freed without the collector.
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.relay_done(error)

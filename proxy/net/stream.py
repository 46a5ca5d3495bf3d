"""One end of a user connection: the one owner of its descriptor, reader, writer and close.

A stream reads, decrypts if it has a TLS engine, and hands what it has to its sink at once; many
bytes are a view that is borrowed, so a sink that keeps bytes makes them its own (``owned``).
What the kernel does not take waits in the stream's backlog; whoever writes looks at
``congested`` afterwards and stops reading the other side, which bounds the backlog by what one
read can bring.

Rules that this file keeps, each run into before: a descriptor is no longer watched before it is
closed; a callback never raises (it would be called for ever); after the peer's end nothing is
read (the loop would spin); a peer's reset is noticed while reading is held back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import Final, Protocol, final

from core.errors import (
    HandshakeError,
    MeshError,
    OverloadError,
    TruncatedError,
    UnreachableError,
)
from proxy.net.native import receive, send
from proxy.net.poller import ENDED, GONE, NEWS, READ, WRITE, Pollable, Poller
from proxy.net.socket_call import READ_BYTES
from proxy.net.splice import Pipe
from proxy.wire.buffer import Buffer
from proxy.wire.tls import TlsEngine

SHAKE_BYTES: Final = 512
"""What the engine is fed at a time during the handshake, so that an idle connection's memory BIO
keeps room for no more: 0.7 KiB less a connection."""
MAX_BACKLOG_BYTES: Final = 4 * READ_BYTES
"""Past it nothing is sent that the peer itself asks of TLS; a relay's own bytes come to half."""

_UNWATCHED: Final = -1
_LINGER_RESET: Final = struct.pack("ii", 1, 0)


class Sink(Protocol):
    """Who gets what a stream reads."""

    __slots__ = ()

    def on_data(self, data: Buffer) -> None:
        """Take bytes; a view is valid only during the call."""
        ...

    def on_end(self) -> None:
        """Take notice that the peer sends no more; we may go on writing."""
        ...

    def on_drained(self) -> None:
        """Take notice that the backlog is empty (and a pending end has been sent)."""
        ...

    def on_closed(self, error: Exception | None) -> None:
        """Take notice that the stream is gone; ``error`` is None when we closed it."""
        ...


@final
class ClosedSink(Sink):
    """The sink of a stream that is gone."""

    __slots__ = ()

    def on_data(self, data: Buffer) -> None:
        """Nothing comes any more."""

    def on_end(self) -> None:
        """Nothing comes any more."""

    def on_drained(self) -> None:
        """Nothing comes any more."""

    def on_closed(self, error: Exception | None) -> None:
        """Nothing comes any more."""


CLOSED: Final = ClosedSink()


@final
class Stream(Pollable):
    """A connected, non-blocking TCP socket, with TLS once ``start_tls`` was called."""

    __slots__ = (
        "_backlog",
        "_broken",
        "_end_pending",
        "_engine",
        "_fd",
        "_handshake",
        "_inlet",
        "_mask",
        "_outlet",
        "_poller",
        "_reading",
        "_sink",
        "_sock",
        "bytes_in",
        "bytes_out",
        "closed",
        "ended_in",
        "ended_out",
    )

    def __init__(self, poller: Poller, sock: socket.socket, sink: Sink) -> None:
        self._poller = poller
        self._mask = _UNWATCHED
        self._sock = sock
        self._fd = sock.fileno()
        self._sink = sink
        self._engine: TlsEngine | None = None
        self._handshake: asyncio.Future[None] | None = None
        self._backlog: bytearray | None = None
        self._inlet: Pipe | None = None
        """What is read into, instead of being told to the sink."""
        self._outlet: Pipe | None = None
        """What holds bytes to be sent after the backlog."""
        self._broken: OSError | None = None
        """Why nothing more can be sent, while what came before that is still being read."""
        self._reading = False
        self._end_pending = False
        self.closed = False
        self.ended_in = False
        """The peer has sent its end."""
        self.ended_out = False
        """Our end has been sent, after all that was written."""
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def socket(self) -> socket.socket:
        """The socket itself, for options and addresses; never to be read, written or closed."""
        return self._sock

    @property
    def engine(self) -> TlsEngine | None:
        """The TLS engine, None while the stream is plaintext."""
        return self._engine

    @property
    def congested(self) -> bool:
        """Whether written bytes are still waiting for the kernel."""
        return self._backlog is not None or self._outlet is not None

    @property
    def backlog_bytes(self) -> int:
        """How many bytes wait for the kernel, in our memory."""
        return 0 if self._backlog is None else len(self._backlog)

    @property
    def has_news(self) -> bool:
        """Whether the kernel holds something that was not read yet, if only the peer's end."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        return True

    def set_sink(self, sink: Sink) -> None:
        """Hand what is read from now on to ``sink``."""
        self._sink = sink

    def read_into(self, pipe: Pipe | None) -> None:
        """Read into ``pipe`` from now on and tell its user; None: tell the sink again.

        Plaintext only.
        """
        self._inlet = pipe
        if self._mask != _UNWATCHED:
            self._watch()

    # Reading

    def resume(self) -> None:
        """Read whenever there is something; no-op at the end or when already reading."""
        if self._reading or self.ended_in or self.closed:
            return
        self._reading = True
        self._watch()

    def pause(self) -> None:
        """Stop reading; the kernel's buffer fills and TCP slows the peer."""
        if self._reading:
            self._reading = False
            self._watch()

    def _watch(self) -> None:
        """Tell the poller what we wait for now."""
        wanted = (READ if self._reading else 0) | (WRITE if self.congested else 0)
        if wanted == READ and self._inlet is None:
            wanted = NEWS
        if self._mask == _UNWATCHED:
            self._poller.watch(self._fd, self, wanted)
        elif self._mask != wanted:
            self._poller.change(self._fd, wanted)
        self._mask = wanted

    def _unwatch(self) -> None:
        if self._mask != _UNWATCHED:
            self._mask = _UNWATCHED
            self._poller.forget(self._fd)

    def on_ready(self, events: int) -> None:
        """Write what waits, read what came, or learn that the peer is gone."""
        if events & WRITE and self.congested:
            self._writable()
        if self.closed:
            return
        if self._reading:
            if events & (READ | GONE | ENDED):
                self._readable(events)
        elif events & GONE:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self.abort(OSError(code, os.strerror(code)))
        elif events & ENDED:
            # It would be told for ever; what the peer sent before waits until it is read.
            self._unwatch()

    def _readable(self, events: int) -> None:
        try:
            inlet = self._inlet
            if inlet is not None:
                self._fill(inlet)
                return
            wire = receive(self._fd)
            if wire is None:
                return
            if (events != READ or len(wire) == READ_BYTES) and self._mask == NEWS:
                # There may be more, which is no news: the kernel has to look again.
                self._poller.change(self._fd, NEWS)
            engine = self._engine
            if engine is None:
                if wire:
                    self.bytes_in += len(wire)
                    self._sink.on_data(wire)
                else:
                    self._peer_ended()
                return
            if wire:
                self._decrypt(engine, wire)
            elif self._broken is not None:
                self.abort(self._broken)
            elif engine.established:
                # Without close_notify before it, anyone may have forged it (RFC 8446, 6.1).
                self.abort(TruncatedError("the TLS stream ended without close_notify"))
            else:
                self._end_shake(engine)
        except Exception as error:  # noqa: BLE001  # the loop would call a raising callback for ever
            self.abort(error)

    def _fill(self, inlet: Pipe) -> None:
        size = inlet.fill(self._fd)
        if size == 0:
            self._peer_ended()
        elif inlet.user is None:
            return
        elif size < 0:
            inlet.user.on_unfilled()
        else:
            self.bytes_in += size
            inlet.user.on_filled(size)

    def _decrypt(self, engine: TlsEngine, wire: Buffer) -> None:
        while not engine.established and len(wire) > SHAKE_BYTES:
            self._advance(engine, wire[:SHAKE_BYTES])
            if self.closed:
                return
            wire = wire[SHAKE_BYTES:]
        self._advance(engine, wire)

    def _advance(self, engine: TlsEngine, wire: Buffer) -> None:
        """Go on with the handshake, or decrypt and deliver all there is."""
        is_new = not engine.established
        if is_new:
            engine.feed(wire)
            if not self._shake(engine):
                return
            wire = b""
        data = engine.open(wire)
        if engine.keeper is not None:
            engine.offer_session()
        if engine.has_output and not (is_new and engine.is_client):
            # A key update or an alert; not counted as the application's bytes.
            self._send(engine.take())
            if self.backlog_bytes > MAX_BACKLOG_BYTES:
                raise OverloadError("the peer asks for TLS messages and does not read them")
        if data:
            self.bytes_in += len(data)
            self._sink.on_data(data)
        if engine.ended and not self.closed:
            self._peer_ended()

    def _peer_ended(self) -> None:
        if self._broken is not None:
            self.abort(self._broken)
            return
        self.pause()
        self.ended_in = True
        self._sink.on_end()

    # TLS

    async def start_tls(self, engine: TlsEngine, early: Buffer = b"") -> None:
        """Speak TLS from here on; ``early`` are wire bytes that were read before.

        Returns when the handshake is done; the peer is then still to be authenticated.
        Raises HandshakeError, or UnreachableError when the connection ends first. The caller
        bounds the wait.
        """
        self._engine = engine
        # What came before was for TLS itself, as early is, and is nobody's payload.
        self.bytes_in = 0
        self._handshake = self._poller.loop.create_future()
        try:
            self._advance(engine, early)
            if self.ended_in and not engine.established:
                self._end_shake(engine)
        except MeshError as error:
            self.abort(error)
        if not self.closed:
            self.resume()
        try:
            await self._handshake
        finally:
            self._handshake = None

    def _end_shake(self, engine: TlsEngine) -> None:
        self.pause()
        engine.feed_end()
        self._shake(engine)

    def _shake(self, engine: TlsEngine) -> bool:
        waiter = self._handshake
        try:
            done = engine.handshake()
        except HandshakeError as error:
            # The alert tells the peer why; it goes out before the reset of an aborted socket.
            self._send(engine.take())
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
            self.close()
            return False
        # A client's last flight waits for the verdict on the server, and goes out with what is
        # written first: one segment, and no certificate for a stranger.
        if not (done and engine.is_client):
            self._send(engine.take())
        if done and waiter is not None and not waiter.done():
            waiter.set_result(None)
        return done and not self.closed

    # Writing

    def write(self, data: Buffer) -> None:
        """Send ``data`` after all that was written before; look at ``congested`` afterwards."""
        if self.closed or self._end_pending or self.ended_out:
            return
        self.bytes_out += len(data)
        engine = self._engine
        if engine is None:
            self._send(data)
        else:
            self._send(engine.seal(data))

    def write_from(self, pipe: Pipe) -> None:
        """Send what ``pipe`` holds after all that was written before; plaintext only.

        Look at ``congested`` afterwards: while it holds, the pipe is not to be touched, and
        nothing else to be written.
        """
        if self.closed or self._end_pending or self.ended_out:
            return
        self.bytes_out += pipe.held
        if self._backlog is None:
            try:
                pipe.drain(self._fd)
            except OSError as error:
                self._break(error)
                return
        if pipe.held:
            self._outlet = pipe
            self._watch()

    def flush(self) -> None:
        """Send what the TLS engine has ready, when nothing is to be written just yet."""
        if self._engine is not None and self._engine.has_output:
            self._send(self._engine.take())

    def end(self) -> None:
        """Send our end after all that was written; the peer may go on sending."""
        if self.closed or self._end_pending or self.ended_out:
            return
        if self._engine is not None:
            self._engine.close()
            self._send(self._engine.take())
        if self.congested:
            self._end_pending = True
        else:
            self._shut()

    def _send(self, data: Buffer) -> None:
        if self.closed or not data:
            return
        if self._backlog is not None:
            self._backlog += data
            return
        try:
            sent = send(self._fd, data)
        except OSError as error:
            self._break(error)
            return
        if sent < len(data):
            self._backlog = bytearray(memoryview(data)[sent:])
            self._watch()

    def _writable(self) -> None:
        try:
            backlog = self._backlog
            if backlog is not None:
                sent = send(self._fd, backlog)
                if sent < len(backlog):
                    del backlog[:sent]
                    return
                self._backlog = None
            outlet = self._outlet
            if outlet is not None:
                outlet.drain(self._fd)
                if outlet.held:
                    return
                self._outlet = None
            self._watch()
            if self._end_pending:
                self._end_pending = False
                self._shut()
            if not self.closed:
                self._sink.on_drained()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(error)
        except Exception as error:  # noqa: BLE001  # the loop would call a raising callback for ever
            self.abort(error)

    def _shut(self) -> None:
        self.ended_out = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> None:
        """Send nothing more; first read what the peer said before it was gone.

        A server that refuses an upload answers and closes, and its reset overtakes our bytes.
        """
        if self._broken is not None or not self._reading:
            self.abort(error)
            return
        self._broken = error
        self.ended_out = True
        self._end_pending = False
        self._backlog = None
        self._outlet = None
        self._watch()

    # The end

    def close(self) -> None:
        """Close in order: what the kernel has taken is delivered, a backlog is not."""
        self._release(None)

    def abort(self, error: Exception | None = None) -> None:
        """Close with a reset, so that the peer never takes a torn stream for a whole one."""
        if self.closed:
            return
        # The peer's reset may have come first; closing is all that is left then.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._release(error)

    def _release(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        self._reading = False
        self._backlog = None
        self._inlet = None
        self._outlet = None
        self._unwatch()
        # The number will soon be another connection's.
        self._fd = -1
        self._sock.close()
        waiter = self._handshake
        if waiter is not None and not waiter.done():
            waiter.set_exception(
                error
                if isinstance(error, MeshError)
                else UnreachableError(f"the connection ended during the handshake: {error}")
            )
        # Sink and stream know each other; let go, they are freed without waiting for the collector.
        sink, self._sink = self._sink, CLOSED
        sink.on_closed(error)

"""A server that speaks HTTP/1: one request on its way at a time.

Between exchanges the connection waits in its pool, where a server may close it at any moment;
a request that meets that end has been read by nobody, as far as anyone can know.
"""

from __future__ import annotations

from typing import Final, Protocol, final

from core.errors import MeshError, UnreachableError
from proxy.http.exchange import Exchange, Far
from proxy.http.outgoing import Outgoing
from proxy.net.poller import Corked, Poller
from proxy.net.stream import CLOSED, Sink, Stream
from proxy.wire.buffer import Buffer, owned
from proxy.wire.http1_reader import ResponseReader
from proxy.wire.http_field import Fields
from proxy.wire.native import write_chunk, write_last_chunk, write_request_head
from proxy.wire.orig_proto import Http1Request

FLUSH_OCTETS: Final = 65_536
"""Gathered octets that are sent before anything else is gathered."""


class Http1FarOwner(Protocol):
    """Who keeps the connection between exchanges."""

    __slots__ = ()

    def far_idle(self, far: Http1Far) -> None:
        """Take back a connection that can carry another exchange."""
        ...

    def far_closed(self, far: Http1Far, error: Exception | None) -> None:
        """Take notice that a connection is over."""
        ...

    def far_switched(self, far: Http1Far) -> None:
        """Take notice that a connection left HTTP: its stream belongs to somebody else."""
        ...


@final
class Http1Far(Far, Sink, Corked):
    """One connection to a server."""

    __slots__ = (
        "_exchange",
        "_has_heard",
        "_is_chunked",
        "_is_corked",
        "_is_done",
        "_may_live",
        "_out",
        "_owner",
        "_poller",
        "_reader",
        "_request_ended",
        "carried",
        "idle_since",
        "is_busy",
        "stream",
    )

    def __init__(self, poller: Poller, stream: Stream, owner: Http1FarOwner) -> None:
        self.stream: Final = stream
        self.carried = 0
        """Exchanges so far."""
        self.idle_since = poller.loop.time()
        """When its last exchange was done with it."""
        self.is_busy = False
        """Its owner counts it among those that carry an exchange."""
        self._poller = poller
        self._owner: Http1FarOwner | None = owner
        self._reader = ResponseReader()
        self._exchange: Exchange | None = None
        self._has_heard = False
        """Something of the response has come."""
        self._is_chunked = False
        self._is_corked = False
        self._is_done = False
        """The response has ended."""
        self._may_live = True
        self._request_ended = True
        self._out: Final = Outgoing()
        stream.set_sink(self)
        stream.resume()

    def open(self, exchange: Exchange, request: Http1Request, *, may_live: bool) -> None:
        """Send a request's head, and what has come of its content.

        ``may_live``: the connection may carry another exchange afterwards.
        """
        head = exchange.head
        self._exchange = exchange
        self._is_chunked = request.is_chunked
        self._is_done = False
        self._may_live = may_live and not request.is_last and not head.upgrade
        self._request_ended = exchange.is_whole
        self._has_heard = False
        self.carried += 1
        try:
            self._reader.expect(head.method, upgrade=bool(head.upgrade))
        except MeshError as error:
            self._lost(error)
            return
        self._add(
            write_request_head(request.method, request.target, request.fields, request.version)
        )
        exchange.join(self)

    # The request

    def send_body(self, data: bytes) -> bool:
        """Send content."""
        if self._is_done:
            return True
        self._add(write_chunk(data) if self._is_chunked else data)
        if self._out.size >= FLUSH_OCTETS:
            self._send()
        return not self.stream.congested

    def send_end(self, trailers: Fields) -> None:
        """End the request."""
        if self._is_chunked and not self._is_done:
            self._add(write_last_chunk(trailers))
        self._request_ended = True

    def cancel(self) -> None:
        """Close: HTTP/1 cannot give up a request in any other way."""
        self._exchange = None
        self.stream.abort()

    def hold(self) -> None:
        """Hold back the response's content."""
        self.stream.pause()

    def release(self) -> None:
        """Let the response's content come again."""
        self.stream.resume()

    def _add(self, data: bytes) -> None:
        self._out.add(data)
        if not self._is_corked:
            self._is_corked = True
            self._poller.cork(self)

    def uncork(self) -> None:
        """Send what was gathered."""
        self._is_corked = False
        self._send()

    def _send(self) -> None:
        if self._out.size:
            self.stream.write(self._out.take())

    # The response

    def on_data(self, data: Buffer) -> None:
        """Read the response."""
        self._has_heard = True
        self._reader.feed(owned(data))
        self._advance()

    def on_end(self) -> None:
        """Nothing more comes: the response's end, or what broke it off."""
        self._may_live = False
        self._reader.feed_eof()
        if self._exchange is None:
            self.close()
        else:
            self._advance()

    def on_drained(self) -> None:
        """Let the request go on."""
        if self._exchange is not None:
            self._exchange.far_has_room()

    def on_closed(self, error: Exception | None) -> None:
        """Take the exchange along."""
        exchange, self._exchange = self._exchange, None
        self._out.clear()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.far_closed(self, error)
        if exchange is not None:
            reason = f"the server's connection was lost: {error or 'closed'}"
            exchange.on_far_failure(
                UnreachableError(reason, code="far-closed"),
                reused=self._is_stale,
                began=self._has_heard,
            )

    def _advance(self) -> None:
        """Make the most of what has come."""
        try:
            while self._step():
                pass
        except MeshError as error:
            self._lost(error)

    def _step(self) -> bool:
        """Take one more piece of the response; False: there is nothing to take now."""
        exchange = self._exchange
        reader = self._reader
        if exchange is None:
            if reader.buffered:
                # Nobody asked: its words would be taken for the next answer.
                self.close()
            return False
        if not exchange.responded:
            head = reader.read_head()
            if head is None:
                return False
            if not head.is_final:
                exchange.on_response_head(head, ended=False)
                return True
            if reader.switched:
                self._switch()
                exchange.on_switch(head, self.stream, reader.take_rest())
                return False
            self._may_live = self._may_live and head.keep_alive
            if reader.ended:
                self._is_done = True
                exchange.on_response_head(head, ended=True)
                self._finish()
                return False
            exchange.on_response_head(head, ended=False)
            return True
        data = reader.read_body()
        if not reader.ended:
            if data:
                exchange.on_response_body(data)
            return bool(data)
        self._is_done = True
        if data and not reader.trailers:
            exchange.on_response_last(data)
        else:
            if data:
                exchange.on_response_body(data)
            exchange.on_response_end(reader.trailers)
        self._finish()
        return False

    def _switch(self) -> None:
        self._send()
        self._exchange = None
        self.stream.pause()
        # Until whoever takes the stream has set a sink of its own, nothing may come here.
        self.stream.set_sink(CLOSED)
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.far_switched(self)

    def _finish(self) -> None:
        """Go back to the pool, or close."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            # One that is made again elsewhere goes on.
            over_at = exchange.over_at
            self.idle_since = over_at if over_at >= 0 else self._poller.loop.time()
        owner = self._owner
        if self.stream.closed or owner is None:
            return
        # What comes behind the answer nobody asked for: it must not be taken for the next one.
        is_clean = not self.stream.ended_in and not self._reader.buffered
        if self._may_live and self._request_ended and is_clean:
            self.stream.resume()
            owner.far_idle(self)
        else:
            self.close()

    def _lost(self, error: MeshError) -> None:
        """The server does not keep to the protocol, or its connection ended too early."""
        exchange, self._exchange = self._exchange, None
        if error.code == "http1-truncated":
            error = UnreachableError(
                "the server closed the connection before its response had ended",
                code="far-closed",
            )
        self.stream.abort(error)
        if exchange is not None:
            exchange.on_far_failure(error, reused=self._is_stale, began=self._has_heard)

    @property
    def _is_stale(self) -> bool:
        """Whether the connection died as one does that was idle for too long."""
        return self.carried > 1 and not self._has_heard

    def close(self) -> None:
        """End the connection in order."""
        self.stream.end()
        self.stream.close()

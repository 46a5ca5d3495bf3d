"""A client that speaks HTTP/1: its requests one after the other, their responses in order.

What a client sends ahead waits in the reader, and no more than one read of it. A response ends
the connection where HTTP/1 has no other way to end it, where the client asked for that, where
the sidecar drains, and where a request was answered before all of it had come: then the rest is
read and dropped for a moment, so that a reset does not overtake the answer (RFC 9112 §9.6).
"""

from __future__ import annotations

from typing import Final, Protocol, final

from core.errors import DetectTimeoutError, MeshError
from proxy.http.answer import answer_for
from proxy.http.exchange import Exchange, Near, Service
from proxy.http.outgoing import Outgoing
from proxy.net.poller import Corked, Poller
from proxy.net.relay import Relay
from proxy.net.stream import Sink, Stream
from proxy.wire.buffer import Buffer, owned
from proxy.wire.http1_reader import RequestReader
from proxy.wire.http1_writer import CONTINUE, reason_of
from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import HTTP_2, HTTP_10, HTTP_11, Form, RequestHead, ResponseHead
from proxy.wire.native import (
    without_fields,
    without_hop_by_hop,
    write_chunk,
    write_last_chunk,
    write_response_head,
)
from proxy.wire.orig_proto_field import FROM_SIDECARS

HEAD_S: Final = 10.0
"""How long a head may take from its first octet; Linkerd sets no bound, haproxy advises this."""
LINGER_S: Final = 2.0
"""How long a client that was answered early is listened to."""
FLUSH_OCTETS: Final = 65_536
"""Gathered octets that are sent before anything else is gathered."""

_CODING: Final = frozenset((b"transfer-encoding",))
_FRAMING: Final = frozenset((b"transfer-encoding", b"content-length"))
_CHUNKED: Final[Field] = (b"transfer-encoding", b"chunked")
_CLOSE: Final[Field] = (b"connection", b"close")
_KEEP: Final[Field] = (b"connection", b"keep-alive")
_EMPTY: Final[Field] = (b"content-length", b"0")
_AUTHORITY_FORM: Final = Form.AUTHORITY


class NearOwner(Protocol):
    """Who keeps the connection, and is told of its end."""

    def near_closed(self, error: Exception | None) -> None:
        """Take notice that the client's connection is over."""
        ...

    def near_switched(self, relay: Relay) -> None:
        """Take notice that the connection left HTTP and lives on as a relay."""
        ...

    def relay_done(self, error: Exception | None) -> None:
        """Take notice that the relay it became is over."""
        ...


@final
class Http1Near(Near, Sink, Corked):
    """One connection of a client's."""

    __slots__ = (
        "_exchange",
        "_is_advancing",
        "_is_chunked",
        "_is_corked",
        "_is_held",
        "_is_last",
        "_linger_until",
        "_out",
        "_owner",
        "_poller",
        "_reader",
        "_service",
        "_started",
        "_version",
        "stream",
    )

    def __init__(self, poller: Poller, stream: Stream, service: Service, owner: NearOwner) -> None:
        self.stream: Final = stream
        self._poller = poller
        self._service = service
        self._owner: NearOwner | None = owner
        self._reader = RequestReader()
        self._exchange: Exchange | None = None
        self._version = HTTP_11
        self._is_advancing = False
        self._is_corked = False
        self._is_chunked = False
        self._is_last = False
        """The connection ends with the response on its way."""
        self._is_held = False
        self._started = -1.0
        """When the head on its way was first seen to be incomplete; below zero: none is."""
        self._linger_until = -1.0
        self._out: Final = Outgoing()

    def start(self, early: bytes) -> None:
        """Begin to read; ``early`` has come before."""
        self.stream.set_sink(self)
        if early:
            self._reader.feed(early)
            self._advance()
        if self.stream.ended_in:
            self.on_end()
        else:
            self._read_on()

    def drain(self) -> None:
        """End the connection with the response on its way, or now if there is none."""
        self._is_last = True
        if self._exchange is None:
            self._cork()

    def on_tick(self, now: float) -> None:
        """Give up on a head that does not come, and on a client that was answered early."""
        if self._linger_until >= 0:
            if now >= self._linger_until:
                self.stream.close()
        elif self._exchange is None:
            if not self._reader.buffered:
                self._started = -1.0
            elif self._started < 0:
                self._started = now
            elif now - self._started >= HEAD_S:
                self._broke(DetectTimeoutError(f"no whole request head within {HEAD_S:g} s"))

    # What the client sends

    def on_data(self, data: Buffer) -> None:
        """Read requests."""
        if self._linger_until >= 0:
            return
        self._reader.feed(owned(data))
        self._advance()

    def on_end(self) -> None:
        """Answer what has come, then end: a client may half-close behind its requests."""
        self._reader.feed_eof()
        self._advance()
        self._settle()

    def on_drained(self) -> None:
        """Let the response go on."""
        if self._exchange is not None:
            self._exchange.near_has_room()
        else:
            self._advance()
        self._settle()

    def on_closed(self, error: Exception | None) -> None:
        """Take the exchange along."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.near_is_gone()
        self._out.clear()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.near_closed(error)

    def _advance(self) -> None:
        """Make the most of what has come."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._step():
                pass
        except MeshError as error:
            self._broke(error)
        finally:
            self._is_advancing = False
        self._read_on()

    def _step(self) -> bool:
        """Take one more piece of a request; False: there is nothing to take now."""
        if self.stream.closed or self._linger_until >= 0:
            return False
        exchange = self._exchange
        reader = self._reader
        if exchange is None:
            if self._is_last or self.stream.congested:
                return False
            head = reader.read_head()
            if head is None:
                return False
            self._begin(head)
            return True
        if exchange.request_ended or self._is_held:
            return False
        data = reader.read_body()
        if data:
            exchange.on_request_body(data)
        if reader.ended:
            exchange.on_request_end(reader.trailers)
            return True
        return bool(data)

    def _begin(self, head: RequestHead) -> None:
        self._started = -1.0
        self._version = head.version
        self._is_chunked = False
        self._is_held = False
        if not head.keep_alive:
            self._is_last = True
        ended = head.length == 0
        exchange = Exchange(head, self, self._poller, ended=ended)
        self._exchange = exchange
        self._service.begin(exchange)

    def _read_on(self) -> None:
        """Read, unless what has come must be dealt with first."""
        if self.stream.closed:
            return
        exchange = self._exchange
        waits = self.stream.congested if exchange is None else exchange.request_ended
        if self._is_held or (waits and self._reader.buffered):
            self.stream.pause()
        else:
            self.stream.resume()

    def _broke(self, error: MeshError) -> None:
        """End a connection whose client does not keep to the protocol."""
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.case is None:
            self._service.refused(error.code)
        if exchange is None:
            self._refuse(error)
            return
        has_begun = exchange.responded
        exchange.near_is_gone(error)
        if has_begun:
            self.stream.abort(error)
        else:
            self._refuse(error)

    def _refuse(self, error: MeshError) -> None:
        """Answer for ourselves, then end."""
        self._is_last = True
        self._version = HTTP_11
        self.send_head(answer_for(HTTP_11, error, is_grpc=False, informs=False), ended=True)

    # What the client is sent

    def send_head(self, head: ResponseHead, *, ended: bool) -> None:
        """Frame a response for this client."""
        status = head.status
        if status < 200:
            if status == 101:
                self._add(write_response_head(status, head.reason, head.fields, HTTP_11))
            elif self._version == HTTP_11:
                self._send_interim(head)
            return
        exchange = self._exchange
        if exchange is not None and (exchange.closes or (ended and not exchange.request_ended)):
            self._is_last = True
        fields = self._framed(head, exchange, ended=ended)
        if self._is_last:
            fields = (*fields, _CLOSE)
        elif self._version == HTTP_10:
            fields = (*fields, _KEEP)
        self._add(
            write_response_head(status, head.reason or reason_of(status), fields, self._version)
        )
        if ended:
            self._finish()

    def _framed(self, head: ResponseHead, exchange: Exchange | None, *, ended: bool) -> Fields:
        """Return the fields with this connection's own framing (RFC 9112 §6)."""
        if head.version == HTTP_2:
            fields = without_fields(head.fields, FROM_SIDECARS)
        else:
            fields = without_hop_by_hop(head.fields)
        if exchange is not None:
            if exchange.head.method == b"HEAD":
                return without_fields(fields, _CODING)
            if exchange.head.form is _AUTHORITY_FORM and head.status < 300:
                return without_fields(fields, _FRAMING)
        if head.status == 304:
            return without_fields(fields, _CODING)
        if head.status == 204:
            return without_fields(fields, _FRAMING)
        if head.length > 0:
            # By HTTP/2 no coding comes (RFC 9113 §8.2.2), and no filter sets one.
            return fields if head.version == HTTP_2 else without_fields(fields, _CODING)
        fields = without_fields(fields, _FRAMING)
        if ended or head.length == 0:
            return (*fields, _EMPTY)
        if self._version == HTTP_11:
            self._is_chunked = True
            return (*fields, _CHUNKED)
        self._is_last = True
        return fields

    def _send_interim(self, head: ResponseHead) -> None:
        if head.status == 100 and not head.fields:
            self._add(CONTINUE)
            return
        fields = without_fields(without_hop_by_hop(head.fields), _FRAMING)
        reason = head.reason or reason_of(head.status)
        self._add(write_response_head(head.status, reason, fields, HTTP_11))

    def send_body(self, data: bytes) -> bool:
        """Send content."""
        self._add(write_chunk(data) if self._is_chunked else data)
        if self._out.size >= FLUSH_OCTETS:
            self._send()
        return not self.stream.congested

    def send_end(self, trailers: Fields) -> None:
        """End the response."""
        if self._is_chunked:
            self._add(write_last_chunk(trailers))
        else:
            # The end of the connection may be all that there is to send.
            self._cork()
        self._finish()

    def cut(self, error: MeshError) -> None:
        """Reset the connection: an end would look like the response's."""
        self._exchange = None
        self.stream.abort(error)

    def hold(self) -> None:
        """Hold back the request's content."""
        self._is_held = True

    def release(self) -> None:
        """Let the request's content come again."""
        if self._is_held:
            self._is_held = False
            self._advance()

    def switch(self, far: Stream, early: bytes) -> None:
        """Join both connections for good."""
        rest = self._reader.take_rest()
        self._send()
        self._exchange = None
        owner, self._owner = self._owner, None
        if self.stream.closed or owner is None:
            far.abort()
            return
        relay = Relay(self.stream, far, owner)
        owner.near_switched(relay)
        relay.start(early_near=rest, early_far=early)

    def _add(self, data: bytes) -> None:
        self._out.add(data)
        self._cork()

    def _cork(self) -> None:
        if not self._is_corked:
            self._is_corked = True
            self._poller.cork(self)

    def uncork(self) -> None:
        """Send what was gathered, and end if that was the last of it."""
        self._is_corked = False
        self._send()
        if self._exchange is not None:
            if self.stream.congested:
                self._exchange.near_is_full()
        else:
            self._settle()

    def _send(self) -> None:
        if self._out.size:
            self.stream.write(self._out.take())

    def _finish(self) -> None:
        """Go on to the next request."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if not exchange.request_ended:
            self._is_last = True
        if not self._is_last:
            self._reader.next_message()
            self._is_held = False
            if self._reader.buffered:
                self._advance()
            else:
                self._read_on()

    def _settle(self) -> None:
        """End the connection if nothing more is to be said on it, and it is still ours."""
        stream = self.stream
        if self._owner is None or stream.closed or self._exchange is not None or self._out.size:
            return
        if not self._is_last and not (stream.ended_in and not self._reader.buffered):
            return
        if not stream.ended_out:
            stream.end()
        if stream.ended_in:
            if stream.ended_out:
                stream.close()
        elif self._linger_until < 0:
            # What the client still sends must not meet a closed socket: the reset that answers
            # it would overtake the response.
            self._linger_until = self._poller.loop.time() + LINGER_S
            self._is_held = False
            stream.resume()

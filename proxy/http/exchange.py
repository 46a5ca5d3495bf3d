"""One request and its response, between the side it came from and the side it goes to.

The near side reads the request and writes the response; the far side does the opposite; neither
knows which version of HTTP the other speaks. Content is pushed: a side that has enough says so,
and the exchange holds back the other one until it has room again, so that an exchange keeps no
more than one read, and with HTTP/2 a stream's window, each way.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, final

from core.errors import ClosedEarlyError, MeshError, ServerProtocolError
from proxy.http.answer import answer_for, trailers_for
from proxy.net.poller import Poller
from proxy.net.stream import Stream
from proxy.telemetry.classification import grpc_status_of, is_grpc_type
from proxy.wire.http_field import Fields
from proxy.wire.http_message import HTTP_2, RequestHead, ResponseHead
from proxy.wire.native import value_of

MAX_KEPT: Final = 65_536
"""Octets of a request's content that are kept for sending them again (Linkerd's bound)."""
_clock: Final[Callable[[], float]] = monotonic
NO_ERROR: Final = 0
CANCEL: Final = 8
"""Error codes of RST_STREAM (RFC 9113 §7)."""
MAX_INTERIM: Final = 100
"""Interim responses to one request; a server that sends more never comes to the final one."""


class Near:
    """Where a request came from, and where its response goes."""

    __slots__ = ()

    def send_head(self, head: ResponseHead, *, ended: bool) -> None:
        """Send a response's head, interim or final; ``ended``: nothing follows."""
        raise NotImplementedError

    def send_body(self, data: bytes) -> bool:
        """Send content; False: hold back what follows until ``Exchange.near_has_room``."""
        raise NotImplementedError

    def send_end(self, trailers: Fields) -> None:
        """End the response."""
        raise NotImplementedError

    def send_last(self, data: bytes) -> None:
        """Send the last content, and end the response."""
        self.send_body(data)
        self.send_end(())

    def cut(self, error: MeshError) -> None:
        """Break off a response that has begun, so that nobody takes it for a whole one."""
        raise NotImplementedError

    def hold(self) -> None:
        """Hold back the request's content."""
        raise NotImplementedError

    def release(self) -> None:
        """Let the request's content come again."""
        raise NotImplementedError

    def switch(self, far: Stream, early: bytes) -> None:
        """Leave HTTP after the head just sent: from here on bytes go both ways."""
        raise NotImplementedError


class Far:
    """Where a request goes, and where its response comes from."""

    __slots__ = ()

    def send_body(self, data: bytes) -> bool:
        """Send content; False: hold back what follows until ``Exchange.far_has_room``."""
        raise NotImplementedError

    def send_end(self, trailers: Fields) -> None:
        """End the request."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody waits for the rest of this exchange any more."""
        raise NotImplementedError

    def hold(self) -> None:
        """Hold back the response's content."""
        raise NotImplementedError

    def release(self) -> None:
        """Let the response's content come again."""
        raise NotImplementedError


class Case:
    """Who decides about an exchange, changes its heads and counts it; one each exchange."""

    __slots__ = ()

    def on_response(self, exchange: Exchange, head: ResponseHead) -> ResponseHead | None:
        """Take note of the final head and return it as the client shall see it.

        None: the client shall not see this response; the exchange has been given up and is
        carried anew.
        """
        raise NotImplementedError

    def on_request_end(self, exchange: Exchange) -> None:
        """Take note that all of the request has come."""

    def on_moved(self, exchange: Exchange) -> None:
        """Take note that content has come, from either side; only if ``Exchange.is_timed``."""

    def on_failure(self, exchange: Exchange, error: MeshError, *, reused: bool) -> bool:
        """Carry a request anew that got no answer; False: it has failed.

        ``reused``: the connection had carried another request before.
        """
        raise NotImplementedError

    def on_done(self, exchange: Exchange, error: MeshError | None) -> None:
        """Count the exchange: it is over."""
        raise NotImplementedError


class Service:
    """Who takes the requests of one client's connection."""

    __slots__ = ()

    def begin(self, exchange: Exchange) -> None:
        """Take a request whose head has come; nothing is raised: what fails is answered."""
        raise NotImplementedError

    def refused(self, code: str) -> None:
        """Count a message that broke the protocol's rules, by the rule's name."""
        raise NotImplementedError

    def left_http(self, cut: Callable[[MeshError], None]) -> None:
        """Take note that the connection carries bytes from now on; ``cut`` ends it."""

    def ended(self) -> None:
        """Take note that the connection is over."""


@final
class Exchange:
    """A request on its way and the response to it."""

    __slots__ = (
        "_far",
        "_interim",
        "_is_cut",
        "_kept",
        "_near",
        "_poller",
        "_trailers",
        "began",
        "case",
        "client_id",
        "closes",
        "copies",
        "ended_at",
        "first_at",
        "grpc_status",
        "has_gone",
        "head",
        "informs",
        "is_grpc",
        "is_over",
        "is_reset",
        "is_riding",
        "is_timed",
        "keeps_body",
        "over_at",
        "received",
        "request_ended",
        "reset_code",
        "responded",
        "sent",
        "status",
    )

    def __init__(
        self,
        head: RequestHead,
        near: Near,
        poller: Poller,
        *,
        ended: bool,
        is_riding: bool = False,
    ) -> None:
        self.head = head
        """As it goes on: whoever takes the exchange may put an edited one here."""
        self.began: Final = poller.now
        self.ended_at = self.began
        """When its head came, and its end: seconds of the monotonic clock, as all times here."""
        self.first_at = -1.0
        """When the first content of the response came, or its end; below zero: not yet."""
        self.is_grpc: Final = (
            head.version == HTTP_2
            and not is_riding
            and is_grpc_type(value_of(head.fields, b"content-type"))
        )
        self.over_at = -1.0
        """When it was over; below zero: it is not."""
        self.grpc_status: int | None = None
        self.informs = True
        """The client is told in words why we answer in the server's place."""
        self.case: Case | None = None
        self.request_ended = ended
        self.is_riding: Final = is_riding
        """It came as HTTP/1 by HTTP/2."""
        self.client_id: Fields = ()
        """What the application is told of who asks, where that is not among the head's fields."""
        self.responded = False
        """A final head went to the client."""
        self.is_over = False
        self.closes = False
        """The client's connection should not be used again: what failed may fail again."""
        self.has_gone = False
        """Its head has gone to a far side, which may have acted on it."""
        self.copies: tuple[Exchange, ...] = ()
        """Exchanges that get the same content, each as fast as it can."""
        self.is_timed = False
        """The case wants to hear of content."""
        self.keeps_body = False
        """Content is kept, up to ``MAX_KEPT``, so that it can be sent again."""
        self.status = 0
        self.reset_code = CANCEL
        """What RST_STREAM says to the client if it is broken off."""
        self.is_reset = False
        """The far side broke it off as a stream, which a client of HTTP/2 is told as it is."""
        self.received = 0
        """Octets of the request's content."""
        self.sent = 0
        """Octets of the response's content."""
        self._poller = poller
        self._near: Near | None = near
        self._far: Far | None = None
        self._kept: list[bytes] | None = None
        """Content from its beginning: what is not sent yet, and more where it may be wanted."""
        self._is_cut = False
        """The content's beginning is no longer at hand."""
        self._interim = 0
        self._trailers: Fields = ()

    @property
    def now(self) -> float:
        """When what it is told of was found to be ready: one moment for all told at once."""
        return self._poller.now

    @property
    def is_whole(self) -> bool:
        """Whether all of the request is its head."""
        return self.request_ended and not self.received and not self._trailers

    @property
    def is_repeatable(self) -> bool:
        """Whether all of the content that has come is at hand."""
        return not self._is_cut

    # From the near side

    def on_request_body(self, data: bytes) -> None:
        """Pass content on, or keep it until there is somewhere to pass it to."""
        if self.is_over:
            return
        self.received += len(data)
        far = self._far
        near = self._near
        if self.keeps_body and self.received > MAX_KEPT:
            self.keeps_body = False
            if far is not None:
                self._forget()
        if far is None or self.keeps_body:
            if self._kept is None:
                self._kept = []
            self._kept.append(data)
        else:
            self._is_cut = True
        if self.copies:
            for copy in self.copies:
                copy.on_request_body(data)
        if self.is_timed and self.case is not None:
            self.case.on_moved(self)
        if (far is None or not far.send_body(data)) and near is not None:
            near.hold()

    def _forget(self) -> None:
        """Keep no content: it cannot be sent again."""
        self._kept = None
        self._is_cut = True

    def on_request_end(self, trailers: Fields) -> None:
        """Pass the request's end on."""
        self.request_ended = True
        self.ended_at = self.now
        if self.is_over:
            return
        self._trailers = trailers
        for copy in self.copies:
            copy.on_request_end(trailers)
        self.copies = ()
        if self._far is not None:
            self._far.send_end(trailers)
        if self.case is not None:
            self.case.on_request_end(self)

    def near_has_room(self) -> None:
        """Let the response go on."""
        if self._far is not None:
            self._far.release()

    def near_is_full(self) -> None:
        """Hold the response back."""
        if self._far is not None:
            self._far.hold()

    def near_is_gone(self, error: MeshError | None = None) -> None:
        """Nobody waits for the response any more."""
        if self.is_over:
            return
        self._near = None
        self._finish(error or ClosedEarlyError("the client went away before the response ended"))

    # From the far side

    def join(self, far: Far) -> None:
        """Send on what of the content has come already; ``far`` has sent the head."""
        if self.is_over:
            far.cancel()
            return
        self._far = far
        self.has_gone = True
        if self.is_whole:
            return
        kept = self._kept or ()
        if kept and not self.keeps_body:
            self._forget()
        has_room = True
        for data in kept:
            has_room = far.send_body(data)
        if self.request_ended:
            far.send_end(self._trailers)
        elif kept and has_room and self._near is not None:
            self._near.release()

    def far_has_room(self) -> None:
        """Let the request go on."""
        if self._near is not None:
            self._near.release()

    def on_response_head(self, head: ResponseHead, *, ended: bool) -> None:
        """Pass a head on; the final one is the case's to judge."""
        near = self._near
        if near is None:
            return
        if head.is_final:
            if ended and self.request_ended:
                self._far = None
            if self.case is not None:
                shown = self.case.on_response(self, head)
                if shown is None:
                    return
                head = shown
            self.responded = True
            self.status = head.status
            if self.is_grpc:
                self.grpc_status = grpc_status_of(value_of(head.fields, b"grpc-status"))
        else:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self.fail(
                    ServerProtocolError(
                        f"the server sent more than {MAX_INTERIM} interim responses",
                        code="too-many-interim",
                    )
                )
                return
        near.send_head(head, ended=ended)
        if ended:
            self._finish(None)

    def on_response_body(self, data: bytes) -> None:
        """Pass content on."""
        if self._near is None:
            return
        if not self.sent:
            self.first_at = self.now
        if self.is_timed and self.case is not None:
            self.case.on_moved(self)
        self.sent += len(data)
        if not self._near.send_body(data) and self._far is not None:
            self._far.hold()

    def on_response_last(self, data: bytes) -> None:
        """Pass the last content on, and the response's end with it: the exchange is over."""
        near = self._near
        if near is None:
            return
        now = self.now
        if not self.sent:
            self.first_at = now
        self.sent += len(data)
        self.over_at = now
        near.send_last(data)
        self._finish(None)

    def on_response_end(self, trailers: Fields) -> None:
        """Pass the response's end on: the exchange is over."""
        if self._near is None:
            return
        if trailers and self.is_grpc:
            self.grpc_status = grpc_status_of(value_of(trailers, b"grpc-status"))
        self.over_at = self.now
        self._near.send_end(trailers)
        self._finish(None)

    def on_switch(self, head: ResponseHead, far: Stream, early: bytes) -> None:
        """Pass a head on that ends HTTP, and everything behind it as bytes."""
        near = self._near
        self._far = None
        self.on_response_head(head, ended=False)
        self._finish(None)
        if near is not None:
            near.switch(far, early)

    def on_far_failure(
        self, error: MeshError, *, reused: bool = False, began: bool = False
    ) -> None:
        """The far side could not go on: try anew where that is safe, else answer in its place.

        ``began``: something of a response had come, so the request is never made again.
        """
        if self.is_over:
            return
        self._far = None
        case = None if self.responded or began or self._interim else self.case
        if case is None or not case.on_failure(self, error, reused=reused):
            self.fail(error)

    def give_up_far(self) -> None:
        """Let go of the far side: the request is carried anew, or answered by us."""
        far, self._far = self._far, None
        if far is not None:
            far.cancel()

    def fail(self, error: MeshError) -> None:
        """End the exchange for the given reason, with an answer of ours if none has begun."""
        near = self._near
        if self.is_over or near is None:
            return
        if self.is_reset and self.head.version == HTTP_2:
            near.cut(error)
        elif self.responded:
            if self.is_grpc:
                near.send_end(trailers_for(error, informs=self.informs))
            else:
                near.cut(error)
        else:
            answer = answer_for(
                self.head.version, error, is_grpc=self.is_grpc, informs=self.informs
            )
            self.closes = not answer.keep_alive
            self.responded = True
            self.status = answer.status
            near.send_head(answer, ended=True)
        self._finish(error)

    def answer(self, head: ResponseHead) -> None:
        """Answer in the server's place, and not because something failed."""
        if self._near is not None and not self.is_over:
            self.responded = True
            self.status = head.status
            if self.is_grpc:
                self.grpc_status = grpc_status_of(value_of(head.fields, b"grpc-status"))
            self._near.send_head(head, ended=True)
            self._finish(None)

    def _finish(self, error: MeshError | None) -> None:
        self.is_over = True
        if self.over_at < 0:
            self.over_at = _clock()
        far, self._far = self._far, None
        if far is not None and (error is not None or not self.request_ended):
            far.cancel()
        self._near = None
        self._kept = None
        for copy in self.copies:
            copy.near_is_gone()
        self.copies = ()
        case, self.case = self.case, None
        if case is not None:
            case.on_done(self, error)

"""Connections to one endpoint: kept, taken up again, dialled where none is free.

HTTP/1 takes a connection for each request on its way and keeps the idle ones for a moment;
HTTP/2 has one connection, and another when that one is leaving. Requests that wait for a dial
are bounded, and each is answered when the dial fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, final

from core.errors import MeshError, OverloadError
from discovery.model import KeepAlive
from proxy.http.exchange import Exchange
from proxy.http.http1_far import Http1Far, Http1FarOwner
from proxy.http.http2_far import Http2Far, Http2FarOwner
from proxy.net.poller import Poller
from proxy.net.stream import Stream
from proxy.wire.http_message import HTTP_2
from proxy.wire.onward import onward_http1, onward_http2
from proxy.wire.orig_proto import Http1Request, alight, ride

IDLE_S: Final = 3.0
"""How long an idle HTTP/1 connection is kept: Linkerd's, less than most servers' five."""
MAX_IDLE: Final = 1_024
"""Idle HTTP/1 connections of one endpoint (Linkerd keeps 10,000)."""
MAX_WAITING: Final = 10_000
"""Requests of one endpoint that wait for a connection; later ones are answered 503."""
_SAFE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS"))
"""Methods whose requests are made again when the connection turns out to have died."""

Dial = Callable[[], Awaitable[Stream]]
"""Makes a connection; raises MeshError. The stream is reading, its sink nobody's yet."""


class PoolOwner(Protocol):
    """Who runs the pool's dials and counts its connections."""

    def dial(self, pool: Pool) -> None:
        """Make a connection for ``pool`` and tell it: ``dialled`` or ``dial_failed``."""
        ...

    def far_opened(self, pool: Pool, stream: Stream) -> None:
        """Count a connection that is in use from now on."""
        ...

    def far_closed(self, pool: Pool, stream: Stream, error: Exception | None) -> None:
        """Count a connection that is over."""
        ...


class Pool:
    """Carries exchanges to one endpoint."""

    __slots__ = ()

    def carry(self, exchange: Exchange) -> None:
        """Send a request on; what fails is the exchange's to be told."""
        raise NotImplementedError

    def dialled(self, stream: Stream) -> None:
        """Take a connection that was asked for."""
        raise NotImplementedError

    def dial_failed(self, error: MeshError) -> None:
        """Take notice that there will be no connection."""
        raise NotImplementedError

    def on_tick(self, now: float) -> None:
        """Look after the connections; once a second."""
        raise NotImplementedError

    def retire(self) -> None:
        """Let the connections end with what they carry."""
        raise NotImplementedError

    @property
    def is_idle(self) -> bool:
        """Whether the pool holds nothing."""
        raise NotImplementedError


def fail_waiting(waiting: deque[Exchange], error: MeshError) -> None:
    """Tell every exchange that waits for a dial that there is no connection."""
    failed = list(waiting)
    waiting.clear()
    for exchange in failed:
        exchange.on_far_failure(error)


@final
class Http1Pool(Pool, Http1FarOwner):
    """Connections to an endpoint that is spoken to in HTTP/1."""

    __slots__ = ("_busy", "_idle", "_is_retired", "_owner", "_poller", "_waiting")

    def __init__(self, poller: Poller, owner: PoolOwner) -> None:
        self._poller = poller
        self._owner = owner
        self._idle: list[Http1Far] = []
        self._busy = 0
        """Connections that carry an exchange."""
        self._waiting: deque[Exchange] = deque()
        self._is_retired = False

    @property
    def is_idle(self) -> bool:
        """Whether the pool holds nothing."""
        return not self._idle and not self._busy and not self._waiting

    def carry(self, exchange: Exchange) -> None:
        """Send a request on an idle connection, the one used last, or dial."""
        while self._idle:
            far = self._idle.pop()
            if exchange.head.method not in _SAFE and far.stream.has_news:
                # The server has hung up, or said what nobody asked; this request must not meet it.
                far.close()
                continue
            self._open(far, exchange)
            return
        if len(self._waiting) >= MAX_WAITING:
            exchange.on_far_failure(OverloadError(f"{MAX_WAITING} requests wait for a connection"))
            return
        self._waiting.append(exchange)
        self._owner.dial(self)

    def _open(self, far: Http1Far, exchange: Exchange) -> None:
        far.is_busy = True
        self._busy += 1
        far.open(exchange, request_for(exchange), may_live=not self._is_retired)

    def dialled(self, stream: Stream) -> None:
        """Use a connection for the request that has waited longest, or keep it."""
        self._owner.far_opened(self, stream)
        far = Http1Far(self._poller, stream, self)
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.is_over:
                self._open(far, exchange)
                return
        self.far_idle(far)

    def dial_failed(self, error: MeshError) -> None:
        """Tell the request that has waited longest."""
        if self._waiting:
            self._waiting.popleft().on_far_failure(error)

    def far_idle(self, far: Http1Far) -> None:
        """Keep a connection that can carry another exchange."""
        self._free(far)
        if self._is_retired or len(self._idle) >= MAX_IDLE:
            far.close()
            return
        self._idle.append(far)

    def far_closed(self, far: Http1Far, error: Exception | None) -> None:
        """Forget a connection that is over."""
        self._free(far)
        if far in self._idle:
            self._idle.remove(far)
        self._owner.far_closed(self, far.stream, error)

    def far_switched(self, far: Http1Far) -> None:
        """Let go of a connection that left HTTP."""
        self._free(far)

    def _free(self, far: Http1Far) -> None:
        if far.is_busy:
            far.is_busy = False
            self._busy -= 1

    def on_tick(self, now: float) -> None:
        """Close what has been idle for too long; the oldest stand first."""
        idle = self._idle
        old = 0
        while old < len(idle) and now - idle[old].idle_since >= IDLE_S:
            old += 1
        if old:
            expired = idle[:old]
            del idle[:old]
            for far in expired:
                far.close()

    def retire(self) -> None:
        """Let the connections end with what they carry."""
        self._is_retired = True
        idle, self._idle = self._idle, []
        for far in idle:
            far.close()


@final
class Http2Pool(Pool, Http2FarOwner):
    """The connection to an endpoint that is spoken to in HTTP/2."""

    __slots__ = (
        "_far",
        "_is_dialling",
        "_is_retired",
        "_keep_alive",
        "_leaving",
        "_owner",
        "_poller",
        "_waiting",
    )

    def __init__(
        self, poller: Poller, owner: PoolOwner, keep_alive: KeepAlive | None = None
    ) -> None:
        self._poller = poller
        self._owner = owner
        self._keep_alive = keep_alive
        self._far: Http2Far | None = None
        self._leaving: set[Http2Far] = set()
        """Connections that end with what they carry."""
        self._waiting: deque[Exchange] = deque()
        self._is_dialling = False
        self._is_retired = False

    @property
    def is_idle(self) -> bool:
        """Whether the pool holds nothing."""
        return self._far is None and not self._leaving and not self._waiting

    def carry(self, exchange: Exchange) -> None:
        """Open a stream, or wait for one."""
        far = self._far
        if far is not None and far.can_open and not self._waiting:
            self._open(far, exchange)
            return
        if len(self._waiting) >= MAX_WAITING:
            exchange.on_far_failure(OverloadError(f"{MAX_WAITING} requests wait for a stream"))
            return
        self._waiting.append(exchange)
        self.far_changed()

    def _open(self, far: Http2Far, exchange: Exchange) -> None:
        head = exchange.head
        if head.version == HTTP_2:
            far.open(exchange, onward_http2(head))
        else:
            far.open(exchange, ride(head, head.authority))

    def far_changed(self) -> None:
        """Open streams for who waits, dial when nothing else will come of it."""
        far = self._far
        if far is not None and far.is_leaving:
            self._leaving.add(far)
            self._far = far = None
        while far is not None and self._waiting and far.can_open:
            exchange = self._waiting.popleft()
            if not exchange.is_over:
                self._open(far, exchange)
        if far is None and self._waiting and not self._is_dialling:
            self._is_dialling = True
            self._owner.dial(self)
        elif self._is_retired:
            self.retire()

    def dialled(self, stream: Stream) -> None:
        """Use a connection for all that wait."""
        self._is_dialling = False
        self._owner.far_opened(self, stream)
        self._far = Http2Far(self._poller, stream, self, self._keep_alive)
        self.far_changed()

    def dial_failed(self, error: MeshError) -> None:
        """Tell all that wait."""
        self._is_dialling = False
        fail_waiting(self._waiting, error)

    def far_closed(self, far: Http2Far, error: Exception | None) -> None:
        """Forget a connection that is over; whoever waited for one of its streams goes on."""
        self._leaving.discard(far)
        if self._far is far:
            self._far = None
        self._owner.far_closed(self, far.stream, error)
        self.far_changed()

    def on_tick(self, now: float) -> None:
        """Look after the connections."""
        if self._far is not None:
            self._far.on_tick(now)
        for far in tuple(self._leaving):
            far.on_tick(now)

    def retire(self) -> None:
        """Let the connections end with what they carry."""
        self._is_retired = True
        far = self._far
        if far is not None and not self._waiting:
            self._far = None
            self._leaving.add(far)
            far.leave()


def request_for(exchange: Exchange) -> Http1Request:
    """Return an exchange's request as a server of HTTP/1 is sent it."""
    head = exchange.head
    if head.version == HTTP_2:
        return alight(head, exchange.client_id, ended=exchange.is_whole)
    return onward_http1(head, ended=exchange.is_whole)

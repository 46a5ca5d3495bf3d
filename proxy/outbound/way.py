"""The ways to the endpoints of one destination: their connections, kept while they are wanted.

A way is an endpoint and the pools of connections to it, HTTP/2 between sidecars, HTTP/1 where
that cannot be. Ways live as long as their endpoint is among those of its destination; what they
carry then comes to its end, and they with it.
"""

from __future__ import annotations

from typing import Final, final

from core.errors import MeshError, UnreachableError
from discovery.model import Endpoint, Hint, Labels, Target
from proxy.http.pool import Http1Pool, Http2Pool, Pool
from proxy.net.connection import Tallies
from proxy.net.stream import Stream
from proxy.outbound.dial import dial, plaintext_reason
from proxy.outbound.member import Member, Phase
from proxy.runtime import Runtime
from proxy.telemetry.http import EndpointCounts, OutboundHttp
from proxy.telemetry.metric import dst_labels, target_labels
from proxy.telemetry.transport import SideSlots
from proxy.wire.http_message import HTTP_2, RequestHead
from proxy.wire.orig_proto import can_ride, has_ridden
from proxy.wire.transport_header import SessionProtocol

UNUSED_S: Final = 60.0
"""How long the way to an endpoint is kept that nobody asks for."""


@final
class Way:
    """One endpoint and the connections to it."""

    __slots__ = (
        *("_can_ride", "_http1", "_http2", "_runtime", "_slots", "_tallies"),
        *("authority", "counts", "endpoint", "is_meshed", "is_wanted", "member", "used_at"),
    )

    def __init__(
        self,
        runtime: Runtime,
        telemetry: OutboundHttp,
        endpoint: Endpoint,
        target: Target | None,
        labels: Labels,
        member: Member | None,
    ) -> None:
        self.endpoint: Final = endpoint
        self.authority: Final[str] = endpoint.authority_override
        """What requests to it are addressed to instead; empty: as they are."""
        self.member: Final = member
        """Its place in a balancer; None: it is the only one there is."""
        self.is_wanted = True
        """Its endpoint is one of its destination's."""
        self.used_at = 0.0
        self._runtime = runtime
        reason = plaintext_reason(endpoint, runtime.own_ips)
        self._can_ride = runtime.upgrades and endpoint.hint is Hint.H2 and not reason
        self._http1: Pool | None = None
        self._http2: Pool | None = None
        self._tallies = Tallies()
        server = None if reason else endpoint.identity
        self.is_meshed: Final = server is not None
        """A sidecar is there, and has proved who it is."""
        self.counts: EndpointCounts = telemetry.endpoint(
            endpoint,
            authority=str(target or ""),
            server=server,
            no_tls_reason=reason,
            labels=labels,
        )
        tls: Labels = (("tls", "no_identity"), ("no_tls_reason", reason))
        if server is not None:
            tls = (("tls", "true"), ("server_id", server.name))
        authority = () if target is None else (("authority", str(target)),)
        self._slots = SideSlots(
            runtime.metrics,
            (
                *(("direction", "outbound"), ("peer", "dst"), *authority),
                *(*target_labels(endpoint.address), *tls),
                *dst_labels(labels, endpoint.labels),
            ),
            dict(endpoint.labels).get("zone_locality", "unknown"),
        )

    def pool(self, head: RequestHead) -> Pool:
        """Return the connections that carry a request like this one."""
        rides = self._can_ride and can_ride(head)
        # What came riding to a gateway alights where it cannot go on so.
        if rides or (head.version == HTTP_2 and (self._can_ride or not has_ridden(head))):
            if self._http2 is None:
                http2 = self.endpoint.http2
                keep_alive = http2.keep_alive if http2 is not None and self.is_meshed else None
                self._http2 = Http2Pool(self._runtime.poller, self, keep_alive)
            return self._http2
        if self._http1 is None:
            self._http1 = Http1Pool(self._runtime.poller, self)
        return self._http1

    def dial(self, pool: Pool) -> None:
        """Connect to the endpoint."""
        self._runtime.spawn(self._dial(pool))

    async def _dial(self, pool: Pool) -> None:
        session: SessionProtocol | None = None
        if self.endpoint.hint is not Hint.OPAQUE:
            is_http2 = pool is self._http2
            session = SessionProtocol.HTTP2 if is_http2 else SessionProtocol.HTTP1
        try:
            dialled = await dial(self._runtime, self.endpoint, session)
        except MeshError as error:
            self._runtime.log.info(
                "connect failed",
                direction="outbound",
                code=error.code,
                endpoint=str(self.endpoint.address),
                reason=str(error),
            )
            pool.dial_failed(error)
            return
        except Exception as error:
            pool.dial_failed(UnreachableError(f"the dial broke: {error!r}", code="internal"))
            raise
        pool.dialled(dialled.stream)

    def far_opened(self, pool: Pool, stream: Stream) -> None:
        """Count a connection."""
        del pool
        self._tallies.open(stream, self._slots)

    def far_closed(self, pool: Pool, stream: Stream, error: Exception | None) -> None:
        """Count its end."""
        del pool
        self._tallies.close(stream, error)

    def on_tick(self, now: float) -> None:
        """Look after the connections, and count the ends of those that had left HTTP."""
        for pool in (self._http1, self._http2):
            if pool is not None:
                pool.on_tick(now)
        self._tallies.on_tick()

    def retire(self) -> None:
        """Let the connections end with what they carry."""
        self.is_wanted = False
        for pool in (self._http1, self._http2):
            if pool is not None:
                pool.retire()

    def close(self) -> None:
        """Close every connection now."""
        self._tallies.abort()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is open or on its way."""
        return not self._tallies and all(
            pool is None or pool.is_idle for pool in (self._http1, self._http2)
        )


@final
class Ways:
    """Every way of one sidecar."""

    def __init__(self, runtime: Runtime, telemetry: OutboundHttp) -> None:
        self.runtime: Final = runtime
        self._telemetry = telemetry
        self._ways: dict[tuple[Endpoint, Target | None, Labels, int], Way] = {}
        self._retired: list[Way] = []
        runtime.ticker.add(self)
        runtime.on_end.append(self._close)

    def _close(self) -> None:
        for way in (*self._ways.values(), *self._retired):
            way.close()

    def to(
        self,
        endpoint: Endpoint,
        target: Target | None,
        labels: Labels,
        member: Member | None = None,
    ) -> Way:
        """Return the way to an endpoint of ``target``, whose endpoints share ``labels``."""
        key = (endpoint, target, labels, id(member))
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = Way(
                self.runtime, self._telemetry, endpoint, target, labels, member
            )
            way.used_at = self.runtime.loop.time()
        return way

    def on_tick(self, now: float) -> None:
        """Look after all connections; let go of ways that nobody wants any more."""
        for key, way in list(self._ways.items()):
            way.on_tick(now)
            if way.is_wanted and way.member is not None and way.member.phase is Phase.GONE:
                way.retire()
            if way.is_idle and now - way.used_at >= UNUSED_S:
                way.is_wanted = False
                del self._ways[key]
            elif not way.is_wanted:
                del self._ways[key]
                if not way.is_idle:
                    self._retired.append(way)
        for way in self._retired:
            way.on_tick(now)
        self._retired = [way for way in self._retired if not way.is_idle]

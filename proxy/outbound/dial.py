"""From an endpoint to a stream that has proved whom it leads to."""

from __future__ import annotations

import asyncio
from typing import final

from core.errors import ConnectTimeoutError, HandshakeError, MeshError, RefusedError
from core.record import dataclass
from discovery.model import Address, Endpoint, PathKind
from identity.generation import Generation
from identity.name import Identity
from identity.verify import authenticate, expect
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.runtime import Runtime
from proxy.wire.transport_header import ALPN, SessionProtocol, TransportHeader, encode_header


@final
@dataclass(frozen=True, slots=True)
class Dialled:
    """A stream to an endpoint; ``inbox`` is its sink until it is relayed."""

    stream: Stream
    inbox: Inbox
    endpoint: Endpoint
    server: Identity | None
    """Whom the far side proved to be; None: plaintext, for the reason ``no_tls_reason``."""
    no_tls_reason: str = ""
    resumed: KeepSession | None = None
    """Where to drop the session that was taken up, should the far side not honour it."""


@final
class KeepSession:
    """A session's place in its generation, under the one key it may be resumed for."""

    __slots__ = ("_generation", "key")

    def __init__(self, generation: Generation, key: tuple[Identity, str, bool, str]) -> None:
        self._generation = generation
        self.key = key

    def keep(self, session: object) -> None:
        """Take a session that the server has given a ticket for."""
        self._generation.sessions.put(self.key, session)

    def drop(self) -> None:
        """Forget the session: the next connection makes a full handshake."""
        self._generation.sessions.drop(self.key)


async def dial(
    runtime: Runtime, endpoint: Endpoint, session: SessionProtocol | None = None
) -> Dialled:
    """Connect to ``endpoint``; TCP, TLS and header share one time limit.

    ``session`` is the HTTP that the stream will carry, if it is one: a far sidecar is told so.
    Raises UnreachableError, HandshakeError, or RefusedError for an address that is our own
    listener.
    """
    try:
        return await _dial(runtime, endpoint, session)
    except HandshakeError as error:
        if error.code != "resumed-unknown":
            raise
        # The session is dropped by now, and nothing was sent yet.
        return await _dial(runtime, endpoint, session)


async def _dial(runtime: Runtime, endpoint: Endpoint, session: SessionProtocol | None) -> Dialled:
    reason = plaintext_reason(endpoint, runtime.own_ips)
    wire = runtime.own_way(endpoint.address)
    if not reason and endpoint.direct_port is not None:
        wire = Address(endpoint.address.ip, endpoint.direct_port)
    if runtime.is_own_listener(wire) or runtime.is_own_listener(endpoint.address):
        raise RefusedError(f"{wire} is this sidecar's own listener", code="loop")
    limit = runtime.limits.outbound_connect_s
    started = runtime.clock.monotonic()
    sock = await runtime.connector.connect(wire, limit)
    inbox = Inbox(runtime.loop)
    stream = Stream(runtime.poller, sock, inbox)
    inbox.stream = stream
    if reason:
        return Dialled(stream, inbox, endpoint, None, reason)
    try:
        async with asyncio.timeout(max(0.0, limit - (runtime.clock.monotonic() - started))):
            server, resumed = await _secure(runtime, stream, endpoint, session)
    except TimeoutError as error:
        stream.abort(error)
        runtime.metrics.outbound_handshakes.failed(ConnectTimeoutError.code)
        raise ConnectTimeoutError(
            f"{wire} accepted but finished no TLS handshake within {limit:g} s"
        ) from error
    except BaseException as error:
        stream.abort(error if isinstance(error, Exception) else None)
        raise
    return Dialled(stream, inbox, endpoint, server, resumed=resumed)


def plaintext_reason(endpoint: Endpoint, own_ips: frozenset[str]) -> str:
    """Return why TLS is not attempted, as Linkerd labels it; empty when it is."""
    # Behind a link our own address is another cluster's, whose pods have addresses like ours.
    if endpoint.address.ip in own_ips and endpoint.path.kind is PathKind.LOCAL:
        return "loopback"
    return "" if endpoint.sni else "not_provided_by_service_discovery"


async def _secure(
    runtime: Runtime, stream: Stream, endpoint: Endpoint, session_protocol: SessionProtocol | None
) -> tuple[Identity, KeepSession | None]:
    generation = runtime.generation.current
    expected = endpoint.identity
    if generation is None or expected is None:
        raise HandshakeError("no certificate has been issued to us yet")
    direct = endpoint.direct_port is not None or bool(endpoint.authority_override)
    key = (expected, endpoint.sni, direct, endpoint.path.cluster)
    session = generation.sessions.get(key) if runtime.resume else None
    # OpenSSL copies a session each time it is asked for one, which costs a fifth of a handshake:
    # one that is kept is used until the server no longer takes it.
    wanted = runtime.resume and session is None
    keeper = KeepSession(generation, key)
    engine = runtime.tls.client(
        generation,
        direct=direct,
        server_name=endpoint.sni,
        session=session,
        keeper=keeper if wanted else None,
    )
    handshakes = runtime.metrics.outbound_handshakes
    began = runtime.clock.monotonic()
    try:
        await stream.start_tls(engine)
        if session is not None and not engine.resumed:
            keeper.drop()
            engine.keeper = keeper
        peer = authenticate(generation, engine, runtime.clock.now().timestamp())
        expect(peer, expected, endpoint.path.trust_domain)
        engine.forget_peer(keeps_session=runtime.resume)
    except MeshError as error:
        handshakes.failed(error.code)
        if isinstance(error, HandshakeError):
            keeper.drop()
        raise
    handshakes.done(runtime.clock.monotonic() - began, resumed=engine.resumed)
    if engine.alpn == ALPN:
        stream.write(encode_header(header_for(endpoint, session_protocol)))
        stream.bytes_out = 0
    else:
        stream.flush()
    return expected, keeper if engine.resumed else None


def header_for(endpoint: Endpoint, session: SessionProtocol | None = None) -> TransportHeader:
    """Return the transport header that leads to ``endpoint`` behind its sidecar or gateway."""
    if endpoint.authority_override:
        host, colon, port = endpoint.authority_override.rpartition(":")
        if colon and port.isdecimal():
            return TransportHeader(int(port), host, session)
        return TransportHeader(endpoint.address.port, endpoint.authority_override, session)
    return TransportHeader(endpoint.address.port, session=session)

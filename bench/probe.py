"""Whether a candidate does the job it is measured for: looked at before anything is timed.

A client of our own talks TLS to the inbound hop, with the outbound side's certificate and
without one. Only bytes from the backend count: in TLS 1.3 a certificate is refused after the
client's handshake.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final, final

from bench.candidate import Carried, Greeting, Pair
from bench.certificate import Credentials
from bench.http2_pair import Asked
from core.errors import UnreachableError
from discovery.model import Address
from proxy.wire.http_field import Fields

TIMEOUT_S: Final = 5.0
READ_OCTETS: Final = 16_384
_ASKED: Final = {
    Carried.OPAQUE: b"E",
    Carried.HTTP1: b"GET / HTTP/1.1\r\nhost: probe\r\n\r\n",
}
_HTTP2_ASKED: Final[Fields] = (
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"probe"),
    (b":path", b"/"),
)
_ANSWER: Final = {Carried.OPAQUE: b"E", Carried.HTTP1: b"HTTP/1.1 200"}
"""How the backend's answer begins."""


@final
@dataclass(frozen=True, slots=True)
class Tls:
    """What an inbound hop negotiates."""

    version: str
    cipher: str
    refuses_without_certificate: bool
    resumes: bool
    """Whether it takes up a session that a client offers."""


@final
@dataclass(frozen=True, slots=True)
class Echo:
    """An answer that came from the backend, and the TLS it came through."""

    version: str
    cipher: str
    session: ssl.SSLSession | None
    is_resumed: bool


@final
class InboundClient:
    """A client of an inbound hop, in the outbound hop's place."""

    def __init__(
        self,
        inner: Address,
        greeting: Greeting,
        credentials: Credentials,
        *,
        is_known: bool,
        carried: Carried = Carried.OPAQUE,
    ) -> None:
        self._inner = inner
        self._first = greeting.first
        self._carried = carried
        self._name = credentials.server.identity.name
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.load_verify_locations(credentials.root)
        if is_known:
            self._context.load_cert_chain(credentials.client.chain, credentials.client.key)
        protocol = greeting.protocol or ("h2" if carried is Carried.HTTP2 else "")
        if protocol:
            self._context.set_alpn_protocols([protocol])

    def echo(self, session: ssl.SSLSession | None = None) -> Echo | None:
        """Ask the backend; None when no answer of its comes within TIMEOUT_S."""
        try:
            with socket.create_connection((self._inner.ip, self._inner.port), TIMEOUT_S) as plain:
                # As every hop's: who gives no ticket has nothing to say to the handshake's end,
                # and acknowledges it 40 ms later, which the first request would wait for.
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._context.wrap_socket(
                    plain, server_hostname=self._name, session=session
                ) as secure:
                    if not self._is_answered(secure):
                        return None
                    cipher = secure.cipher()
                    return Echo(
                        version=secure.version() or "",
                        cipher=cipher[0] if cipher else "",
                        session=secure.session,
                        is_resumed=bool(secure.session_reused),
                    )
        except OSError:
            return None

    def _is_answered(self, secure: ssl.SSLSocket) -> bool:
        if self._carried is Carried.HTTP2:
            return self._is_answered_http2(secure)
        secure.sendall(self._first + _ASKED[self._carried])
        wanted = _ANSWER[self._carried]
        return secure.recv(len(wanted)) == wanted

    def _is_answered_http2(self, secure: ssl.SSLSocket) -> bool:
        client = Asked()
        client.ask(_HTTP2_ASKED, ())
        secure.sendall(self._first + client.codec.take())
        while data := secure.recv(READ_OCTETS):
            client.codec.feed(data, time.monotonic())
            if client.head is not None:
                return client.head.status < 500
            secure.sendall(client.codec.take())
        return False


def probe(pair: Pair, credentials: Credentials) -> Tls:
    """Return what the inbound hop does. Raises UnreachableError when nothing comes through it."""
    known, stranger = (
        InboundClient(
            pair.inner, pair.greeting, credentials, is_known=is_known, carried=pair.carried
        )
        for is_known in (True, False)
    )
    first = known.echo()
    if first is None:
        raise UnreachableError(f"{pair.inbound.name}: no echo through it: {pair.inbound.tail()}")
    again = known.echo(first.session)
    return Tls(
        version=first.version,
        cipher=first.cipher,
        refuses_without_certificate=stranger.echo() is None,
        resumes=again is not None and again.is_resumed,
    )


def probe_plaintext(pair: Pair) -> None:
    """Raise UnreachableError when bytes do not come through both hops, in plaintext between them.

    The inbound hop of such a pair takes plaintext, so what the outbound one sends it is that.
    """
    for name, way in (("both hops", pair.entry), (pair.inbound.name, pair.inner)):
        try:
            with socket.create_connection((way.ip, way.port), TIMEOUT_S) as sock:
                sock.sendall(_ASKED[Carried.OPAQUE])
                answer = sock.recv(READ_OCTETS)
        except OSError:
            answer = b""
        if answer != _ANSWER[Carried.OPAQUE]:
            raise UnreachableError(f"{name}: no echo in plaintext: {pair.inbound.tail()}")


def objections(tls: Tls, *, resumes: bool) -> list[str]:
    """Return why a candidate does not do the job every candidate is to do; empty: it does.

    That an inbound hop would resume matters only where it has to: without resumption it is the
    outbound hop that never offers a session.
    """
    found = []
    if tls.version != "TLSv1.3":
        found.append(f"speaks {tls.version}, want TLSv1.3")
    if not tls.refuses_without_certificate:
        found.append("serves a client without a certificate")
    if resumes and not tls.resumes:
        found.append("does not resume sessions")
    return found

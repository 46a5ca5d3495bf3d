"""Whether a candidate does the job it is measured for: looked at before anything is timed.

A client of our own talks TLS to the inbound hop, with the outbound side's certificate and
without one. Only bytes from the backend count: in TLS 1.3 a certificate is refused after the
client's handshake.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Final, final

from bench.candidate import Pair
from bench.certificate import Credentials
from core.errors import UnreachableError
from discovery.model import Address

TIMEOUT_S: Final = 5.0


@final
@dataclass(frozen=True, slots=True)
class Tls:
    """What an inbound hop negotiates."""

    version: str
    cipher: str
    refuses_without_certificate: bool
    resumes: bool


def probe(pair: Pair, credentials: Credentials) -> Tls:
    """Return what the inbound hop does. Raises UnreachableError when nothing comes through it."""
    with_certificate = _context(credentials, presents_certificate=True)
    first = _echo(pair.inner, with_certificate, credentials.server.identity.name, None)
    if first is None:
        raise UnreachableError(f"{pair.inbound.name}: no echo through it: {pair.inbound.tail()}")
    again = _echo(pair.inner, with_certificate, credentials.server.identity.name, first.session)
    without = _context(credentials, presents_certificate=False)
    return Tls(
        version=first.version,
        cipher=first.cipher,
        refuses_without_certificate=_echo(
            pair.inner, without, credentials.server.identity.name, None
        )
        is None,
        resumes=again is not None and again.was_reused,
    )


def objections(tls: Tls, *, resumes: bool) -> list[str]:
    """Return why a candidate does not do the job every candidate is to do; empty: it does."""
    found = []
    if tls.version != "TLSv1.3":
        found.append(f"speaks {tls.version}, want TLSv1.3")
    if not tls.refuses_without_certificate:
        found.append("serves a client without a certificate")
    if tls.resumes != resumes:
        found.append("resumes sessions" if tls.resumes else "does not resume sessions")
    return found


@final
@dataclass(frozen=True, slots=True)
class _Echo:
    version: str
    cipher: str
    session: ssl.SSLSession | None
    was_reused: bool


def _context(credentials: Credentials, *, presents_certificate: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(credentials.root)
    if presents_certificate:
        context.load_cert_chain(credentials.client.chain, credentials.client.key)
    return context


def _echo(
    where: Address, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None
) -> _Echo | None:
    try:
        with (
            socket.create_connection((where.ip, where.port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=name, session=session) as secure,
        ):
            secure.sendall(b"E")
            if secure.recv(1) != b"E":
                return None
            cipher = secure.cipher()
            return _Echo(
                version=secure.version() or "",
                cipher=cipher[0] if cipher else "",
                session=secure.session,
                was_reused=bool(secure.session_reused),
            )
    except OSError:
        return None

"""A TLS handshake in memory between any two contexts, for tests: no sockets, no engine of ours."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import final

from identity.handshake import verified_end, verified_root


@final
@dataclass(frozen=True)
class Facts:
    """What one end knows of the other once the handshake is done (verify.TlsFacts)."""

    peer_der: bytes | None
    peer_names: tuple[tuple[str, str], ...]
    peer_not_after: float
    verified_root: bytes | None
    resumed: bool


@final
@dataclass
class Pair:
    """Both ends of a connection in memory."""

    client: ssl.SSLObject
    server: ssl.SSLObject

    @property
    def seen_by_client(self) -> Facts:
        """What the client knows of the server."""
        return facts_of(self.client)

    @property
    def seen_by_server(self) -> Facts:
        """What the server knows of the client."""
        return facts_of(self.server)

    @property
    def session(self) -> ssl.SSLSession:
        """The client's session, once the ticket is read."""
        session = self.client.session
        assert session is not None
        assert session.has_ticket
        return session


def shake_hands(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    server_name: str = "server",
    session: ssl.SSLSession | None = None,
) -> Pair:
    """Complete a handshake and carry one byte each way. Raises what the ``ssl`` module raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    pair = Pair(
        client.wrap_bio(to_client, to_server, server_hostname=server_name, session=session),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    pending = [pair.client, pair.server]
    for _ in range(8):
        for end in tuple(pending):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(end)
    assert not pending, "the handshake does not come to an end"
    pair.server.write(b"s")
    assert pair.client.read(1) == b"s"
    pair.client.write(b"c")
    assert pair.server.read(1) == b"c"
    return pair


def facts_of(end: ssl.SSLObject) -> Facts:
    """Return what ``end`` knows of its peer."""
    certificate = end.getpeercert() or {}
    return Facts(
        peer_der=end.getpeercert(binary_form=True),
        peer_names=tuple(
            (str(name[0]), str(name[1])) for name in certificate.get("subjectAltName", ())
        ),
        peer_not_after=verified_end(end) or 0.0,
        verified_root=verified_root(end),
        resumed=bool(end.session_reused),
    )

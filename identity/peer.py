"""A verified peer, and what one generation remembers of its peers.

Both tables belong to a generation and end with it: after a rotation nothing that was verified
against the old anchors is believed without a full handshake.
"""

from __future__ import annotations

import hashlib
from typing import Final, final

from core.record import dataclass
from identity.name import Identity

MAX_PEERS: Final = 4096
"""Peers remembered by one generation: some 4 MiB."""
MAX_SESSIONS: Final = 1024
"""Sessions kept by one generation to resume as a client."""

SessionKey = tuple[Identity, str, bool, str]
"""(expected identity, SNI, whether ALPN is offered, link): what a session may be resumed for."""


@final
@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as its certificate and the chain's root prove it."""

    identity: Identity | None
    """The first SAN that is a DNS name or URI and parses; None: nobody we could name."""
    identities: frozenset[Identity]
    """Every such SAN that the root may speak for."""
    trust_domain: str
    """The domain whose anchors the chain's root belongs to."""
    not_after: float
    """When its certificate, or anything that vouches for it, ends; in seconds since the epoch."""


@final
class PeerCache:
    """Leaf → peer, for resumed sessions, which prove possession of a ticket and nothing more."""

    __slots__ = ("_limit", "_peers")

    def __init__(self, limit: int = MAX_PEERS) -> None:
        self._limit = limit
        self._peers: dict[bytes, Peer] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def get(self, leaf: bytes) -> Peer | None:
        """Return the peer whose leaf (DER) was verified in full before."""
        key = _digest(leaf)
        peer = self._peers.pop(key, None)
        if peer is not None:
            # Back as the youngest: who still comes, be it with resumed sessions, is not forgotten.
            self._peers[key] = peer
        return peer

    def put(self, leaf: bytes, peer: Peer) -> None:
        """Remember a peer verified in full; at the bound who came longest ago is forgotten."""
        key = _digest(leaf)
        self._peers.pop(key, None)
        self._peers[key] = peer
        if len(self._peers) > self._limit:
            del self._peers[next(iter(self._peers))]

    def drop(self, leaf: bytes) -> None:
        """Forget a peer."""
        self._peers.pop(_digest(leaf), None)


@final
class ClientSessions:
    """Sessions to resume, one a key; at the bound the oldest goes."""

    __slots__ = ("_limit", "_sessions")

    def __init__(self, limit: int = MAX_SESSIONS) -> None:
        self._limit = limit
        self._sessions: dict[SessionKey, object] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: SessionKey) -> object | None:
        """Return the session to offer, None for a full handshake."""
        return self._sessions.get(key)

    def put(self, key: SessionKey, session: object) -> None:
        """Keep the session that the server's latest ticket made, of whichever TLS library."""
        self._sessions.pop(key, None)
        self._sessions[key] = session
        if len(self._sessions) > self._limit:
            del self._sessions[next(iter(self._sessions))]

    def drop(self, key: SessionKey) -> None:
        """Forget a session, as after a handshake with it that failed."""
        self._sessions.pop(key, None)


def _digest(leaf: bytes) -> bytes:
    # The digest, not the certificate: a hostile authority's leaf may be large.
    return hashlib.sha256(leaf).digest()

"""Who the peer of a finished handshake is (linkerd2-proxy, meshtls/verifier and client).

OpenSSL has proved that the chain hangs on some anchor and is in force, and that the peer holds
the key. What is left is decided here: that the chain's root may speak for the name, and that a
resumed session belongs to a peer this generation has verified in full.
"""

from __future__ import annotations

from typing import Protocol

from core.errors import HandshakeError
from identity.generation import Generation
from identity.name import Identity, identities_of
from identity.peer import Peer

__all__ = ["Peer", "TlsFacts", "authenticate", "expect"]


class TlsFacts(Protocol):
    """What the TLS library knows once a handshake is done."""

    @property
    def peer_der(self) -> bytes | None:
        """The peer's leaf; None when it showed none."""
        ...

    @property
    def peer_names(self) -> tuple[tuple[str, str], ...]:
        """The leaf's SANs in certificate order, as (kind, text): ``("DNS", "web")``."""
        ...

    @property
    def peer_not_after(self) -> float:
        """When the leaf, or anything that vouches for it, ends; in seconds since the epoch."""
        ...

    @property
    def verified_root(self) -> bytes | None:
        """The DER of the verified chain's last certificate; None when resumed."""
        ...

    @property
    def resumed(self) -> bool:
        """Whether an earlier session was taken up."""
        ...


def authenticate(generation: Generation, facts: TlsFacts, now: float) -> Peer | None:
    """Return the peer, None when it showed no certificate.

    ``now`` is in seconds since the epoch. Raises HandshakeError: ``identity-root`` when the
    chain's root is no anchor of the leaf's trust domain, ``resumed-unknown`` when a resumed
    session's peer has to come again with a full handshake.
    """
    leaf = facts.peer_der
    if leaf is None:
        return None
    if facts.resumed:
        return _remembered(generation, leaf, now)
    # Whoever proves to hold the key of a leaf that was verified in full is the same peer again,
    # whatever chain came along this time; OpenSSL has looked at the dates.
    known = generation.peers.get(leaf)
    if known is not None and now < known.not_after:
        return known
    peer = _verified(generation, facts)
    if now >= peer.not_after:
        # OpenSSL 4 still takes a certificate in the second that it ends in; resumption does not.
        raise HandshakeError(f"the certificate of {peer.identity or 'the peer'} has ended")
    generation.peers.put(leaf, peer)
    return peer


def expect(peer: Peer | None, expected: Identity, trust_domain: str = "") -> Peer:
    """Return the server's peer when it is ``expected``.

    On a linked path ``trust_domain`` is the domain whose anchors the root must belong to;
    otherwise it is the expected identity's own. Raises HandshakeError ``identity-mismatch``.
    """
    if peer is None:
        raise HandshakeError(
            f"the server showed no certificate; wanted {expected}", code="identity-mismatch"
        )
    # Every name in ``identities`` is one that the verified root may speak for, so that holding
    # the expected one settles the root's domain too.
    if expected not in peer.identities or (trust_domain and peer.trust_domain != trust_domain):
        seen = ", ".join(sorted(name.name for name in peer.identities)) or "nobody"
        within = f" in trust domain {trust_domain}" if trust_domain else ""
        raise HandshakeError(
            f"the server is {seen} of trust domain {peer.trust_domain}; wanted {expected}{within}",
            code="identity-mismatch",
        )
    return peer


def _remembered(generation: Generation, leaf: bytes, now: float) -> Peer:
    # A resumed session comes without a chain and without a look at dates (RFC 8446, 4.6.1).
    peer = generation.peers.get(leaf)
    if peer is None:
        raise HandshakeError(
            "a resumed session's peer was not verified under the present anchors",
            hint="a full handshake helps",
            code="resumed-unknown",
        )
    if now >= peer.not_after:
        generation.peers.drop(leaf)
        raise HandshakeError(
            f"the certificate of a resumed session's peer, {peer.identity}, has ended",
            hint="a full handshake helps",
            code="resumed-unknown",
        )
    return peer


def _verified(generation: Generation, facts: TlsFacts) -> Peer:
    anchors = generation.anchors
    names = identities_of(facts.peer_names)
    first = names[0] if names else None
    domain = anchors.domain_of(first)
    root = facts.verified_root
    if root is None or not anchors.vouches(root, domain):
        raise HandshakeError(
            f"the certificate of {first or 'a peer without a name'} hangs on a root that is no "
            f"anchor of {domain}",
            code="identity-root",
        )
    return Peer(
        identity=first,
        identities=frozenset(
            name for name in names if anchors.vouches(root, anchors.domain_of(name))
        ),
        trust_domain=domain,
        not_after=facts.peer_not_after,
    )

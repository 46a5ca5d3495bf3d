from __future__ import annotations

from identity.name import parse_identity
from identity.peer import MAX_PEERS, MAX_SESSIONS, ClientSessions, Peer, PeerCache
from tests.authority import Mesh
from tests.handshake import shake_hands

WEB = parse_identity("web.test")


def _peer(number: int) -> Peer:
    return Peer(WEB, frozenset({WEB}), "cluster.local", float(number))


def test_peers_are_kept_up_to_the_bound_and_who_stays_away_goes() -> None:
    """At the bound all are there; one more costs the place of who came longest ago."""
    peers = PeerCache()
    for number in range(MAX_PEERS):
        peers.put(b"%d" % number, _peer(number))
    assert len(peers) == MAX_PEERS
    assert peers.get(b"0") == _peer(0)
    peers.put(b"one more", _peer(1))
    assert len(peers) == MAX_PEERS
    assert peers.get(b"0") == _peer(0)
    assert peers.get(b"1") is None
    assert peers.get(b"2") == _peer(2)


def test_a_peer_verified_anew_is_the_newest() -> None:
    """Its value is replaced and its place renewed."""
    peers = PeerCache(limit=2)
    peers.put(b"a", _peer(1))
    peers.put(b"b", _peer(2))
    peers.put(b"a", _peer(3))
    peers.put(b"c", _peer(4))
    assert (peers.get(b"a"), peers.get(b"b"), peers.get(b"c")) == (_peer(3), None, _peer(4))
    peers.drop(b"a")
    peers.drop(b"never there")
    assert peers.get(b"a") is None


def test_sessions_are_kept_by_what_they_may_be_resumed_for(mesh: Mesh) -> None:
    """Another SNI, port or link is another session; the oldest goes at the bound."""
    web = mesh.generation("shop/web")
    session = shake_hands(
        web.server_context(direct=False), web.client_context(direct=False)
    ).session
    sessions = ClientSessions()
    for number in range(MAX_SESSIONS):
        sessions.put((WEB, f"s{number}", False, ""), session)
    assert len(sessions) == MAX_SESSIONS
    assert sessions.get((WEB, "s0", False, "")) is session
    assert sessions.get((WEB, "s0", True, "")) is None
    assert sessions.get((WEB, "s0", False, "west")) is None
    sessions.put((WEB, "s0", True, ""), session)
    assert len(sessions) == MAX_SESSIONS
    assert sessions.get((WEB, "s0", False, "")) is None
    sessions.drop((WEB, "s1", False, ""))
    sessions.drop((WEB, "s1", False, ""))
    assert sessions.get((WEB, "s1", False, "")) is None

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from core.errors import HandshakeError
from identity.anchors import Anchors
from identity.generation import Generation
from identity.name import Identity, parse_identity
from identity.verify import Peer, authenticate, expect
from tests.authority import Mesh, mk_identity
from tests.handshake import Facts, Pair, shake_hands

FAR = time.time() + 3600


@pytest.fixture(scope="module")
def web(mesh: Mesh) -> Generation:
    """One workload."""
    return mesh.generation("shop/web")


@pytest.fixture(scope="module")
def api(mesh: Mesh) -> Generation:
    """Another workload of the same domain."""
    return mesh.generation("shop/api")


def _joined(*meshes: Mesh) -> Anchors:
    """Anchors of several trust domains, as seen by the first."""
    return Anchors(
        meshes[0].authority.trust_domain,
        {mesh.authority.trust_domain: frozenset({mesh.root}) for mesh in meshes},
    )


def _between(client: Generation, server: Generation, **options: ssl.SSLSession) -> Pair:
    return shake_hands(
        server.server_context(direct=False),
        client.client_context(direct=False),
        server.server_name,
        **options,
    )


def _facts(root: bytes | None, *names: tuple[str, str], leaf: bytes = b"") -> Facts:
    leaf = leaf or repr((root, names)).encode()
    return Facts(leaf, names, FAR, root, resumed=False)


def test_both_ends_learn_who_the_other_is(mesh: Mesh, web: Generation, api: Generation) -> None:
    """Mutual TLS gives each end the other's identity, its domain and its end."""
    pair = _between(web, api)
    server = authenticate(web, pair.seen_by_client, time.time())
    client = authenticate(api, pair.seen_by_server, time.time())
    assert server == Peer(
        mk_identity("shop/api"),
        frozenset({mk_identity("shop/api")}),
        "cluster.local",
        api.not_after,
    )
    assert client is not None
    assert client.identity == mk_identity("shop/web")
    assert expect(server, mk_identity("shop/api")) is server


def test_a_client_without_a_certificate_is_nobody(api: Generation) -> None:
    """The server asks for a certificate and does not insist: the peer is None, not an error."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=api.anchors.union)
    pair = shake_hands(api.server_context(direct=False), client)
    assert authenticate(api, pair.seen_by_server, time.time()) is None


def test_a_spiffe_identity_is_verified_like_any_other(mesh: Mesh, web: Generation) -> None:
    """A URI SAN works on both sides, with whatever SNI was agreed."""
    who = "spiffe://cluster.local/ns/shop/sa/vm"
    machine = mesh.generation(who, server_name="vm.example")
    pair = _between(web, machine)
    peer = authenticate(web, pair.seen_by_client, time.time())
    assert expect(peer, parse_identity(who)).identity == Identity(who, is_uri=True)


@pytest.mark.parametrize(
    ("names", "first", "all_names"),
    [
        ((("DNS", "a.test"), ("DNS", "b.test")), "a.test", {"a.test", "b.test"}),
        ((("DNS", "A.TEST"),), "a.test", {"a.test"}),
        ((("DNS", "a.test."), ("DNS", "b.test")), "b.test", {"b.test"}),
        ((("DNS", "*.test"), ("DNS", "b.test")), "b.test", {"b.test"}),
        ((("IP Address", "10.0.0.1"), ("DNS", "b.test")), "b.test", {"b.test"}),
        ((("email", "b.test"), ("DirName", "b.test")), None, set()),
        ((("DNS", "spiffe://cluster.local/x"), ("DNS", "b.test")), "b.test", {"b.test"}),
        ((("URI", "b.test"), ("DNS", "c.test")), "c.test", {"c.test"}),
        ((("URI", "https://b.test"), ("DNS", "c.test")), "c.test", {"c.test"}),
        (
            (("URI", "spiffe://cluster.local/x"), ("DNS", "b.test")),
            "spiffe://cluster.local/x",
            {"spiffe://cluster.local/x", "b.test"},
        ),
        ((), None, set()),
    ],
)
def test_the_first_name_that_parses_is_the_identity(
    mesh: Mesh,
    web: Generation,
    names: tuple[tuple[str, str], ...],
    first: str | None,
    all_names: set[str],
) -> None:
    """SANs count in certificate order; what is neither DNS name nor URI, or is broken, does not."""
    peer = authenticate(web, _facts(mesh.root, *names), time.time())
    assert peer is not None
    assert (peer.identity and peer.identity.name) == first
    assert {name.name for name in peer.identities} == all_names


def test_a_linked_domain_is_believed_about_its_own_names_only(mesh: Mesh, foreign: Mesh) -> None:
    """The root of another trust domain vouches for that domain, and never for a name of ours."""
    web = mesh.generation("shop/web", anchors=_joined(mesh, foreign))
    theirs = mk_identity("shop/api", "west.example")
    peer = authenticate(web, _facts(foreign.root, ("DNS", theirs.name)), time.time())
    assert peer is not None
    assert peer.trust_domain == "west.example"
    assert expect(peer, theirs, "west.example") is peer
    for stolen in (mk_identity("shop/api").name, "plain.test", "spiffe://cluster.local/x"):
        kind = "URI" if "://" in stolen else "DNS"
        with pytest.raises(HandshakeError) as refused:
            authenticate(web, _facts(foreign.root, (kind, stolen)), time.time())
        assert refused.value.code == "identity-root"
    with pytest.raises(HandshakeError) as refused:
        authenticate(web, _facts(mesh.root, ("DNS", theirs.name)), time.time())
    assert refused.value.code == "identity-root"


def test_a_stolen_name_behind_an_honest_one_is_dropped(mesh: Mesh, foreign: Mesh) -> None:
    """A linked domain cannot smuggle a name of ours in as its leaf's second SAN."""
    web = mesh.generation("shop/web", anchors=_joined(mesh, foreign))
    theirs, ours = mk_identity("shop/api", "west.example"), mk_identity("shop/api")
    seen = _facts(foreign.root, ("DNS", theirs.name), ("DNS", ours.name))
    peer = authenticate(web, seen, time.time())
    assert peer is not None
    assert peer.identities == {theirs}
    with pytest.raises(HandshakeError) as refused:
        expect(peer, ours)
    assert refused.value.code == "identity-mismatch"


def test_a_foreign_leaf_is_refused_through_a_real_handshake(mesh: Mesh, foreign: Mesh) -> None:
    """OpenSSL's store is the union of all domains; the root check is what tells them apart."""
    anchors = _joined(mesh, foreign)
    web = mesh.generation("shop/web", anchors=anchors)
    api = foreign.generation("shop/api", anchors=_joined(foreign, mesh))
    pair = _between(web, api)
    peer = authenticate(web, pair.seen_by_client, time.time())
    assert peer is not None
    assert peer.trust_domain == "west.example"
    with pytest.raises(HandshakeError) as refused:
        expect(peer, mk_identity("shop/api"))
    assert refused.value.code == "identity-mismatch"
    swapped = replace(pair.seen_by_client, verified_root=mesh.root)
    fresh = mesh.generation("shop/web", anchors=anchors)
    with pytest.raises(HandshakeError) as refused:
        authenticate(fresh, swapped, time.time())
    assert refused.value.code == "identity-root"


def test_a_leaf_verified_before_is_the_same_peer_again(mesh: Mesh) -> None:
    """A full handshake with a known leaf is not read anew; another leaf is."""
    web = mesh.generation("shop/web")
    first = _facts(mesh.root, ("DNS", "a.test"), leaf=b"one")
    peer = authenticate(web, first, time.time())
    assert authenticate(web, replace(first, peer_names=()), time.time()) is peer
    other = authenticate(web, replace(first, peer_der=b"two", peer_names=()), time.time())
    assert other is not None
    assert other.identity is None


def test_an_unknown_root_and_a_missing_one_are_refused(web: Generation) -> None:
    """Without a root that we know nobody vouches for the name."""
    for root in (None, b"", b"another root"):
        with pytest.raises(HandshakeError) as refused:
            authenticate(web, _facts(root, ("DNS", "a.test")), time.time())
        assert refused.value.code == "identity-root"


def test_the_server_has_to_be_the_expected_one(web: Generation, api: Generation) -> None:
    """The message says who was seen and who was wanted."""
    peer = authenticate(web, _between(web, api).seen_by_client, time.time())
    cases = [
        (peer, mk_identity("shop/orders"), ""),
        (peer, mk_identity("shop/api"), "west.example"),
        (None, mk_identity("shop/api"), ""),
    ]
    for seen, wanted, domain in cases:
        with pytest.raises(HandshakeError) as refused:
            expect(seen, wanted, domain)
        assert refused.value.code == "identity-mismatch"
        assert wanted.name in str(refused.value)
        if seen is not None:
            assert mk_identity("shop/api").name in str(refused.value)


def test_a_resumed_peer_is_the_one_verified_before(mesh: Mesh) -> None:
    """Both ends take a resumed session's peer from the cache, where it was put in full."""
    web, api = mesh.generation("shop/web"), mesh.generation("shop/api")
    first = _between(web, api)
    server = authenticate(web, first.seen_by_client, time.time())
    client = authenticate(api, first.seen_by_server, time.time())
    again = _between(web, api, session=first.session)
    assert again.seen_by_client.resumed
    assert again.seen_by_server.resumed
    assert again.seen_by_server.verified_root is None
    assert authenticate(web, again.seen_by_client, time.time()) is server
    assert authenticate(api, again.seen_by_server, time.time()) is client


def test_a_resumed_peer_that_is_not_remembered_is_refused(mesh: Mesh) -> None:
    """A ticket alone proves nothing: forgotten, or never verified, means a full handshake."""
    web, api = mesh.generation("shop/web"), mesh.generation("shop/api")
    first = _between(web, api)
    authenticate(api, first.seen_by_server, time.time())
    leaf = first.seen_by_server.peer_der
    assert leaf is not None
    api.peers.drop(leaf)
    again = _between(web, api, session=first.session)
    with pytest.raises(HandshakeError) as refused:
        authenticate(api, again.seen_by_server, time.time())
    assert refused.value.code == "resumed-unknown"


def test_a_resumed_peer_past_its_end_is_refused(mesh: Mesh) -> None:
    """The library looks at no date when it resumes; we do, to the second."""
    web, api = mesh.generation("shop/web"), mesh.generation("shop/api")
    first = _between(web, api)
    authenticate(api, first.seen_by_server, time.time())
    again = _between(web, api, session=first.session)
    assert authenticate(api, again.seen_by_server, web.not_after - 1) is not None
    with pytest.raises(HandshakeError) as refused:
        authenticate(api, again.seen_by_server, web.not_after)
    assert refused.value.code == "resumed-unknown"
    assert len(api.peers) == 0


def test_a_session_does_not_outlive_its_generation(mesh: Mesh) -> None:
    """After a rotation the ticket is worth nothing: the handshake is a full one."""
    web, api = mesh.generation("shop/web"), mesh.generation("shop/api")
    first = _between(web, api)
    rotated = mesh.generation("shop/api")
    again = _between(web, rotated, session=first.session)
    assert not again.seen_by_server.resumed
    assert authenticate(rotated, again.seen_by_server, time.time()) is not None


def test_nothing_on_the_proxy_side_imports_the_cryptography_package() -> None:
    """The package costs the sidecar 11 MiB; only the issuer and the bootstrap pay them."""
    modules = "identity.verify, identity.generation, identity.anchors, identity.name"
    script = f"import sys, {modules}\nassert 'cryptography' not in sys.modules, 'imported'"
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == 0


def test_a_leaf_that_ends_now_is_no_proof_any_more(mesh: Mesh) -> None:
    """Not in a full handshake either, whatever the library makes of that second."""
    web, api = mesh.generation("shop/web"), mesh.generation("shop/api")
    seen = _between(web, api).seen_by_server
    end = min(web.not_after, web.authority_not_after)
    with pytest.raises(HandshakeError, match="has ended"):
        authenticate(api, seen, end)
    assert authenticate(api, seen, end - 1) is not None
    with pytest.raises(HandshakeError, match="has ended"):
        authenticate(api, seen, end)

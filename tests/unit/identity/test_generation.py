from __future__ import annotations

import math
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from core.errors import IdentityError
from identity.anchors import Anchors
from identity.csr import create_csr
from identity.generation import MAX_CHAIN, MAX_CHAIN_BYTES, Generation, build_generation
from identity.issuer import ROOT_LIFETIME, Issued, Issuer, create_authority
from identity.key import create_key, write_key
from identity.name import parse_identity
from identity.pem import join_pem
from tests.authority import Mesh, mk_identity, mk_mesh
from tests.handshake import shake_hands

WEB = mk_identity("shop/web")


def _build(
    mesh: Mesh,
    directory: Path,
    issued: Issued,
    *,
    chain: tuple[bytes, ...] | None = None,
    anchors: Anchors | None = None,
    now: float | None = None,
) -> Generation:
    return build_generation(
        leaf_chain_der=chain if chain is not None else (issued.leaf, *issued.intermediates),
        key_path=directory / "key.pem",
        anchors=anchors or mesh.anchors,
        identity=WEB,
        now=time.time() if now is None else now,
    )


def test_a_generation_knows_its_validity_and_fingerprint(mesh: Mesh, tmp_path: Path) -> None:
    """Facts come from the leaf; the SNI is the identity unless one is given."""
    now = time.time()
    generation = _build(mesh, tmp_path, mesh.leaf(WEB, tmp_path, now=now))
    assert generation.identity == WEB
    assert generation.server_name == WEB.name
    assert int(now - 20) == generation.not_before
    assert math.ceil(now + 86_420) == generation.not_after
    assert len(generation.fingerprint) == 64
    assert generation.server_context(direct=True) is generation.server_context(direct=True)
    assert generation.server_context(direct=True) is not generation.server_context(direct=False)


def test_a_generation_shows_nothing_of_its_key(mesh: Mesh, tmp_path: Path) -> None:
    """What is printed names the identity and the leaf."""
    generation = _build(mesh, tmp_path, mesh.leaf(WEB, tmp_path))
    assert repr(generation) == f"<Generation {WEB} {generation.fingerprint[:16]}>"


def test_the_direct_port_alone_speaks_alpn(mesh: Mesh) -> None:
    """The direct contexts agree on the transport protocol; the others neither ask nor answer."""
    web = mesh.generation("shop/web")
    for server_direct, client_direct, alpn in [
        (True, True, "transport.l5d.io/v1"),
        (True, False, None),
        (False, True, None),
        (False, False, None),
    ]:
        pair = shake_hands(
            web.server_context(direct=server_direct), web.client_context(direct=client_direct)
        )
        assert pair.server.selected_alpn_protocol() == alpn
        assert pair.client.selected_alpn_protocol() == alpn
        assert pair.client.version() == "TLSv1.3"


@pytest.mark.parametrize("side", ["client", "server"])
def test_tls_1_2_is_refused_on_both_sides(mesh: Mesh, side: str) -> None:
    """A peer that cannot do better is turned away in the handshake."""
    web = mesh.generation("shop/web")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if side == "client" else ssl.PROTOCOL_TLS_SERVER)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    if side == "client":
        old.check_hostname = False
        old.load_verify_locations(cadata=web.anchors.union)
    with pytest.raises(ssl.SSLError):
        if side == "client":
            shake_hands(web.server_context(direct=False), old)
        else:
            shake_hands(old, web.client_context(direct=False))


def test_a_peer_under_an_unknown_root_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    """Same domain, same subjects, another root: neither side takes the other."""
    other = mk_mesh(tmp_path / "other")
    web, stranger = mesh.generation("shop/web"), other.generation("shop/web")
    for server, client in ((web, stranger), (stranger, web)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server.server_context(direct=False), client.client_context(direct=False))


@pytest.mark.parametrize("shift_s", [-10.0, 1000.0], ids=["expired", "not yet valid"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_peer_out_of_its_time_is_refused(
    mesh: Mesh, tmp_path: Path, shift_s: float, side: str
) -> None:
    """Neither end takes a leaf that has ended or not begun, to whoever it belongs."""
    issued = mesh.leaf(WEB, tmp_path, now=time.time() + shift_s, lifetime_s=1, skew_s=0)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(join_pem([issued.leaf, *issued.intermediates]))
    peer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if side == "client" else ssl.PROTOCOL_TLS_SERVER)
    peer.load_cert_chain(chain, tmp_path / "key.pem")
    web = mesh.generation("shop/web")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
        if side == "server":
            shake_hands(peer, web.client_context(direct=False))
        else:
            peer.check_hostname = False
            peer.load_verify_locations(cadata=web.anchors.union)
            shake_hands(web.server_context(direct=False), peer)


def test_two_roots_of_equal_subject_both_work(mesh: Mesh, tmp_path: Path) -> None:
    """In a rotation old and new root bear one name; leaves of both are accepted by both."""
    other = mk_mesh(tmp_path / "other")
    both = Anchors("cluster.local", {"cluster.local": frozenset({mesh.root, other.root})})
    old = mesh.generation("shop/web", anchors=both)
    new = other.generation("shop/web", anchors=both)
    for server in (old, new):
        for client in (old, new):
            pair = shake_hands(
                server.server_context(direct=False), client.client_context(direct=False)
            )
            assert pair.seen_by_client.verified_root in {mesh.root, other.root}
            expected = mesh.root if server is old else other.root
            assert pair.seen_by_client.verified_root == expected


def test_one_ticket_a_handshake(mesh: Mesh) -> None:
    """A second ticket would cost a third of the handshake's time."""
    assert mesh.generation("shop/web").server_context(direct=False).num_tickets == 1


def test_an_anchor_need_not_be_self_signed(mesh: Mesh, tmp_path: Path) -> None:
    """Trusting an issuer itself works, as with Go and rustls."""
    issued = mesh.leaf(WEB, tmp_path)
    issuer = issued.intermediates[0]
    anchors = Anchors("cluster.local", {"cluster.local": frozenset({issuer})})
    generation = _build(mesh, tmp_path, issued, anchors=anchors)
    pair = shake_hands(
        generation.server_context(direct=False), generation.client_context(direct=False)
    )
    assert pair.seen_by_client.verified_root == issuer


def _another_key(mesh: Mesh, directory: Path, issued: Issued) -> Issued:
    (directory / "key.pem").unlink()
    write_key(directory / "key.pem", create_key())
    return issued


def _encrypted_key(mesh: Mesh, directory: Path, issued: Issued) -> Issued:
    pem = create_key().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (directory / "key.pem").write_bytes(pem)
    return issued


def _garbage_key(mesh: Mesh, directory: Path, issued: Issued) -> Issued:
    (directory / "key.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n")
    return issued


def _no_key(mesh: Mesh, directory: Path, issued: Issued) -> Issued:
    (directory / "key.pem").unlink()
    return issued


def _open_key(mesh: Mesh, directory: Path, issued: Issued) -> Issued:
    (directory / "key.pem").chmod(0o644)
    return issued


def _key_is_a_directory(mesh: Mesh, directory: Path, issued: Issued) -> Issued:
    (directory / "key.pem").unlink()
    (directory / "key.pem").mkdir(mode=0o700)
    return issued


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_another_key, "of no use together"),
        (_encrypted_key, "of no use together"),
        (_garbage_key, "of no use together"),
        (_no_key, "cannot read"),
        (_open_key, "mode 0644"),
        (_key_is_a_directory, "not a regular file"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(
    mesh: Mesh, tmp_path: Path, break_it: Callable[[Mesh, Path, Issued], Issued], words: str
) -> None:
    """Each fault of the key file gets its sentence, and none of them waits for a terminal."""
    issued = break_it(mesh, tmp_path, mesh.leaf(WEB, tmp_path))
    with pytest.raises(IdentityError, match=words):
        _build(mesh, tmp_path, issued)


def test_a_chain_that_peers_would_refuse_is_not_installed(mesh: Mesh, tmp_path: Path) -> None:
    """The new leaf is verified the way a client would before anyone sees it."""
    issued = mesh.leaf(WEB, tmp_path)
    chain = (issued.leaf, *issued.intermediates)
    foreign = mk_mesh(tmp_path / "other")
    for wrong, words in [
        ((), "0 certificates"),
        (chain[:1], "does not verify"),
        ((chain[0],) * (MAX_CHAIN + 1), "certificates; 1 to"),
        ((chain[0], b"x" * MAX_CHAIN_BYTES), "bytes"),
        ((b"garbage", chain[1]), "of no use together"),
        ((chain[1], chain[0]), "of no use together"),
    ]:
        with pytest.raises(IdentityError, match=words):
            _build(mesh, tmp_path, issued, chain=wrong)
    with pytest.raises(IdentityError, match="does not verify"):
        _build(mesh, tmp_path, issued, anchors=foreign.anchors)
    assert _build(mesh, tmp_path, issued).fingerprint


def test_validity_is_checked_against_the_given_moment(mesh: Mesh, tmp_path: Path) -> None:
    """From notBefore on and up to, not including, notAfter."""
    issued = mesh.leaf(WEB, tmp_path)
    whole = _build(mesh, tmp_path, issued)
    _build(mesh, tmp_path, issued, now=whole.not_before)
    _build(mesh, tmp_path, issued, now=whole.not_after - 0.5)
    for now in (whole.not_before - 0.5, whole.not_after):
        with pytest.raises(IdentityError, match="valid from"):
            _build(mesh, tmp_path, issued, now=now)


def test_a_leaf_that_is_not_yet_valid_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    """A peer's library would not take it before its time, whatever we believe the time to be."""
    moment = time.time() + 100_000
    issued = mesh.leaf(WEB, tmp_path, now=moment)
    with pytest.raises(IdentityError, match="not yet valid"):
        _build(mesh, tmp_path, issued, now=moment)


def test_an_expired_leaf_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    """The same at the other end: an authority made long ago, whose leaf is over."""
    root_key, issuer_key, key = create_key(), create_key(), create_key()
    then = time.time() - 200_000
    root = create_authority("root", root_key, lifetime=ROOT_LIFETIME, now=then)
    middle = create_authority(
        "issuer", issuer_key, lifetime=ROOT_LIFETIME, now=then, parent=(root, root_key)
    )
    write_key(tmp_path / "key.pem", key)
    der = root.public_bytes(Encoding.DER)
    anchors = Anchors("cluster.local", {"cluster.local": frozenset({der})})
    issued = Issuer([middle], issuer_key).issue(create_csr(key, WEB), WEB, anchors, then)
    with pytest.raises(IdentityError, match="expired"):
        _build(mesh, tmp_path, issued, anchors=anchors, now=then)


def test_a_leaf_for_somebody_else_is_not_ours(mesh: Mesh, tmp_path: Path) -> None:
    """The certificate has to contain our own identity; the message says whose it is."""
    issued = mesh.leaf(mk_identity("shop/api"), tmp_path)
    with pytest.raises(IdentityError, match=r"api\.shop"):
        _build(mesh, tmp_path, issued)


def test_our_identity_has_to_be_of_our_trust_domain(mesh: Mesh, tmp_path: Path) -> None:
    """A name of another domain cannot be ours, whoever issued it."""
    issued = mesh.leaf(WEB, tmp_path)
    with pytest.raises(IdentityError, match="trust domain"):
        build_generation(
            leaf_chain_der=(issued.leaf, *issued.intermediates),
            key_path=tmp_path / "key.pem",
            anchors=mesh.anchors,
            identity=parse_identity("spiffe://west.example/web"),
            now=time.time(),
        )


def test_building_leaks_no_descriptor(mesh: Mesh, tmp_path: Path) -> None:
    """Built or refused, the key's and the chain's descriptors are closed again."""
    issued = mesh.leaf(WEB, tmp_path)
    _build(mesh, tmp_path, issued)
    before = len(list(Path("/proc/self/fd").iterdir()))
    _build(mesh, tmp_path, issued)
    for wrong in ((b"garbage",), (issued.leaf,)):
        with pytest.raises(IdentityError):
            _build(mesh, tmp_path, issued, chain=wrong)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_new_anchors_keep_the_leaf_and_forget_the_peers(mesh: Mesh, tmp_path: Path) -> None:
    """Same key, same leaf, same SNI; contexts, peers and sessions are new."""
    other = mk_mesh(tmp_path / "other")
    both = Anchors("cluster.local", {"cluster.local": frozenset({mesh.root, other.root})})
    before = mesh.generation("shop/web", server_name="web.example")
    after = before.under(both)
    assert after.trouble == ""
    assert (after.identity, after.server_name) == (before.identity, "web.example")
    assert after.credential is before.credential
    assert (after.not_before, after.not_after) == (before.not_before, before.not_after)
    assert after.anchors is both
    assert after.server_context(direct=False) is not before.server_context(direct=False)
    assert after.peers is not before.peers
    assert after.sessions is not before.sessions
    api = other.generation("shop/api", anchors=both)
    shake_hands(api.server_context(direct=False), after.client_context(direct=False))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(api.server_context(direct=False), before.client_context(direct=False))


def test_anchors_count_even_when_they_do_not_vouch_for_our_leaf(mesh: Mesh, tmp_path: Path) -> None:
    """Whom we trust does not depend on who trusts us: peers of the old root are refused."""
    other = mk_mesh(tmp_path / "other")
    before = mesh.generation("shop/web")
    after = before.under(other.anchors)
    assert "does not verify" in after.trouble
    assert (after.not_before, after.not_after) == (before.not_before, before.not_after)
    api, stranger = mesh.generation("shop/api"), other.generation("shop/api")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(after.server_context(direct=False), api.client_context(direct=False))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(stranger.server_context(direct=False), after.client_context(direct=False))


def test_a_root_of_a_linked_domain_does_not_make_our_leaf_good(
    mesh: Mesh, foreign: Mesh, tmp_path: Path
) -> None:
    """Our root moved to another domain's bundle vouches for nobody of ours."""
    moved = Anchors(
        "cluster.local",
        {"cluster.local": frozenset({foreign.root}), "west.example": frozenset({mesh.root})},
    )
    assert "no anchor of cluster.local" in mesh.generation("shop/web").under(moved).trouble


def test_a_generation_knows_when_its_issuer_and_anchors_end(mesh: Mesh) -> None:
    """The ends are those of the certificates."""
    web = mesh.generation("shop/web")
    issuer = x509.load_der_x509_certificate(web.credential.chain[1])
    root = x509.load_der_x509_certificate(mesh.root)
    assert web.authority_not_after == issuer.not_valid_after_utc.timestamp()
    assert web.anchor_ends == {mesh.root: root.not_valid_after_utc.timestamp()}


def test_a_leaf_right_under_an_anchor_has_no_issuer_in_its_chain(
    mesh: Mesh, tmp_path: Path
) -> None:
    """There is nothing to count down but leaf and anchor."""
    issued = mesh.leaf(WEB, tmp_path)
    anchors = Anchors("cluster.local", {"cluster.local": frozenset({issued.intermediates[0]})})
    web = _build(mesh, tmp_path, issued, chain=(issued.leaf,), anchors=anchors)
    assert web.authority_not_after == 0.0

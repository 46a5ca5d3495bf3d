from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from core.errors import OUTCOMES, IdentityError
from identity import certify as certify_module
from identity.certify import Certifier
from identity.csr import create_csr
from identity.files import replace as replace_file
from identity.issuer import ISSUER_LIFETIME, create_authority, read_chain
from identity.key import create_key, read_key, write_key
from identity.ledger import Entry, append_entry, leaves_in_use, read_entries
from identity.pem import join_pem, split_pem
from identity.request import INVALID, REFUSALS, REFUSED, UNAVAILABLE, CertifyRequest
from tests.authority import Mesh, mk_identity, mk_mesh

KEY = create_key()
WEB = mk_identity("shop/web")
API = mk_identity("shop/api")


@pytest.fixture
def own(tmp_path: Path) -> Mesh:
    """An authority that a test may spoil."""
    return mk_mesh(tmp_path / "authority")


def _no_warning(message: str) -> None:
    raise AssertionError(message)


def _request(mesh: Mesh) -> CertifyRequest:
    token = mesh.authority.create_token(WEB).encode()
    return CertifyRequest(WEB.name, token, create_csr(KEY, WEB))


def test_a_good_request_is_granted_and_entered_in_the_ledger(own: Mesh) -> None:
    """The leaf is for the request's key; its serial and end are in the ledger."""
    certifier = Certifier(
        own.authority, warn=_no_warning, lifetime=timedelta(hours=1), skew=timedelta()
    )
    now = float(int(time.time()))
    certified = certifier.certify(_request(own), now)
    leaf = x509.load_der_x509_certificate(certified.leaf)
    assert leaf.public_key() == KEY.public_key()
    assert certified.valid_until == now + 3600
    issuer = own.authority.load_issuer().fingerprint
    assert list(read_entries(own.authority.ledger)) == [
        Entry(f"{leaf.serial_number:x}", WEB.name, issuer, now + 3600)
    ]
    assert certifier.check(now) > now


def _no_name(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, identity="")


def _no_token(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, token=b"")


def _no_csr(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, csr=b"")


def _bad_name(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, identity="a..b")


def _another_name(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, identity=API.name)


def _another_csr(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, csr=create_csr(KEY, API))


def _another_workload(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, identity=API.name, csr=create_csr(KEY, API))


def _another_token(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, token=mesh.authority.create_token(API).encode())


def _ended_token(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, token=mesh.authority.create_token(WEB, int(time.time()) - 1).encode())


def _garbage_token(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, token=b"garbage")


def _garbage_csr(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    return replace(request, csr=b"garbage")


def _foreign(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    foreign = mk_identity("shop/web", "west.example")
    return CertifyRequest(
        foreign.name, mesh.authority.create_token(foreign).encode(), create_csr(KEY, foreign)
    )


def _open_secret(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    mesh.authority.token_secret.chmod(0o644)
    return request


def _no_anchors(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    (mesh.authority.anchors / "cluster.local.pem").write_bytes(b"")
    return request


def _other_anchors(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    other = mk_mesh(mesh.authority.directory / "other")
    (mesh.authority.anchors / "cluster.local.pem").write_bytes(join_pem([other.root]))
    return request


def _no_issuer(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    mesh.authority.issuer_certificate.unlink()
    return request


def _open_issuer_key(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    mesh.authority.issuer_key.chmod(0o644)
    return request


def _no_ledger(mesh: Mesh, request: CertifyRequest) -> CertifyRequest:
    mesh.authority.ledger.mkdir()
    return request


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_no_name, INVALID, "lacks its identity"),
        (_no_token, INVALID, "lacks its token"),
        (_no_csr, INVALID, "lacks its CSR"),
        (_bad_name, INVALID, "no identity"),
        (_another_name, REFUSED, "the CSR is for"),
        (_another_csr, REFUSED, "the CSR is for"),
        (_another_workload, REFUSED, "the token is"),
        (_another_token, REFUSED, "the token is"),
        (_ended_token, REFUSED, "ended"),
        (_garbage_token, REFUSED, "the token is not one"),
        (_garbage_csr, REFUSED, "cannot be parsed"),
        (_foreign, REFUSED, "west.example"),
        (_open_secret, UNAVAILABLE, "mode 0644"),
        (_no_anchors, UNAVAILABLE, "no usable trust anchor"),
        (_other_anchors, UNAVAILABLE, "does not hang"),
        (_no_issuer, UNAVAILABLE, "cannot read"),
        (_open_issuer_key, UNAVAILABLE, "mode 0644"),
        (_no_ledger, UNAVAILABLE, "ledger"),
    ],
)
def test_every_other_request_is_refused(
    own: Mesh, spoil: Callable[[Mesh, CertifyRequest], CertifyRequest], code: str, words: str
) -> None:
    """Each with its code and its sentence, and nothing goes into the ledger."""
    certifier = Certifier(own.authority, warn=_no_warning)
    request = spoil(own, _request(own))
    with pytest.raises(IdentityError) as refused:
        certifier.certify(request, time.time())
    assert refused.value.code == code
    assert words in str(refused.value)
    if spoil is not _no_ledger:
        assert list(read_entries(own.authority.ledger)) == []


def test_the_refusals_map_to_linkerd_s_statuses() -> None:
    """Unavailable, invalid argument, failed precondition."""
    assert {code: OUTCOMES[code].grpc for code in REFUSALS} == {
        UNAVAILABLE: 14,
        INVALID: 3,
        REFUSED: 9,
    }


def test_an_expired_issuer_issues_nothing(own: Mesh) -> None:
    """Nor is one whose anchor left the bundle any use; both are looked at for each request."""
    certifier = Certifier(own.authority, warn=_no_warning)
    certifier.certify(_request(own), time.time())
    (issuer,) = read_chain(own.authority.issuer_certificate)
    with pytest.raises(IdentityError, match="valid from") as refused:
        certifier.certify(_request(own), issuer.not_valid_after_utc.timestamp())
    assert refused.value.code == UNAVAILABLE
    _other_anchors(own, _request(own))
    with pytest.raises(IdentityError, match="does not hang"):
        certifier.certify(_request(own), time.time())


def test_a_new_issuer_is_taken_up_without_a_restart(own: Mesh) -> None:
    """While only one of its two files is there the old one goes on; then the new one issues."""
    warnings: list[str] = []
    certifier = Certifier(own.authority, warn=warnings.append)
    now = time.time()
    certifier.certify(_request(own), now)
    old = own.authority.load_issuer().fingerprint
    (root,) = read_chain(own.authority.root_certificate)
    key = create_key()
    new = create_authority(
        "new",
        key,
        lifetime=ISSUER_LIFETIME,
        now=now,
        parent=(root, read_key(own.authority.root_key)),
    )
    replace_file(own.authority.issuer_certificate, join_pem([new.public_bytes(Encoding.DER)]))
    certifier.certify(_request(own), now)
    assert len(warnings) == 1
    assert "does not match" in warnings[0]
    own.authority.issuer_key.unlink()
    write_key(own.authority.issuer_key, key)
    certifier.certify(_request(own), now)
    assert len(warnings) == 1
    found, _ = leaves_in_use(own.authority.ledger, now)
    assert {issuer: use.leaves for issuer, use in found.items()} == {
        old: 2,
        own.authority.load_issuer().fingerprint: 1,
    }


def test_an_issuer_under_a_root_that_is_not_trusted_is_not_taken(own: Mesh, tmp_path: Path) -> None:
    """The old one goes on until the root is an anchor; said once."""
    warnings: list[str] = []
    certifier = Certifier(own.authority, warn=warnings.append)
    now = time.time()
    certifier.certify(_request(own), now)
    old = own.authority.load_issuer().fingerprint
    other = mk_mesh(tmp_path / "other")
    for name in ("issuer.pem", "issuer.key"):
        replace_file(
            own.authority.directory / name, (other.authority.directory / name).read_bytes()
        )
    for _ in range(2):
        certifier.certify(_request(own), now)
    assert len(warnings) == 1
    assert "does not hang" in warnings[0]
    bundle = own.authority.anchors / "cluster.local.pem"
    replace_file(bundle, join_pem([own.root, other.root]), mode=0o644)
    certifier.certify(_request(own), now)
    found, _ = leaves_in_use(own.authority.ledger, now)
    assert found[old].leaves == 3
    assert found[other.authority.load_issuer().fingerprint].leaves == 1


def test_anchors_that_become_broken_keep_the_issuer_going(own: Mesh) -> None:
    """Half a bundle is no bundle; said once, and again when it breaks again."""
    warnings: list[str] = []
    certifier = Certifier(own.authority, warn=warnings.append)
    certifier.certify(_request(own), time.time())
    bundle = own.authority.anchors / "cluster.local.pem"
    whole = bundle.read_bytes()
    for _ in range(2):
        bundle.write_bytes(whole[:-40])
        for _ in range(2):
            certifier.certify(_request(own), time.time())
        bundle.write_bytes(whole)
        certifier.certify(_request(own), time.time())
    assert len([each for each in warnings if "stay" in each]) == 2


def test_a_leaf_of_an_issuer_exchanged_meanwhile_is_not_given_out(
    own: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who exchanged the files and then read the ledger has seen every leaf of the old issuer."""
    certifier = Certifier(own.authority, warn=_no_warning)
    old = own.authority.load_issuer().fingerprint
    bundle = own.authority.anchors / "cluster.local.pem"
    other = mk_mesh(tmp_path / "other")
    replace_file(bundle, join_pem([own.root, other.root]), mode=0o644)
    exchanges = [1]

    def exchange_before_entering(path: Path, entry: Entry) -> None:
        if exchanges:
            exchanges.pop()
            for name in ("issuer.key", "issuer.pem"):
                replace_file(
                    own.authority.directory / name, (other.authority.directory / name).read_bytes()
                )
        append_entry(path, entry)

    monkeypatch.setattr(certify_module, "append_entry", exchange_before_entering)
    certified = certifier.certify(_request(own), time.time())
    new = other.authority.load_issuer()
    assert (
        list(certified.intermediates)
        == split_pem(other.authority.issuer_certificate.read_bytes())[0]
    )
    found, _ = leaves_in_use(own.authority.ledger, time.time())
    assert {issuer: use.leaves for issuer, use in found.items()} == {old: 1, new.fingerprint: 1}


def test_what_is_about_to_end_is_said(own: Mesh) -> None:
    """Issuer and anchors, sixty days before; and when nothing is issued any more."""
    certifier = Certifier(own.authority, warn=lambda message: None)
    now = time.time()
    assert certifier.warnings(now) == []
    (issuer,) = read_chain(own.authority.issuer_certificate)
    end = issuer.not_valid_after_utc.timestamp()
    (warning,) = certifier.warnings(end - 59 * 86_400)
    assert "the issuer ends at" in warning
    (root,) = read_chain(own.authority.root_certificate)
    end = root.not_valid_after_utc.timestamp()
    over, ending = certifier.warnings(end - 1)
    assert "the issuer ended" in over
    assert "the trust anchor" in ending
    (own.authority.issuer_certificate).unlink()
    fresh = Certifier(own.authority, warn=_no_warning)
    (warning,) = fresh.warnings(now)
    assert warning.startswith("nothing is issued: cannot read")


def test_a_request_hides_what_is_secret_in_it(own: Mesh) -> None:
    """The token is not shown where a request is printed."""
    request = _request(own)
    assert request.token.decode() not in repr(request)

from __future__ import annotations

import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import IdentityError
from identity.anchors import Anchors
from identity.csr import create_csr
from identity.issuer import (
    ISSUER_LIFETIME,
    ROOT_LIFETIME,
    Issuer,
    create_authority,
    load_issuer,
    read_chain,
)
from identity.key import create_key, write_key
from identity.name import Identity, parse_identity
from identity.pem import join_pem
from tests.authority import Mesh, mk_identity

NOW = 1_800_000_000.0
DAY = 86_400.0
KEY = create_key()
ROOT_KEY, ISSUER_KEY = create_key(), create_key()
ROOT = create_authority("root", ROOT_KEY, lifetime=ROOT_LIFETIME, now=NOW)
ISSUER = create_authority(
    "issuer", ISSUER_KEY, lifetime=ISSUER_LIFETIME, now=NOW, parent=(ROOT, ROOT_KEY)
)
ANCHORS = Anchors("cluster.local", {"cluster.local": frozenset({ROOT.public_bytes(Encoding.DER)})})
WEB = mk_identity("shop/web")


def _issue(
    identity: Identity = WEB, *, issuer: Issuer | None = None, now: float = NOW
) -> tuple[x509.Certificate, float]:
    issuer = issuer or Issuer([ISSUER], ISSUER_KEY)
    issued = issuer.issue(create_csr(KEY, identity), identity, ANCHORS, now)
    assert issued.intermediates == (ISSUER.public_bytes(Encoding.DER),)
    return x509.load_der_x509_certificate(issued.leaf), issued.not_after


def test_a_leaf_is_what_linkerd_issues() -> None:
    """P-256, both ends of TLS, no authority, key identifiers, no root in the answer."""
    leaf, not_after = _issue()
    leaf.verify_directly_issued_by(ISSUER)
    extensions = leaf.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (
        True,
        True,
        False,
    )
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(WEB.name)]
    identifier = ISSUER.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == identifier.digest
    own = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert own == x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
    assert isinstance(leaf.signature_hash_algorithm, hashes.SHA256)
    assert leaf.public_key() == KEY.public_key()
    assert not_after == leaf.not_valid_after_utc.timestamp()


def test_a_leaf_lives_a_day_and_the_skew_at_both_ends() -> None:
    """24 h and 20 s by default; both are settings."""
    leaf, _ = _issue()
    assert leaf.not_valid_before_utc.timestamp() == NOW - 20
    assert leaf.not_valid_after_utc.timestamp() == NOW + DAY + 20
    short = Issuer([ISSUER], ISSUER_KEY, lifetime=timedelta(seconds=3), skew=timedelta())
    leaf, _ = _issue(issuer=short, now=NOW + 1)
    assert leaf.not_valid_before_utc.timestamp() == NOW + 1
    assert leaf.not_valid_after_utc.timestamp() == NOW + 4


def test_the_end_is_clamped_to_the_earliest_in_the_chain() -> None:
    """A leaf never outlives its issuer, nor an issuer its root."""
    end = ISSUER.not_valid_after_utc.timestamp()
    leaf, not_after = _issue(now=end - DAY / 2)
    assert leaf.not_valid_after_utc == ISSUER.not_valid_after_utc
    assert not_after == end
    late = ROOT.not_valid_after_utc.timestamp() - DAY / 4
    key = create_key()
    issuer = create_authority(
        "late", key, lifetime=ISSUER_LIFETIME, now=late, parent=(ROOT, ROOT_KEY)
    )
    assert issuer.not_valid_after_utc == ROOT.not_valid_after_utc
    issued = Issuer([issuer], key).issue(create_csr(KEY, WEB), WEB, ANCHORS, late)
    assert issued.not_after == ROOT.not_valid_after_utc.timestamp()


def test_serials_do_not_repeat_and_have_room() -> None:
    """Random, of more than 64 bits: they need no counter on disk."""
    serials = {_issue()[0].serial_number for _ in range(20)}
    assert len(serials) == 20
    assert max(serial.bit_length() for serial in serials) > 64


def test_a_name_too_long_for_the_subject_stands_in_the_san_alone() -> None:
    """The SAN is then critical (RFC 5280, 4.2.1.6), as for a URI."""
    long = parse_identity(f"{'a' * 63}.shop.serviceaccount.identity.linkerd.cluster.local")
    for identity, common_name in (
        (WEB, WEB.name),
        (long, None),
        (parse_identity("spiffe://cluster.local/vm"), None),
    ):
        leaf, _ = _issue(identity)
        found = [
            str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
        assert found == ([common_name] if common_name else [])
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert san.critical == (common_name is None)
        assert str(next(iter(san.value)).value) == identity.name


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (NOW - 21, "valid from"),
        (ISSUER.not_valid_after_utc.timestamp(), "valid from"),
    ],
)
def test_an_issuer_out_of_its_time_issues_nothing(now: float, words: str) -> None:
    """Not yet valid and expired, to the second."""
    with pytest.raises(IdentityError, match=words):
        _issue(now=now)


def test_an_issuer_whose_root_is_no_anchor_issues_nothing() -> None:
    """Also when a root of equal subject is one, and when its root belongs to another domain."""
    twin_key = create_key()
    twin = create_authority("root", twin_key, lifetime=ROOT_LIFETIME, now=NOW)
    der = ROOT.public_bytes(Encoding.DER)
    other = twin.public_bytes(Encoding.DER)
    for anchors in (
        Anchors("cluster.local", {"cluster.local": frozenset({other})}),
        Anchors(
            "cluster.local",
            {"cluster.local": frozenset({other}), "west.example": frozenset({der})},
        ),
        Anchors("cluster.local", {"cluster.local": frozenset({b"garbage"})}),
    ):
        with pytest.raises(IdentityError, match="does not hang on any trust anchor"):
            Issuer([ISSUER], ISSUER_KEY).issue(create_csr(KEY, WEB), WEB, anchors, NOW)
    both = Anchors("cluster.local", {"cluster.local": frozenset({other, der})})
    assert Issuer([ISSUER], ISSUER_KEY).issue(create_csr(KEY, WEB), WEB, both, NOW).leaf


def test_names_of_other_domains_are_not_issued() -> None:
    """An issuer speaks for its own trust domain."""
    for name in ("spiffe://west.example/a", mk_identity("shop/web", "west.example").name):
        identity = parse_identity(name)
        with pytest.raises(IdentityError, match=r"west\.example"):
            _issue(identity)


def test_a_chain_of_two_intermediates_is_given_out_whole() -> None:
    """Leaf side first; the order is checked."""
    middle_key, low_key = create_key(), create_key()
    middle = _authority("middle", middle_key, ROOT, ROOT_KEY, path_length=1)
    low = _authority("low", low_key, middle, middle_key, path_length=0)
    issuer = Issuer([low, middle], low_key)
    issued = issuer.issue(create_csr(KEY, WEB), WEB, ANCHORS, NOW)
    assert issued.intermediates == tuple(
        certificate.public_bytes(Encoding.DER) for certificate in (low, middle)
    )
    with pytest.raises(IdentityError, match="out of order"):
        Issuer([low, ISSUER], low_key).not_after(ANCHORS, NOW)


def _authority(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    parent: x509.Certificate,
    parent_key: ec.EllipticCurvePrivateKey,
    *,
    path_length: int,
    ca: bool = True,
    identifier: bool = True,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(parent.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(parent.not_valid_before_utc)
        .not_valid_after(parent.not_valid_after_utc)
        .add_extension(
            x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True
        )
    )
    if identifier:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
    return builder.sign(parent_key, hashes.SHA256())


def test_an_issuer_has_to_be_one(tmp_path: Path) -> None:
    """Key, chain and settings are checked before anything is issued."""
    with pytest.raises(IdentityError, match="does not match"):
        Issuer([ISSUER], KEY)
    with pytest.raises(IdentityError, match="0 certificates"):
        Issuer([], ISSUER_KEY)
    with pytest.raises(IdentityError, match="8 certificates"):
        Issuer([ISSUER] * 8, ISSUER_KEY)
    for lifetime, skew in ((0, 0), (-1, 0), (1, -1)):
        with pytest.raises(IdentityError, match="lifetime"):
            Issuer(
                [ISSUER],
                ISSUER_KEY,
                lifetime=timedelta(seconds=lifetime),
                skew=timedelta(seconds=skew),
            )
    leaf = _authority("leaf", KEY, ROOT, ROOT_KEY, path_length=0, ca=False)
    with pytest.raises(IdentityError, match="no certificate authority"):
        Issuer([leaf], KEY)
    nameless = _authority("nameless", KEY, ROOT, ROOT_KEY, path_length=0, identifier=False)
    with pytest.raises(IdentityError, match="subject key identifier"):
        Issuer([nameless], KEY).issue(create_csr(KEY, WEB), WEB, ANCHORS, NOW)
    path = tmp_path / "issuer.pem"
    write_key(tmp_path / "issuer.key", ISSUER_KEY)
    for content, words in (
        (b"", "no certificate"),
        (join_pem([b"garbage"]), "cannot be parsed"),
        (b"-----BEGIN CERTIFICATE-----\nA", "1 broken"),
    ):
        path.write_bytes(content)
        with pytest.raises(IdentityError, match=words):
            load_issuer(path, tmp_path / "issuer.key")
    path.write_bytes(join_pem([ISSUER.public_bytes(Encoding.DER)]))
    (tmp_path / "issuer.key").chmod(0o644)
    with pytest.raises(IdentityError, match="mode 0644"):
        load_issuer(path, tmp_path / "issuer.key")
    assert read_chain(path) == [ISSUER]


def test_an_issuer_shows_its_fingerprint_and_no_more() -> None:
    """Neither printing it nor its parts reaches the key."""
    issuer = Issuer([ISSUER], ISSUER_KEY)
    assert repr(issuer) == f"<Issuer {ISSUER.fingerprint(hashes.SHA256()).hex()[:16]}>"


@pytest.mark.needs("openssl")
def test_openssl_verifies_the_chain_for_both_purposes(mesh: Mesh, tmp_path: Path) -> None:
    """An independent implementation accepts root, issuer and leaf, strictly."""
    issued = mesh.leaf(WEB, tmp_path, now=time.time())
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(join_pem([issued.leaf]))
    for purpose in ("sslserver", "sslclient"):
        done = subprocess.run(
            [
                *("openssl", "verify", "-x509_strict", "-purpose", purpose),
                *("-CAfile", str(mesh.authority.root_certificate)),
                *("-untrusted", str(mesh.authority.issuer_certificate), str(leaf)),
            ],
            capture_output=True,
            check=False,
            timeout=30,
            text=True,
        )
        assert done.stdout.endswith(": OK\n"), done.stderr
    text = subprocess.run(
        ["openssl", "x509", "-in", str(leaf), "-noout", "-text"],
        capture_output=True,
        check=True,
        timeout=30,
        text=True,
    ).stdout
    for words in (
        "ecdsa-with-SHA256",
        "NIST CURVE: P-256",
        "CA:FALSE",
        "Digital Signature, Key Encipherment",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        f"DNS:{WEB.name}",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ):
        assert words in text

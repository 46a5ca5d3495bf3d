"""The issuer: turns an accepted request into a leaf (Linkerd pkg/tls/ca.go).

A leaf is ECDSA P-256, for both ends of TLS, not an authority, valid from now less the skew to
now plus lifetime and skew, and never longer than anything above it. The answer holds the leaf
and the intermediates, never the root: who has to trust that has it already.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.clock import utc_text
from core.errors import IdentityError
from core.record import dataclass
from identity.anchors import Anchors
from identity.csr import read_csr, san_of, subject_of
from identity.files import read_bounded
from identity.generation import MAX_CHAIN
from identity.key import read_key
from identity.name import Identity
from identity.pem import split_pem

DEFAULT_LIFETIME: Final = timedelta(hours=24)
"""How long a leaf lives (Linkerd, issuanceLifetime)."""
DEFAULT_SKEW: Final = timedelta(seconds=20)
"""How far two clocks may differ, added at both ends (Linkerd, clockSkewAllowance)."""
ROOT_LIFETIME: Final = timedelta(days=3650)
ISSUER_LIFETIME: Final = timedelta(days=365)


@final
@dataclass(frozen=True, slots=True)
class Issued:
    """A leaf with what a peer needs to verify it."""

    leaf: bytes
    """DER."""
    intermediates: tuple[bytes, ...]
    """DER, the leaf's own issuer first, without the root."""
    serial: int
    not_after: float
    """Seconds since the epoch."""


@final
class Issuer:
    """An issuing certificate with its key. Holds no sockets and reads no clock."""

    __slots__ = ("_certificates", "_key", "_lifetime", "_skew")

    def __init__(
        self,
        certificates: Sequence[x509.Certificate],
        key: ec.EllipticCurvePrivateKey,
        *,
        lifetime: timedelta = DEFAULT_LIFETIME,
        skew: timedelta = DEFAULT_SKEW,
    ) -> None:
        if not 1 <= len(certificates) < MAX_CHAIN:
            raise IdentityError(
                f"an issuer's chain of {len(certificates)} certificates; 1 to {MAX_CHAIN - 1} work"
            )
        if certificates[0].public_key() != key.public_key():
            raise IdentityError("the issuer's key does not match its certificate")
        if not _is_authority(certificates[0]):
            raise IdentityError("the issuer's certificate is no certificate authority's")
        if lifetime <= timedelta() or skew < timedelta():
            raise IdentityError("a leaf's lifetime has to be positive, the skew not negative")
        self._certificates = tuple(certificates)
        self._key = key
        self._lifetime = lifetime
        self._skew = skew

    def __repr__(self) -> str:
        return f"<Issuer {self.fingerprint[:16]}>"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the issuing certificate, in hex."""
        return self._certificates[0].fingerprint(hashes.SHA256()).hex()

    @property
    def ends(self) -> tuple[float, ...]:
        """When each certificate of the chain ends, root not included, since the epoch."""
        return tuple(each.not_valid_after_utc.timestamp() for each in self._certificates)

    def not_after(self, anchors: Anchors, now: float) -> float:
        """Return the earliest end in the chain, root included, in seconds since the epoch.

        Raises IdentityError when the chain does not end at an anchor of our own domain, or when
        a certificate of it is not in force at ``now``.
        """
        chain = (*self._certificates, self._root(anchors))
        for certificate in chain:
            check_validity(certificate, now)
        return min(certificate.not_valid_after_utc for certificate in chain).timestamp()

    def issue(self, csr: bytes, identity: Identity, anchors: Anchors, now: float) -> Issued:
        """Return a leaf for ``identity``. Raises IdentityError naming the broken rule."""
        latest = self.not_after(anchors, now)
        domain = anchors.domain_of(identity)
        if domain != anchors.own_domain:
            raise IdentityError(
                f"{identity} is of trust domain {domain}; this issuer's is {anchors.own_domain}"
            )
        key = read_csr(csr, identity)
        serial = x509.random_serial_number()
        # Certificates count whole seconds: a leaf lives at least as long as was asked for.
        not_after = min(math.ceil(now + (self._lifetime + self._skew).total_seconds()), latest)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(subject_of(identity))
            .issuer_name(self._certificates[0].subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(_moment(now - self._skew.total_seconds()))
            .not_valid_after(_moment(not_after))
            .add_extension(
                # RFC 5280, 4.2.1.6: critical when the subject is empty.
                x509.SubjectAlternativeName([san_of(identity)]),
                critical=not subject_of(identity).rdns,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True, key_encipherment=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_authority_key(self._certificates[0]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            leaf=leaf.public_bytes(Encoding.DER),
            intermediates=tuple(
                certificate.public_bytes(Encoding.DER) for certificate in self._certificates
            ),
            serial=serial,
            not_after=leaf.not_valid_after_utc.timestamp(),
        )

    def _root(self, anchors: Anchors) -> x509.Certificate:
        for certificate, above in itertools.pairwise(self._certificates):
            if not is_issued_by(certificate, above):
                raise IdentityError("the issuer's chain is out of order: leaf side first, no root")
        roots = map(_try_certificate, anchors.roots[anchors.own_domain])
        fitting = [root for root in roots if root and is_issued_by(self._certificates[-1], root)]
        if not fitting:
            raise IdentityError(
                f"the issuer does not hang on any trust anchor of {anchors.own_domain}"
            )
        return max(fitting, key=lambda root: root.not_valid_after_utc)


def load_issuer(
    certificate: Path,
    key: Path,
    *,
    lifetime: timedelta = DEFAULT_LIFETIME,
    skew: timedelta = DEFAULT_SKEW,
) -> Issuer:
    """Read an issuer: its certificate with further intermediates, and its key.

    Raises IdentityError.
    """
    chain = read_chain(certificate)
    return Issuer(chain, read_key(key), lifetime=lifetime, skew=skew)


def read_chain(path: Path) -> list[x509.Certificate]:
    """Return every certificate of a PEM file. Raises IdentityError unless all can be read."""
    blocks, broken = split_pem(read_bounded(path))
    try:
        certificates = [x509.load_der_x509_certificate(block) for block in blocks]
    except ValueError as error:
        raise IdentityError(f"{path} holds a certificate that cannot be parsed") from error
    if broken or not certificates:
        raise IdentityError(f"{path} holds {broken or 'no certificates in PEM'} broken blocks")
    return certificates


def check_validity(certificate: x509.Certificate, now: float) -> None:
    """Raise IdentityError unless ``certificate`` is in force at ``now``."""
    begins = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    if not begins <= now < ends:
        raise IdentityError(
            f"{certificate.subject.rfc4514_string() or 'a certificate'} is valid from "
            f"{utc_text(begins)} to {utc_text(ends)}; now is {utc_text(now)}"
        )


def create_authority(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    lifetime: timedelta,
    now: float,
    parent: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    skew: timedelta = DEFAULT_SKEW,
) -> x509.Certificate:
    """Return a certificate authority: a root, or an issuer under ``parent``.

    Always with both key identifiers: they tell two roots of equal subject apart.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    parent_subject = parent[0].subject if parent else subject
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = (
        _authority_key(parent[0])
        if parent
        else x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    )
    not_after = _moment(now) + lifetime
    if parent:
        not_after = min(not_after, parent[0].not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent_subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now) - skew)
        .not_valid_after(not_after)
        .add_extension(
            x509.BasicConstraints(ca=True, path_length=0 if parent else 1), critical=True
        )
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(authority, critical=False)
        .sign(parent[1] if parent else key, hashes.SHA256())
    )


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` has signed ``certificate`` and may have; dates are not asked."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return _is_authority(authority)


def _try_certificate(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False
    usages = [each.value for each in extensions if isinstance(each.value, x509.KeyUsage)]
    return constraints.ca and all(usage.key_cert_sign for usage in usages)


def _authority_key(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise IdentityError(
            f"{authority.subject.rfc4514_string()} has no subject key identifier",
            hint="without one, two authorities of equal subject cannot be told apart",
        ) from error
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)

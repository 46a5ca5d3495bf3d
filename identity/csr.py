"""Certificate signing requests: how a workload asks, and what an issuer accepts.

The rules are those of Linkerd's identity controller (pkg/identity/service.go): one DNS SAN that
is the requested identity, common name empty or equal, nothing else. For a SPIFFE identity the
one SAN is a URI (X.509-SVID, section 2).
"""

from __future__ import annotations

import warnings
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from core.errors import IdentityError
from identity.key import is_p256
from identity.name import Identity, identities_of

MAX_CSR_BYTES: Final = 16 * 1024
"""The longest request that is read; ours take 400 bytes."""
MAX_COMMON_NAME: Final = 64
"""A common name's longest form (RFC 5280, appendix A.1)."""


def create_csr(key: ec.EllipticCurvePrivateKey, identity: Identity) -> bytes:
    """Return a request for ``identity`` as DER."""
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject_of(identity))
        .add_extension(x509.SubjectAlternativeName([san_of(identity)]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def read_csr(der: bytes, requested: Identity) -> ec.EllipticCurvePublicKey:
    """Return the key that a request for ``requested`` asks a certificate for.

    Raises IdentityError naming the broken rule.
    """
    if len(der) > MAX_CSR_BYTES:
        raise IdentityError(f"a CSR of {len(der)} bytes; {MAX_CSR_BYTES} at most are read")
    try:
        # A common name past its bound, as Go writes it, is read with a warning; it is compared
        # below like any other.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            csr = x509.load_der_x509_csr(der)
            key = csr.public_key()
            signed = csr.is_signature_valid
            sans = _sans(csr)
            common_names = [
                str(attribute.value)
                for attribute in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            ]
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        InvalidSignature,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise IdentityError("the CSR cannot be parsed") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not is_p256(key):
        raise IdentityError("the CSR's key is not ECDSA P-256")
    if not signed:
        raise IdentityError("the CSR's signature does not verify")
    _check_names(sans, common_names, requested)
    return key


def san_of(identity: Identity) -> x509.GeneralName:
    """Return the one SAN that ``identity`` has in requests and certificates."""
    if identity.is_uri:
        return x509.UniformResourceIdentifier(identity.name)
    return x509.DNSName(identity.name)


def subject_of(identity: Identity) -> x509.Name:
    """Return the subject: the identity as common name where it fits, else empty."""
    if identity.is_uri or len(identity.name) > MAX_COMMON_NAME:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.name)])


def _sans(csr: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        extension = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(extension.value)


def _check_names(
    sans: list[x509.GeneralName], common_names: list[str], requested: Identity
) -> None:
    wanted = "URI" if requested.is_uri else "DNS name"
    kinds = [_kind(san) for san in sans]
    if kinds != [wanted]:
        seen = ", ".join(kinds[:8]) or "none"
        raise IdentityError(
            f"the CSR's alternative names are: {seen}; wanted one {wanted}, {requested}, alone"
        )
    san = sans[0]
    text = str(san.value)
    if identities_of([("URI" if requested.is_uri else "DNS", text)]) != (requested,):
        raise IdentityError(f"the CSR is for {text[:253]!r}; the request is for {requested}")
    if any(name and name.lower() != requested.name.lower() for name in common_names):
        raise IdentityError(
            f"the CSR's common name is {common_names[0][:253]!r}; wanted none, or {requested}"
        )


def _kind(san: x509.GeneralName) -> str:
    if isinstance(san, x509.DNSName):
        return "DNS name"
    if isinstance(san, x509.UniformResourceIdentifier):
        return "URI"
    if isinstance(san, x509.IPAddress):
        return "IP address"
    if isinstance(san, x509.RFC822Name):
        return "e-mail address"
    return "other name"

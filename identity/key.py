"""Private keys: ECDSA P-256, PKCS#8, in files that are their owner's alone."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from core.errors import IdentityError
from identity.files import read_private, write_new


def create_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a key as PKCS#8 PEM, mode 0600, where nothing is yet. Raises IdentityError."""
    write_new(path, encode_key(key), mode=0o600)


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as PKCS#8 PEM: only for files that are private."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a key. Raises IdentityError: open to others, not PEM, encrypted, or not P-256."""
    pem = read_private(path)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The library's own message may quote the file; ours never does.
        raise IdentityError(f"{path} holds no usable private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not is_p256(key.public_key()):
        raise IdentityError(f"{path} holds a key that is not ECDSA P-256")
    return key


def is_p256(key: object) -> bool:
    """Whether a public key is ECDSA on P-256, as Linkerd's peers demand of a leaf."""
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)

"""Workload tokens: what an issuer on this machine believes instead of a cluster's tokens.

A token names one identity and, optionally, its own end; an HMAC-SHA256 under the issuer's secret
makes it good. It is as secret as a key: files that hold one are their owner's alone.

    pillion1.<base64url of "identity LF end in seconds since 1970, 0 for never">.<base64url of MAC>
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

from core.clock import utc_text
from core.errors import IdentityError
from identity.name import Identity, parse_identity

MAX_TOKEN_BYTES: Final = 4096
"""The longest token that is looked at."""
SECRET_BYTES: Final = 32
_PREFIX: Final = "pillion1"


def create_token(secret: bytes, identity: Identity, expires: int = 0) -> str:
    """Return the token for ``identity``, good until ``expires`` (seconds since 1970; 0: ever)."""
    payload = f"{identity.name}\n{expires}".encode()
    return f"{_PREFIX}.{_encode(payload)}.{_encode(_mac(secret, payload))}"


def read_token(secret: bytes, token: bytes, now: float) -> Identity:
    """Return the identity that ``token`` proves. Raises IdentityError, never quoting the token."""
    if len(token) > MAX_TOKEN_BYTES:
        raise IdentityError(f"a token of {len(token)} bytes; {MAX_TOKEN_BYTES} at most are read")
    parts = token.strip().split(b".")
    if len(parts) != 3 or parts[0] != _PREFIX.encode():
        raise IdentityError("the token is not one of `pillion identity issue --token`")
    try:
        payload, mac = _decode(parts[1]), _decode(parts[2])
    except binascii.Error as error:
        raise IdentityError("the token cannot be decoded") from error
    if not hmac.compare_digest(mac, _mac(secret, payload)):
        raise IdentityError(
            "the token was not made under this issuer's secret",
            hint="make a new one with `pillion identity issue --token`",
        )
    name, _, end = payload.decode().partition("\n")
    expires = int(end)
    if expires and now >= expires:
        raise IdentityError(
            f"the token of {name} ended at {utc_text(expires)}; now is {utc_text(now)}"
        )
    return parse_identity(name)


def _mac(secret: bytes, payload: bytes) -> bytes:
    if len(secret) < SECRET_BYTES:
        raise IdentityError(f"the token secret has {len(secret)} bytes; wanted {SECRET_BYTES}")
    return hmac.digest(secret, b"pillion workload token\0" + payload, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: bytes) -> bytes:
    # The plain form skips over characters it does not know and ignores spare bits at the end, so
    # that many texts would be one token.
    data = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(data).encode() != text:
        raise binascii.Error("spare bits are set")
    return data

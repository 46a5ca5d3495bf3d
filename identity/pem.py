"""Certificates in PEM, to and from DER (RFC 7468), with the standard library alone."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final

_BLOCK: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----", re.ASCII
)
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


def split_pem(data: bytes) -> tuple[list[bytes], int]:
    """Return the DER of every certificate block, in order, and how many blocks were broken.

    What stands between the blocks is a comment. Whether the DER is a certificate is not asked.
    """
    certificates: list[bytes] = []
    for block in _BLOCK.finditer(data):
        try:
            der = base64.b64decode(b"".join(block[1].split()), validate=True)
        except binascii.Error:
            continue
        if der:
            certificates.append(der)
    return certificates, data.count(_BEGIN) - len(certificates)


def join_pem(certificates: Iterable[bytes]) -> bytes:
    """Return DER certificates as PEM blocks, in order."""
    blocks = []
    for der in certificates:
        text = base64.b64encode(der)
        lines = b"\n".join(text[start : start + 64] for start in range(0, len(text), 64))
        blocks.append(b"%s\n%s\n-----END CERTIFICATE-----\n" % (_BEGIN, lines))
    return b"".join(blocks)

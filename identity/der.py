"""What we need of a certificate's DER (X.690, RFC 5280): its names, and when it ends.

OpenSSL has verified the certificate before anybody asks here. What is not as RFC 5280 has it is an
error all the same: a name must not depend on how lenient its reader is.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_OID: Final = 0x06
_BOOLEAN: Final = 0x01
_SEQUENCE: Final = 0x30
_UTC_TIME: Final = 0x17
_LONG_TIME: Final = 0x18
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_SAN: Final = bytes.fromhex("551d11")
"""2.5.29.17, subjectAltName."""
_KINDS: Final = {0x82: "DNS", 0x86: "URI"}
_TIME: Final = re.compile(rb"(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z")
_TO_VALIDITY: Final = 3
"""Fields of a TBSCertificate between its version and its validity: serial, algorithm, issuer."""
_TO_EXTENSIONS: Final = 6
"""Those between version and the optional ones: as above, then validity, subject, key."""

Field = tuple[int, bytes]
"""A tag and what it holds."""


def fields_of(data: bytes) -> list[Field]:
    """Return the values that stand one after the other in ``data``.

    Raises ValueError for what is no DER: lengths that lead out of ``data``, or are not the
    shortest, and tags of more than one octet.
    """
    found: list[Field] = []
    place, end = 0, len(data)
    while place < end:
        if end - place < 2:
            raise ValueError("a field without a length")
        tag, size = data[place], data[place + 1]
        place += 2
        if tag & 0x1F == 0x1F:
            raise ValueError("a tag of more than one octet")
        if size >= 0x80:
            octets = size & 0x7F
            long = data[place : place + octets]
            place += octets
            size = int.from_bytes(long, "big")
            if not 1 <= octets <= 4 or len(long) != octets or not long[0] or size < 0x80:
                raise ValueError("a length that is not DER's")
        if size > end - place:
            raise ValueError("a field that is longer than what holds it")
        found.append((tag, data[place : place + size]))
        place += size
    return found


def names_of(certificate: bytes) -> tuple[tuple[str, str], ...]:
    """Return the SANs that identities are made of, in order, as (kind, text): DNS and URI.

    Raises ValueError for what is no certificate.
    """
    fields = _to_be_signed(certificate)
    extensions = [content for tag, content in fields[_TO_EXTENSIONS:] if tag == _EXTENSIONS]
    found: list[bytes] = []
    for block in extensions:
        for extension in fields_of(_only(block, _SEQUENCE)):
            name, *critical, value = fields_of(_content(extension, _SEQUENCE))
            if len(critical) > 1 or any(tag != _BOOLEAN for tag, _ in critical):
                raise ValueError("an extension of unknown shape")
            if _content(name, _OID) == _SAN:
                found.append(_content(value, _OCTETS))
    if len(extensions) > 1 or len(found) > 1:
        raise ValueError("an extension that is there twice")
    return tuple(
        # Beyond ASCII there are no names (RFC 5280, 4.2.1.6): what is put for it matches nothing.
        (_KINDS[tag], text.decode("ascii", "replace"))
        for san in found
        for tag, text in fields_of(_only(san, _SEQUENCE))
        if tag in _KINDS
    )


def end_of(certificate: bytes) -> float:
    """Return when the certificate ends, in seconds since the epoch.

    Raises ValueError for what is no certificate.
    """
    fields = fields_of(_content(_to_be_signed(certificate)[_TO_VALIDITY], _SEQUENCE))
    if len(fields) != 2:
        raise ValueError("a validity that is not two times")
    tag, text = fields[1]
    match = _TIME.fullmatch(text)
    if match is None or len(match[1]) != {_UTC_TIME: 2, _LONG_TIME: 4}.get(tag):
        raise ValueError("a time that is not RFC 5280's")
    year, month, day, hour, minute, second = (int(each) for each in match.groups())
    if tag == _UTC_TIME:
        year += 1900 if year >= 50 else 2000
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


def _to_be_signed(certificate: bytes) -> list[Field]:
    """Return the fields of the TBSCertificate without its version."""
    outer = fields_of(_only(certificate, _SEQUENCE))
    if len(outer) != 3:
        raise ValueError("a certificate that is not three fields")
    fields = fields_of(_content(outer[0], _SEQUENCE))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    if len(fields) < _TO_EXTENSIONS or fields[0][0] != _INTEGER:
        raise ValueError("a certificate without all of its fields")
    return fields


def _only(data: bytes, tag: int) -> bytes:
    fields = fields_of(data)
    if len(fields) != 1:
        raise ValueError(f"{len(fields)} fields where there has to be one")
    return _content(fields[0], tag)


def _content(field: Field, tag: int) -> bytes:
    if field[0] != tag:
        raise ValueError(f"a field of tag {field[0]:#04x} where {tag:#04x} has to be")
    return field[1]

"""A certificate is read, or refused with ValueError; and read as ``cryptography`` reads it.

Where only one of the two finds fault there is nothing to compare: each is the stricter somewhere.
"""

from __future__ import annotations

import warnings
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from identity.der import end_of, fields_of, names_of
from tests.fuzz.engine import Target

_FAULTS: Final = (
    *(ValueError, x509.DuplicateExtension),
    *(x509.InvalidVersion, x509.UnsupportedGeneralNameType),
)
Names = tuple[tuple[str, str], ...]


def field(tag: int, *parts: bytes) -> bytes:
    """Return a field of DER."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


_ALGORITHM: Final = field(0x30, bytes.fromhex("06082a8648ce3d040302"))
_NAME: Final = field(0x30, field(0x31, field(0x30, bytes.fromhex("0603550403"), field(0x13, b"a"))))
_KEY: Final = field(
    0x30,
    field(0x30, bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06082a8648ce3d030107")),
    field(0x03, b"\x00\x04", bytes(64)),
)
_CONSTRAINTS: Final = field(
    0x30, bytes.fromhex("0603551d13"), field(0x01, b"\xff"), field(0x04, field(0x30))
)
_NAMES: Final = (
    field(0x82, b"web.shop.serviceaccount.identity.linkerd.cluster.local"),
    field(0x86, b"spiffe://mesh/web"),
    field(0x87, b"\x0a\x00\x00\x01"),
    field(0x81, b"a@b"),
)


def names(*each: bytes) -> bytes:
    """Return the extension subjectAltName."""
    return field(0x30, bytes.fromhex("0603551d11"), field(0x04, field(0x30, *each)))


def certificate(end: bytes, *extensions: bytes) -> bytes:
    """Return a certificate whose signature nobody looks at."""
    return field(
        0x30,
        field(
            0x30,
            field(0xA0, field(0x02, b"\x02")),
            *(field(0x02, b"\x07"), _ALGORITHM, _NAME),
            field(0x30, field(0x17, b"260102030405Z"), end),
            *(_NAME, _KEY),
            field(0xA3, field(0x30, *extensions)) if extensions else b"",
        ),
        _ALGORITHM,
        field(0x03, b"\x00"),
    )


def read(data: bytes) -> tuple[Names, float] | str:
    """Return what we read, or what we find fault with."""
    try:
        return names_of(data), end_of(data)
    except ValueError as error:
        return str(error)[:16]


def read_by_library(data: bytes) -> tuple[Names, float] | None:
    """Return what ``cryptography`` reads; None for what it finds fault with."""
    try:
        found = x509.load_der_x509_certificate(data)
        extensions = {each.oid: each.value for each in found.extensions}
        end = found.not_valid_after_utc.timestamp()
    except _FAULTS:
        return None
    listed = extensions.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ())
    assert isinstance(listed, x509.SubjectAlternativeName | tuple)
    kinds = {x509.DNSName: "DNS", x509.UniformResourceIdentifier: "URI"}
    texts = tuple((kinds[type(each)], str(each.value)) for each in listed if type(each) in kinds)
    return texts, end


def run(data: bytes) -> str:
    """Check one certificate; return what came of it."""
    try:
        assert sum(len(content) + 2 for _, content in fields_of(data)) <= len(data)
    except ValueError:
        assert isinstance(read(data), str)
    ours = read(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = read_by_library(data)
    if isinstance(ours, str):
        return f"{ours} {library is not None}"
    if library is not None:
        assert ours == library
    return f"{min(len(ours[0]), 3)} {library is not None}"


_SHORT: Final = field(0x17, b"490102030405Z")
_LONG: Final = field(0x18, b"20500102030405Z")

TARGET: Final = Target(
    "der",
    run,
    [
        certificate(_SHORT, _CONSTRAINTS, names(*_NAMES)),
        certificate(_LONG, names(_NAMES[0]), _CONSTRAINTS),
        certificate(_SHORT, _CONSTRAINTS),
        certificate(_LONG),
    ],
    [
        *_NAMES,
        *(_CONSTRAINTS, names(_NAMES[1]), _SHORT, _LONG, _NAME),
        *(b"\x30\x80", b"\x82\x81\x80", b"\x1f\x81", b"\x01\x01\xff", b"\x84\xff\xff\xff\xff"),
    ],
)

"""identity.der: what a certificate says, and what is none."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from identity.der import end_of, fields_of, names_of
from tests.authority import Mesh
from tests.handshake import shake_hands

_KEY = ec.generate_private_key(ec.SECP256R1())
_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _certificate(*names: x509.GeneralName, ends: datetime = _NOW, critical: bool = False) -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "someone")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(_KEY.public_key())
        .serial_number(7)
        .not_valid_before(ends - timedelta(days=1))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(Encoding.DER)


_GOOD = _certificate(
    x509.RFC822Name("a@example.org"),
    x509.DNSName("web.shop"),
    x509.IPAddress(ip_address("10.0.0.1")),
    x509.UniformResourceIdentifier("spiffe://mesh/web"),
    x509.DNSName("other"),
)


@pytest.mark.parametrize("critical", [False, True])
def test_names_come_in_order_and_only_those_that_identities_are_made_of(critical: bool) -> None:
    """Addresses and mail boxes are no identities."""
    names = (x509.DNSName("b"), x509.IPAddress(ip_address("::1")), x509.DNSName("a"))
    assert names_of(_certificate(*names, critical=critical)) == (("DNS", "b"), ("DNS", "a"))
    assert names_of(_GOOD) == (("DNS", "web.shop"), ("URI", "spiffe://mesh/web"), ("DNS", "other"))


def test_a_certificate_without_names_has_none() -> None:
    """Its common name is not one."""
    assert names_of(_certificate()) == ()


@pytest.mark.parametrize(
    "ends",
    [_NOW, datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)],
)
def test_an_end_is_read_in_either_form(ends: datetime) -> None:
    """Years from 2050 on are written in full (RFC 5280, 4.1.2.5)."""
    assert end_of(_certificate(ends=ends)) == ends.timestamp()
    assert end_of(_certificate(ends=ends.replace(year=9999))) == ends.replace(year=9999).timestamp()


def test_the_standard_library_reads_the_same(mesh: Mesh) -> None:
    """Of what our own issuer makes."""
    web, api = mesh.generation("shop/web"), mesh.generation("shop/api")
    seen = shake_hands(api.server_context(direct=False), web.client_context(direct=False))
    facts = seen.seen_by_client
    assert facts.peer_der is not None
    assert names_of(facts.peer_der) == facts.peer_names
    certificate = seen.client.getpeercert()
    assert certificate is not None
    assert end_of(facts.peer_der) == ssl.cert_time_to_seconds(str(certificate["notAfter"]))


def _at(data: bytes, needle: bytes, change: Callable[[bytes], bytes]) -> bytes:
    place = data.index(needle)
    return data[:place] + change(needle) + data[place + len(needle) :]


def test_what_a_name_must_not_be_matches_nothing() -> None:
    """What is not ASCII is shown as such, a NUL stays where it is."""
    for octet, text in ((b"\xe9", "\ufffd"), (b"\x00", "\x00")):
        odd = _at(_GOOD, b"web.shop", lambda name, octet=octet: name[:3] + octet + name[4:])  # type: ignore[misc]
        assert names_of(odd)[0] == ("DNS", f"web{text}shop")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x30", "without a length"),
        (b"\x1f\x81\x01\x00", "tag of more"),
        (b"\x30\x80\x00\x00", "not DER's"),
        (b"\x30\x81\x7f" + bytes(127), "not DER's"),
        (b"\x30\x82\x00\x80" + bytes(128), "not DER's"),
        (b"\x30\x85\x00\x00\x00\x00\x01\x00", "not DER's"),
        (b"\x30\x82\x01", "not DER's"),
        (b"\x30\x02\x00", "longer than"),
        (b"\x30\x84\xff\xff\xff\xff", "longer than"),
    ],
)
def test_what_is_no_der_is_an_error(data: bytes, why: str) -> None:
    """A length that leads out of what holds it, above all."""
    with pytest.raises(ValueError, match=why):
        fields_of(data)


def test_fields_are_read_to_the_last() -> None:
    """In each form of a length."""
    for size in (0, 1, 127, 128, 255, 256, 65_536):
        length = bytes((size,)) if size < 128 else b""
        if not length:
            octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
            length = bytes((0x80 | len(octets),)) + octets
        field = b"\x04" + length + bytes(size)
        assert fields_of(field * 2) == [(4, bytes(size))] * 2


def _twice(certificate: bytes) -> bytes:
    """Return a certificate whose only other extension is a second SAN."""
    return _at(certificate, bytes.fromhex("0603551d13"), lambda _: bytes.fromhex("0603551d11"))


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (b"", "0 fields"),
        (_GOOD + b"\x30\x00", "2 fields"),
        (_GOOD[:-1], "longer than"),
        (b"\x30\x00", "three fields"),
        (b"\x30\x06\x30\x00\x30\x00\x30\x00", "all of its fields"),
        (_twice(_GOOD), "twice"),
    ],
)
def test_what_is_no_certificate_is_an_error(certificate: bytes, why: str) -> None:
    """Also one that could be read in two ways."""
    with pytest.raises(ValueError, match=why):
        names_of(certificate)


def test_a_time_that_is_none_is_an_error() -> None:
    """A zone, a thirteenth month."""
    end = b"260102030405Z"
    for change in (b"261302030405Z", b"2601020304+00", b"26010203040aZ"):
        with pytest.raises(ValueError):
            end_of(_GOOD.replace(end, change))


@given(st.binary(max_size=64), st.integers(0, len(_GOOD) - 1), st.integers(1, 255))
def test_no_octets_do_anything_but_parse_or_fail(data: bytes, place: int, flip: int) -> None:
    """Made up, or one of a good certificate's changed."""
    changed = bytearray(_GOOD)
    changed[place] ^= flip
    for each in (data, bytes(changed)):
        for read in (fields_of, names_of, end_of):
            try:
                read(each)
            except ValueError:
                continue


def test_reading_takes_no_longer_than_its_length() -> None:
    """A hundred thousand names, which no certificate of OpenSSL's bound holds, in a moment."""
    field = b"\x82\x01a"
    began = time.monotonic()
    assert len(fields_of(field * 100_000)) == 100_000
    assert time.monotonic() - began < 10

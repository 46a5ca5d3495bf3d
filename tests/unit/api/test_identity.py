from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from api.gen.identity_pb2 import CertifyResponse
from api.identity import decode_certified, decode_request, encode_certified, encode_request
from core.errors import IdentityError
from identity.request import INVALID, Certified, CertifyRequest

REQUEST = CertifyRequest("web.test", b"token", b"csr")
CERTIFIED = Certified(b"leaf", (b"issuer", b"middle"), 1_800_000_000.5)


def test_a_request_has_linkerd_s_field_numbers() -> None:
    """Field identity 1, token 2, certificate_signing_request 3, each length-delimited."""
    wire = b"\x0a\x08web.test\x12\x05token\x1a\x03csr"
    assert encode_request(REQUEST) == wire
    assert decode_request(wire) == REQUEST


def test_an_answer_has_linkerd_s_field_numbers() -> None:
    """Field leaf 1, intermediates 2 repeated, valid_until 3 as a Timestamp."""
    wire = (
        b"\x0a\x04leaf\x12\x06issuer\x12\x06middle"
        b"\x1a\x0c\x08\x80\xa4\xa7\xda\x06\x10\x80\xca\xb5\xee\x01"
    )
    assert encode_certified(CERTIFIED) == wire
    assert decode_certified(wire) == CERTIFIED


def test_unknown_fields_are_passed_over() -> None:
    """A newer peer may say more."""
    assert decode_request(encode_request(REQUEST) + b"\xc2\x3e\x01x") == REQUEST


@given(st.text(max_size=50), st.binary(max_size=50), st.binary(max_size=50))
def test_any_request_comes_back(identity: str, token: bytes, csr: bytes) -> None:
    """Encoding and decoding are each other's inverse."""
    request = CertifyRequest(identity, token, csr)
    assert decode_request(encode_request(request)) == request


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_the_one_error(data: bytes) -> None:
    """Garbage never raises anything else."""
    with suppress(IdentityError):
        assert isinstance(decode_request(data), CertifyRequest)
    with suppress(IdentityError):
        assert isinstance(decode_certified(data), Certified)


def test_a_broken_request_is_an_invalid_one() -> None:
    """The issuer answers it with the code for that."""
    with pytest.raises(IdentityError) as refused:
        decode_request(b"\xff")
    assert refused.value.code == INVALID


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (CertifyResponse(valid_until=Timestamp(seconds=1)), "no certificate"),
        (CertifyResponse(leaf_certificate=b"leaf"), "how long"),
        (CertifyResponse(leaf_certificate=b"l", valid_until=Timestamp(seconds=-1)), "no time"),
        (CertifyResponse(leaf_certificate=b"l", valid_until=Timestamp(seconds=1 << 60)), "no time"),
        (CertifyResponse(leaf_certificate=b"l", valid_until=Timestamp(nanos=-1)), "no time"),
    ],
)
def test_an_answer_that_lacks_something_is_refused(answer: CertifyResponse, words: str) -> None:
    """Without a leaf or an end nothing can be installed."""
    with pytest.raises(IdentityError, match=words):
        decode_certified(answer.SerializeToString())

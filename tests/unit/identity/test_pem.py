from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from identity.pem import join_pem, split_pem


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5))
def test_what_is_joined_is_split_again(certificates: list[bytes]) -> None:
    """In order, with nothing broken, whatever stands around and however lines end."""
    pem = join_pem(certificates)
    for text in (pem, b"a comment\n" + pem + b"another", pem.replace(b"\n", b"\r\n")):
        assert split_pem(text) == (certificates, 0)
    assert all(len(line) <= 64 for line in pem.splitlines())


@given(st.binary(max_size=300))
def test_any_bytes_are_split(data: bytes) -> None:
    """Nothing but certificates and a count comes out."""
    certificates, broken = split_pem(b"-----BEGIN CERTIFICATE-----\n" + data)
    assert len(certificates) + broken >= 1


def test_other_blocks_do_not_count() -> None:
    """A key beside a certificate is not looked at."""
    key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    assert split_pem(key + join_pem([b"one"]) + key) == ([b"one"], 0)

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from core.errors import IdentityError
from identity.name import parse_identity
from identity.token import MAX_TOKEN_BYTES, SECRET_BYTES, create_token, read_token

SECRET = bytes(range(SECRET_BYTES))
WEB = parse_identity("web.shop.serviceaccount.identity.linkerd.cluster.local")
VM = parse_identity("spiffe://cluster.local/vm")
NOW = 1_800_000_000.0
LONGEST = parse_identity("spiffe://td/" + "x" * 2036)


def test_a_token_proves_the_identity_that_it_was_made_for() -> None:
    """A DNS-like name or a URI, at its longest too; blanks around it do not count."""
    for identity in (WEB, VM, LONGEST):
        token = create_token(SECRET, identity).encode()
        assert len(token) <= MAX_TOKEN_BYTES
        assert read_token(SECRET, token + b"\n", NOW) == identity


def test_a_token_ends_when_it_was_to_end() -> None:
    """To the second; without an end it never does."""
    token = create_token(SECRET, WEB, int(NOW)).encode()
    assert read_token(SECRET, token, NOW - 0.5) == WEB
    with pytest.raises(IdentityError, match="ended"):
        read_token(SECRET, token, NOW)


TOKEN = create_token(SECRET, WEB).encode()
PREFIX, PAYLOAD, MAC = TOKEN.split(b".")
OTHER = base64.urlsafe_b64encode(VM.name.encode() + b"\n0").rstrip(b"=")

BAD = {
    "empty": b"",
    "garbage": b"garbage",
    "another version": TOKEN.replace(b"pillion1", b"pillion2"),
    "a part missing": PREFIX + b"." + PAYLOAD,
    "a part too many": TOKEN + b".",
    "another payload": PREFIX + b"." + OTHER + b"." + MAC,
    "another MAC": create_token(bytes(SECRET_BYTES), WEB).encode(),
    "half a MAC": TOKEN[:-10],
    "an empty MAC": PREFIX + b"." + PAYLOAD + b".",
    "blanks inside": PREFIX + b"." + PAYLOAD + b" ." + MAC,
    "not base64": PREFIX + b"." + PAYLOAD + b"." + b"!" * 43,
    "bytes that are no text": b"\xff\xfe.\xff.\xff",
    "past the bound": TOKEN.ljust(MAX_TOKEN_BYTES + 1),
}


@pytest.mark.parametrize("case", BAD)
def test_any_other_token_is_refused(case: str) -> None:
    """Neither the token nor its parts are in the message."""
    with pytest.raises(IdentityError) as refused:
        read_token(SECRET, BAD[case], NOW)
    assert MAC.decode() not in str(refused.value)
    assert PAYLOAD.decode() not in str(refused.value)


def test_every_byte_of_a_token_counts() -> None:
    """No other text is read as the same token."""
    for place in range(len(TOKEN)):
        changed = bytearray(TOKEN)
        changed[place] = ord("A") if changed[place] != ord("A") else ord("B")
        with pytest.raises(IdentityError):
            read_token(SECRET, bytes(changed), NOW)


def test_a_short_secret_is_no_secret(tmp_path: Path) -> None:
    """An empty or truncated secret file must not make tokens that anybody can make."""
    for secret in (b"", SECRET[:-1]):
        with pytest.raises(IdentityError, match="secret has"):
            create_token(secret, WEB)
        with pytest.raises(IdentityError, match="secret has"):
            read_token(secret, TOKEN, NOW)

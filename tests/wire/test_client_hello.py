"""ClientHellos whole, split, garbled, hostile: what is TLS, and for whom."""

from __future__ import annotations

import random
import ssl

import pytest

from proxy.wire.client_hello import MAX_RECORD_BYTES, Hello, HelloState, read_client_hello

_NAME = "web.shop.serviceaccount.identity.linkerd.cluster.local"


def make_hello(name: str | None, *, alpn: list[str] | None = None) -> bytes:
    """Return the ClientHello that OpenSSL sends for ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        engine.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("alpn", [None, ["transport.l5d.io/v1"], ["x" * 200] * 30])
def test_a_whole_hello_gives_its_server_name(alpn: list[str] | None) -> None:
    """The SNI is found wherever it stands among the extensions, up to several segments."""
    assert read_client_hello(make_hello(_NAME, alpn=alpn)) == Hello(HelloState.HELLO, _NAME)


def test_a_hello_is_undecided_at_every_split_before_its_last_byte() -> None:
    """However a hello is cut into segments, nothing is decided too early or wrongly."""
    hello = make_hello(_NAME)
    for size in range(len(hello)):
        assert read_client_hello(hello[:size]) == Hello(HelloState.NEED_MORE), size
    assert read_client_hello(hello + b"more").sni == _NAME


def test_a_name_in_capitals_is_lowered() -> None:
    """SNI compares without case (RFC 6066 section 3)."""
    hello = make_hello(_NAME).replace(_NAME.encode(), _NAME.upper().encode())
    assert read_client_hello(hello).sni == _NAME


def test_a_hello_without_a_server_name_is_a_hello_without_one() -> None:
    """No SNI: the caller treats it as not for us."""
    assert read_client_hello(make_hello(None)) == Hello(HelloState.HELLO, "")


_HEAD = make_hello(_NAME)[:11]


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x02",
        b"\x16\x03\x02",
        b"\x16\x03\x01\x00\x10\x02",
        b"\x16\x03\x01\x00\x10\x01\x01\x00\x00",
        b"\x16\x03\x01\x00\x10\x01\x00\x00\x0d",
        b"\x16\x03\x01\x40\x01\x01\x00\x00\x04",
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x02",
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x02",
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",
    ],
    ids=lambda data: data.hex(),
)
def test_what_cannot_become_a_hello_is_not_tls_at_once(data: bytes) -> None:
    """The first byte that breaks the form decides."""
    assert read_client_hello(data) == Hello(HelloState.NOT_TLS)


def _with_extensions(extensions: bytes, *, declared: int | None = None) -> bytes:
    size = len(extensions) if declared is None else declared
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    body += size.to_bytes(2, "big") + extensions
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello


def _server_name(entry: bytes) -> bytes:
    listed = len(entry).to_bytes(2, "big") + entry
    return b"\x00\x00" + len(listed).to_bytes(2, "big") + listed


@pytest.mark.parametrize(
    "data",
    [
        _with_extensions(b"", declared=4),
        _with_extensions(b"\x00\x00\x00"),
        _with_extensions(b"\x00\x10\x00\x09ab"),
        _with_extensions(_server_name(b"\x00\x00\x00")),
        _with_extensions(_server_name(b"\x01\x00\x01a")),
        _with_extensions(_server_name(b"\x00\x00\x09a")),
        _with_extensions(_server_name(b"\x00\x00\x02\xc3\xa9")),
    ],
    ids=range(7),
)
def test_garbled_extensions_are_not_tls(data: bytes) -> None:
    """Lengths that contradict each other, empty and non-ASCII names."""
    assert read_client_hello(data) == Hello(HelloState.NOT_TLS)


def _named(name: bytes) -> bytes:
    return _with_extensions(_server_name(b"\x00" + len(name).to_bytes(2, "big") + name))


def test_a_name_is_no_longer_than_dns_has_it() -> None:
    """It becomes a metric's label: at the bound it is read, one past it the hello is no hello."""
    assert read_client_hello(_named(b"a" * 253)) == Hello(HelloState.HELLO, "a" * 253)
    assert read_client_hello(_named(b"a" * 254)) == Hello(HelloState.NOT_TLS)


@pytest.mark.parametrize("name", [b"a b", b"a\n", b"a\x00", b'a"', b"a/b", b"[::1]", b"\x7f"])
def test_a_name_holds_nothing_that_a_host_name_does_not(name: bytes) -> None:
    """Nor what would have to be escaped wherever it is shown."""
    assert read_client_hello(_named(name)) == Hello(HelloState.NOT_TLS)


def test_vectors_over_the_bound_are_not_tls() -> None:
    """A cipher-suite list of 8,192 bytes is the longest that is read."""

    def with_suites(size: int) -> bytes:
        body = (
            b"\x03\x03" + bytes(32) + b"\x00" + size.to_bytes(2, "big") + bytes(size) + b"\x01\x00"
        )
        hello = b"\x01" + len(body).to_bytes(3, "big") + body
        return b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello

    assert read_client_hello(with_suites(8_192)) == Hello(HelloState.HELLO)
    assert read_client_hello(with_suites(8_194)) == Hello(HelloState.NOT_TLS)


def test_a_record_at_its_bound_is_read_and_one_past_it_is_not() -> None:
    """A record holds 16,384 bytes at most (RFC 8446 section 5.1)."""
    room = MAX_RECORD_BYTES - len(_with_extensions(b"\x00\x15\x00\x00"))

    def padded(padding: int) -> bytes:
        return _with_extensions(b"\x00\x15" + padding.to_bytes(2, "big") + bytes(padding))

    assert len(padded(room)) == MAX_RECORD_BYTES
    assert read_client_hello(padded(room)) == Hello(HelloState.HELLO)
    assert read_client_hello(padded(room + 1)) == Hello(HelloState.NOT_TLS)


def test_garbage_never_raises_and_never_changes_with_what_follows() -> None:
    """Any bytes give a verdict; a verdict other than NEED_MORE is final."""
    source = random.Random(7)
    hello = bytearray(make_hello(_NAME))
    for _ in range(3_000):
        mutant = bytearray(hello)
        for _ in range(source.randrange(1, 5)):
            mutant[source.randrange(len(mutant))] = source.randrange(256)
        cut = source.randrange(len(mutant) + 1)
        early = read_client_hello(mutant[:cut])
        if early.state is not HelloState.NEED_MORE:
            assert read_client_hello(mutant) == early

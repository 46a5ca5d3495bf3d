"""The tables of HPACK: the static one (RFC 7541 appendix A) and the rules of both (§2.3, §4)."""

from __future__ import annotations

from typing import Final

from proxy.wire.http2_header import classify
from proxy.wire.http_field import Field

ENTRY_OVERHEAD: Final = 32
"""What an entry costs besides its octets (RFC 7541 §4.1)."""

DEFAULT_TABLE_SIZE: Final = 4_096

STATIC: Final[tuple[Field, ...]] = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
)
"""The entries from index 1 on."""

FIRST_DYNAMIC: Final = len(STATIC) + 1
"""The index of the entry that was added last."""

Entry = tuple[Field, int, int]
"""A field, its kind (``http2_header.classify``), its size."""


def entry_of(name: bytes, value: bytes) -> Entry:
    """Return a field as an entry of the table."""
    return (name, value), classify(name, value), len(name) + len(value) + ENTRY_OVERHEAD


STATIC_ENTRIES: Final[tuple[Entry, ...]] = tuple([entry_of(name, value) for name, value in STATIC])


def encode_integer(value: int, prefix: int, first: int) -> bytes:
    """Return ``value`` with a prefix of ``prefix`` bits under the bits of ``first`` (§5.1)."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes((first | value,))
    out = [first | most]
    value -= most
    while value >= 128:
        out.append((value & 127) | 128)
        value >>= 7
    out.append(value)
    return bytes(out)

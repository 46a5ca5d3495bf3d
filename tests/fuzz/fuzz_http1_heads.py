"""Any head means the same to the HTTP/1 reader that runs and to its reference, fault by fault.

So do its fields to all that walks over them. Where the kernels are built with AddressSanitizer,
they also read nothing but their input.
"""

from __future__ import annotations

import zlib
from typing import Final

from proxy.wire import http1_writer, http_field, native, orig_proto_field
from proxy.wire.http1_limit import LENIENCY, LIMITS, STRICT, Http1Limits
from proxy.wire.http_field import PER_CONNECTION, Fields
from proxy.wire.http_message import RequestHead, ResponseHead
from proxy.wire.orig_proto_field import MARK, TAKEN_OFF
from tests.fuzz.engine import Target
from tests.wire.http1_head_cases import HEADS
from tests.wire.http1_pair import lines_of, request_of, response_of
from tests.wire.http1_response_cases import RESPONSES
from tests.wire.http1_traffic import FRAGMENTS

_TIGHT: Final = Http1Limits(start_line=40, field_line=60, fields=6)
_MARK: Final[Fields] = ((MARK, b"HTTP/1.1"),)


def run(data: bytes) -> str:
    """Check one head; return what kind it is."""
    lines = lines_of(data)
    if not lines:
        return "none"
    chance = zlib.adler32(data)
    limits = _TIGHT if chance & 1 else LIMITS
    leniency = STRICT if chance & 2 else LENIENCY
    method = (b"GET", b"HEAD", b"CONNECT", b"POST")[chance >> 2 & 3]
    head: RequestHead | ResponseHead | str = response_of(lines, method, limits, leniency)
    if isinstance(head, str):
        head = request_of(lines, limits, leniency)
    if isinstance(head, str):
        return head
    _check_fields(head.fields)
    return f"{type(head).__name__} {len(head.fields)} {min(head.length, 1)} {head.keep_alive}" + (
        f" {head.form} {bool(head.upgrade)}" if isinstance(head, RequestHead) else ""
    )


def _check_fields(fields: Fields) -> None:
    """Walk over fields in both ways."""
    for names in (PER_CONNECTION, TAKEN_OFF, frozenset(name for name, _ in fields[::2])):
        assert native.has_any(fields, names) == http_field.has_any(fields, names)
        assert native.without_fields(fields, names) == http_field.without_fields(fields, names)
        assert native.land(fields, names) == orig_proto_field.land(fields, names)
    assert native.without_hop_by_hop(fields) == http_field.without_hop_by_hop(fields)
    ridden = native.ride(b"GET", b"http", b"a", b"/", fields, _MARK)
    assert ridden == orig_proto_field.ride(b"GET", b"http", b"a", b"/", fields, _MARK)
    assert native.ride_back(fields, _MARK) == orig_proto_field.ride_back(fields, _MARK)
    for name, _ in fields:
        assert native.value_of(fields, name) == http_field.value_of(fields, name)
    written = native.write_request_head(b"GET", b"/", fields, 11)
    assert written == http1_writer.write_request_head(b"GET", b"/", fields, 11)


TARGET: Final = Target(
    "http1_heads",
    run,
    [case.data for case in (*HEADS, *RESPONSES) if len(case.data) < 1_000],
    (*FRAGMENTS, b"L5D-Orig-Proto: HTTP/1.0\r\n", b"TE: trailers\r\n", b"Cookie: a\r\n", b"204"),
)

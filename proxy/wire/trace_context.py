"""The trace a request belongs to, as its headers say: for the log, never to be changed.

W3C Trace Context §3.2 (``traceparent``), then B3 in one header and in several. Where there is no
trace, the request's own id as Linkerd's access log takes it. A value that is not what its header
may hold says nothing: the next one is asked.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.wire.http_field import Fields

MAX_REQUEST_ID: Final = 128
"""Octets of a request id, which has no form of its own."""

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?"
)
_FIRST_VERSION: Final = b"00-"
_FIRST_LENGTH: Final = 55
_B3: Final = re.compile(
    rb"(?!0+-)([0-9a-f]{16}|[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}(-[01d](-[0-9a-f]{16})?)?"
)
_B3_TRACE_ID: Final = re.compile(rb"(?!0+\Z)([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32})")
_REQUEST_ID: Final = re.compile(rb"[!-~]{1,%d}" % MAX_REQUEST_ID)

_NAMES: Final = (b"traceparent", b"b3", b"x-b3-traceid", b"x-request-id", b"x-amzn-trace-id")
"""In the order that they count."""
_KNOWN: Final = frozenset(_NAMES)


def trace_id_of(fields: Fields) -> str:
    """Return the id of the trace that ``fields`` belong to: 16 or 32 hexadecimal digits.

    Without a trace it is the request's id, visible ASCII of bounded length; without that, empty.
    """
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _KNOWN:
            found.setdefault(name, value)
    if not found:
        return ""
    for name in _NAMES:
        value = found.get(name, b"")
        trace_id = _read(name, value) if value else b""
        if trace_id:
            return trace_id.decode("ascii")
    return ""


def _read(name: bytes, value: bytes) -> bytes:
    """Return the id in the value of the header ``name``; empty when there is none."""
    match name:
        case b"traceparent":
            if value.startswith(_FIRST_VERSION) and len(value) != _FIRST_LENGTH:
                return b""
            parts = _TRACEPARENT.fullmatch(value)
        case b"b3":
            parts = _B3.fullmatch(value)
        case b"x-b3-traceid":
            parts = _B3_TRACE_ID.fullmatch(value)
        case _:
            return value if _REQUEST_ID.fullmatch(value) is not None else b""
    return b"" if parts is None else parts[1].lower()

"""HTTP/1 messages as bytes: heads from method, target and fields; chunks; trailers.

What is written here has been read and judged before: fields come from ``http1_head`` or
``http2_header`` or are our own. Names go out in lower case, as they do from Linkerd.
"""

from __future__ import annotations

from typing import Final

from proxy.wire.http_field import Fields
from proxy.wire.http_message import HTTP_10

LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of chunked content without trailers."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_REASONS: Final = {
    100: b"Continue",
    101: b"Switching Protocols",
    103: b"Early Hints",
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    204: b"No Content",
    206: b"Partial Content",
    301: b"Moved Permanently",
    302: b"Found",
    303: b"See Other",
    304: b"Not Modified",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    411: b"Length Required",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    508: b"Loop Detected",
}
"""Words for statuses that come without any: HTTP/2 has none."""


def reason_of(status: int) -> bytes:
    """Return the usual words for a status; empty when it has none."""
    return _REASONS.get(status, b"")


def write_request_head(method: bytes, target: bytes, fields: Fields, version: int) -> bytes:
    """Return a request's head, its blank line included."""
    protocol = b" HTTP/1.0" if version == HTTP_10 else b" HTTP/1.1"
    lines = [method + b" " + target + protocol]
    lines += [name + b": " + value for name, value in fields]
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def write_response_head(status: int, reason: bytes, fields: Fields, version: int) -> bytes:
    """Return a response's head, its blank line included."""
    protocol = b"HTTP/1.0 %d %b" if version == HTTP_10 else b"HTTP/1.1 %d %b"
    lines = [protocol % (status, reason)]
    lines += [name + b": " + value for name, value in fields]
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def write_chunk(data: bytes) -> bytes:
    """Return ``data`` as one chunk; empty data as nothing, for an empty chunk would be the end."""
    if not data:
        return b""
    return b"%x\r\n%b\r\n" % (len(data), data)


def write_last_chunk(trailers: Fields) -> bytes:
    """Return the end of chunked content with its trailers."""
    if not trailers:
        return LAST_CHUNK
    lines = [b"0"]
    lines += [name + b": " + value for name, value in trailers]
    lines.append(b"\r\n")
    return b"\r\n".join(lines)

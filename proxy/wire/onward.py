"""Requests as the next hop is sent them, in the version that hop speaks.

Fields that speak of one connection only stay behind (RFC 9110 §7.6.1), except where the request
asks for another protocol: then they are what it is about. HTTP/1 that is to ride on HTTP/2, and
what has ridden, is ``orig_proto``'s.
"""

from __future__ import annotations

from typing import Final

from proxy.wire.http_message import CHUNKED, HTTP_10, Form, RequestHead
from proxy.wire.native import value_of, without_fields, without_hop_by_hop
from proxy.wire.orig_proto import Http1Request, Http2Head

_CODING: Final = frozenset((b"transfer-encoding",))
_PSEUDO_AUTHORITY: Final = b":authority"


def onward_http1(head: RequestHead, *, ended: bool) -> Http1Request:
    """Return an HTTP/1 request for a server of HTTP/1; ``ended``: it has no content."""
    fields = head.fields
    if not head.upgrade and head.form is not Form.AUTHORITY:
        fields = without_hop_by_hop(fields)
    is_chunked = head.length == CHUNKED
    if is_chunked and ended:
        is_chunked = False
        fields = (*without_fields(fields, _CODING), (b"content-length", b"0"))
    if head.form is Form.AUTHORITY:
        target = head.authority
    elif head.form is Form.ABSOLUTE:
        target = head.scheme + b"://" + head.authority + (b"" if head.path == b"*" else head.path)
    else:
        target = head.path
    is_last = head.version == HTTP_10 or value_of(fields, b"host") is None
    return Http1Request(head.method, target, fields, head.version, is_chunked, is_last)


def onward_http2(head: RequestHead) -> Http2Head:
    """Return an HTTP/2 request for a server of HTTP/2."""
    if head.form is Form.AUTHORITY:
        return ((b":method", head.method), (_PSEUDO_AUTHORITY, head.authority)), head.fields
    pseudo = (
        (b":method", head.method),
        (b":scheme", head.scheme),
        (_PSEUDO_AUTHORITY, head.authority),
        (b":path", head.path),
    )
    return pseudo, head.fields

"""HTTP/1 that rides on HTTP/2 between sidecars, as Linkerd carries it.

The outbound side marks a request with ``l5d-orig-proto``: the version that the client spoke, and
whether it used the absolute form. The inbound side takes the mark off and speaks that HTTP/1 to
the application; its answer goes back with a mark of its own. Upgrades and CONNECT do not ride:
they need a connection for themselves. A request without a mark is HTTP/2's own.

Nothing here trusts a mark: it chooses how we write to the application, not what we believe.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.wire.http_field import (
    PER_CONNECTION,
    Field,
    Fields,
    has_any,
    list_members,
    value_of,
    with_one_cookie,
    without_fields,
    without_hop_by_hop,
)
from proxy.wire.http_message import (
    CHUNKED,
    HTTP_2,
    HTTP_10,
    HTTP_11,
    Form,
    RequestHead,
    ResponseHead,
)

MARK: Final = b"l5d-orig-proto"
_TAKEN_OFF: Final = frozenset((MARK, b"transfer-encoding", b"te", b"http2-settings"))
_TAKEN_OFF_BY_APP: Final = _TAKEN_OFF - {b"te"}
_RESPONSE_TAKEN_OFF: Final = frozenset((MARK, b"transfer-encoding"))
_NOT_RIDING: Final = _TAKEN_OFF | PER_CONNECTION
_LENGTH: Final = frozenset((b"content-length",))
_ABSOLUTE: Final = b"absolute-form"
_CHUNKED: Final[Field] = (b"transfer-encoding", b"chunked")


class Http2Head(NamedTuple):
    """A head as HTTP/2 sends it."""

    pseudo: Fields
    fields: Fields


class Http1Request(NamedTuple):
    """A request as ``http1_writer`` writes it."""

    method: bytes
    target: bytes
    fields: Fields
    version: int
    is_chunked: bool


def can_ride(head: RequestHead) -> bool:
    """Tell whether a request may be carried as HTTP/2: no upgrade and no CONNECT."""
    return head.version != HTTP_2 and not head.upgrade and head.form is not Form.AUTHORITY


def ride(head: RequestHead, authority: bytes) -> Http2Head:
    """Return an HTTP/1 request as HTTP/2, marked; ``authority`` counts where it names none.

    A mark that the client sent is replaced. Host stays: Linkerd's inbound side makes none up.
    """
    mark = b"HTTP/1.0" if head.version == HTTP_10 else b"HTTP/1.1"
    if head.form is Form.ABSOLUTE:
        mark += b"; " + _ABSOLUTE
    fields = head.fields
    if has_any(fields, _NOT_RIDING):
        fields = without_hop_by_hop(fields)
        accepts_trailers = any(
            name == b"te" and b"trailers" in list_members(value) for name, value in fields
        )
        fields = without_fields(fields, _TAKEN_OFF)
        if accepts_trailers:
            fields = (*fields, (b"te", b"trailers"))
    pseudo = (
        (b":method", head.method),
        (b":scheme", head.scheme or b"http"),
        (b":authority", head.authority or authority),
        (b":path", head.path),
    )
    return Http2Head(pseudo, (*fields, (MARK, mark)))


def mark_of(head: RequestHead | ResponseHead) -> bytes | None:
    """Return the mark of a head that came by HTTP/2; None: it has none, or none that is known."""
    for name, value in head.fields:
        if name == MARK:
            return value if value.startswith((b"HTTP/1.1", b"HTTP/1.0")) else None
    return None


def has_ridden(head: RequestHead) -> bool:
    """Tell whether a request came as HTTP/1 by HTTP/2. CONNECT never does, whatever its mark."""
    return head.version == HTTP_2 and head.form is not Form.AUTHORITY and mark_of(head) is not None


def alight(head: RequestHead, *, ended: bool) -> Http1Request:
    """Return a request that came by HTTP/2 as HTTP/1 for the application.

    The mark, where there is one, says version and form; without one it is 1.1 in origin form.
    Content of unknown length is chunked, which needs 1.1 whatever the mark says.
    """
    mark = mark_of(head) or b"HTTP/1.1"
    version = HTTP_10 if mark.startswith(b"HTTP/1.0") else HTTP_11
    fields = with_one_cookie(without_fields(head.fields, _TAKEN_OFF_BY_APP))
    chunked = head.length == CHUNKED and not ended
    if chunked:
        version = HTTP_11
        fields = (*fields, _CHUNKED)
    if version == HTTP_11 and value_of(fields, b"host") is None:
        fields = ((b"host", head.authority), *fields)
    target = head.path
    if mark[10:23] == _ABSOLUTE:
        target = head.scheme + b"://" + head.authority
        if head.form is Form.ORIGIN:
            target += head.path
    return Http1Request(head.method, target, fields, version, chunked)


def ride_back(head: ResponseHead) -> Http2Head:
    """Return the application's HTTP/1 answer as HTTP/2, marked with the version it spoke."""
    mark = b"HTTP/1.0" if head.version == HTTP_10 else b"HTTP/1.1"
    fields = head.fields
    if has_any(fields, _NOT_RIDING):
        fields = without_fields(without_hop_by_hop(fields), _RESPONSE_TAKEN_OFF)
    if head.status < 200 or head.status == 204:
        fields = without_fields(fields, _LENGTH)
    return Http2Head(((b":status", b"%d" % head.status),), (*fields, (MARK, mark)))


def alight_back(head: ResponseHead, version: int) -> tuple[int, Fields]:
    """Return version and fields of an answer that came by HTTP/2, for a client of ``version``.

    The mark says which version the application spoke; without one it is the client's own.
    """
    mark = mark_of(head)
    if mark is not None:
        version = HTTP_10 if mark.startswith(b"HTTP/1.0") else HTTP_11
    return version, without_fields(head.fields, _RESPONSE_TAKEN_OFF)

"""HTTP/1 that rides on HTTP/2 between sidecars, as Linkerd carries it.

The outbound side marks a request with ``l5d-orig-proto``: the version that the client spoke, and
whether it used the absolute form. The inbound side takes the mark off and speaks that HTTP/1 to
the application; its answer goes back with a mark of its own. Upgrades and CONNECT do not ride:
they need a connection for themselves. A request without a mark is HTTP/2's own.

Nothing here trusts a mark: it chooses how we write to the application, not what we believe.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from proxy.wire import native
from proxy.wire.http_field import Field, Fields, with_one_cookie
from proxy.wire.http_message import (
    CHUNKED,
    HTTP_2,
    HTTP_10,
    HTTP_11,
    Form,
    RequestHead,
    ResponseHead,
)
from proxy.wire.native import land, value_of, without_fields
from proxy.wire.orig_proto_field import CLIENT_ID, MARK, TAKEN_OFF

_TAKEN_OFF_BY_APP: Final = TAKEN_OFF - {b"te"} | {CLIENT_ID}
_LENGTH: Final = frozenset((b"content-length",))
_CHUNKED: Final[Field] = (b"transfer-encoding", b"chunked")
_MARK_10: Final[Fields] = ((MARK, b"HTTP/1.0"),)
_MARK_11: Final[Fields] = ((MARK, b"HTTP/1.1"),)
_MARK_10_ABSOLUTE: Final[Fields] = ((MARK, b"HTTP/1.0; absolute-form"),)
_MARK_11_ABSOLUTE: Final[Fields] = ((MARK, b"HTTP/1.1; absolute-form"),)
_ABSOLUTE: Final = b"absolute-form"
_ABSOLUTE_FORM: Final = Form.ABSOLUTE
_AUTHORITY_FORM: Final = Form.AUTHORITY

Http2Head = tuple[Fields, Fields]
"""A head as HTTP/2 sends it: pseudo-header fields, and those behind them."""


@final
@dataclass(slots=True, init=False)
class Http1Request:
    """A request as ``http1_writer`` writes it."""

    method: bytes
    target: bytes
    fields: Fields
    version: int
    is_chunked: bool
    is_last: bool
    """Its connection carries no other one, as in Linkerd: a server may close behind HTTP/1.0, and
    takes a request without Host for anybody's."""

    def __init__(
        self,
        method: bytes,
        target: bytes,
        fields: Fields,
        version: int,
        is_chunked: bool,
        is_last: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.version = version
        self.is_chunked = is_chunked
        self.is_last = is_last


def can_ride(head: RequestHead) -> bool:
    """Tell whether a request may be carried as HTTP/2: no upgrade and no CONNECT."""
    return head.version != HTTP_2 and not head.upgrade and head.form is not _AUTHORITY_FORM


def ride(head: RequestHead, authority: bytes) -> Http2Head:
    """Return an HTTP/1 request as HTTP/2, marked; ``authority`` counts where it names none.

    A mark that the client sent is replaced. Host stays: Linkerd's inbound side makes none up.
    """
    if head.form is _ABSOLUTE_FORM:
        mark = _MARK_10_ABSOLUTE if head.version == HTTP_10 else _MARK_11_ABSOLUTE
    else:
        mark = _MARK_10 if head.version == HTTP_10 else _MARK_11
    return native.ride(
        head.method,
        head.scheme or b"http",
        head.authority or authority,
        head.path,
        head.fields,
        mark,
    )


def mark_of(head: RequestHead | ResponseHead) -> bytes | None:
    """Return the mark of a head that came by HTTP/2; None: it has none, or none that is known."""
    return _known(value_of(head.fields, MARK))


def _known(mark: bytes | None) -> bytes | None:
    """Return a mark that is known, None for another."""
    if mark is None or mark == b"HTTP/1.1":
        return mark
    return mark if mark.startswith((b"HTTP/1.1", b"HTTP/1.0")) else None


def has_ridden(head: RequestHead) -> bool:
    """Tell whether a request came as HTTP/1 by HTTP/2. CONNECT never does, whatever its mark."""
    return head.version == HTTP_2 and head.form is not _AUTHORITY_FORM and mark_of(head) is not None


def alight(head: RequestHead, client_id: Fields = (), *, ended: bool) -> Http1Request:
    """Return a request that came by HTTP/2 as HTTP/1 for the application.

    The mark, where there is one, says version and form; without one it is 1.1 in origin form.
    Content of unknown length is chunked, which needs 1.1 whatever the mark says. ``client_id``
    takes the place of what the request itself says of who asks.
    """
    fields, found, has_host, has_crumbs = land(head.fields, _TAKEN_OFF_BY_APP)
    if client_id:
        fields += client_id
    version = HTTP_11
    target = head.path
    mark = _known(found)
    if mark is not None and mark != b"HTTP/1.1":
        if mark.startswith(b"HTTP/1.0"):
            version = HTTP_10
        if mark[10:23] == _ABSOLUTE:
            target = head.scheme + b"://" + head.authority
            if head.form is Form.ORIGIN:
                target += head.path
    if has_crumbs:
        fields = with_one_cookie(fields)
    chunked = head.length == CHUNKED and not ended
    if chunked:
        version = HTTP_11
        fields = (*fields, _CHUNKED)
    if version == HTTP_11 and not has_host:
        fields = ((b"host", head.authority), *fields)
    is_last = version == HTTP_10
    return Http1Request(head.method, target, fields, version, chunked, is_last)


def ride_back(head: ResponseHead) -> Fields:
    """Return the fields of the application's HTTP/1 answer, marked with the version it spoke."""
    status = head.status
    fields = native.ride_back(head.fields, _MARK_10 if head.version == HTTP_10 else _MARK_11)
    if status < 200 or status == 204:
        fields = without_fields(fields, _LENGTH)
    return fields

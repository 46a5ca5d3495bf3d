"""What a route's filters do to a request and to its response, the same in both directions. Pure.

Filters act in the order of their list, after the decision about a request and before it is sent
(Gateway API, HTTPRouteFilter; linkerd2-proxy, app/inbound/src/policy/http.rs). Copies for a mirror
and CORS are no edits of a head: whoever carries the request looks for those filters himself.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from core.errors import RefusedError
from policy.route import (
    FailureInjector,
    Filter,
    ForbiddenFilter,
    GrpcMatch,
    HeaderModifier,
    HttpMatch,
    InvalidFilter,
    PathMatchKind,
    PathRewrite,
    PathRewriteKind,
    Ratio,
    Redirect,
    RequestHeaders,
    ResponseHeaders,
    UrlRewrite,
)
from proxy.http.answer import injected_answer, redirect_answer
from proxy.wire.http_field import PER_CONNECTION, TOKEN, Field, Fields, safe_value
from proxy.wire.http_message import RequestHead, ResponseHead
from proxy.wire.native import without_fields
from proxy.wire.orig_proto_field import MARK

Match = HttpMatch | GrpcMatch | None

FIXED: Final = PER_CONNECTION | {
    *(b"host", b"content-length", b"transfer-encoding", b"te", b"trailer", b"expect", MARK),
}
"""What no filter edits: it says where a message ends, or whom it is for."""
_PORTS: Final = {b"http": b"80", b"https": b"443"}
_IN_A_PATH: Final = "/%:@!$&'()*+,;=-._~"
"""What stands in a path as it is (RFC 3986 §3.3); an escape of the user's is one already."""
_IN_A_HOST: Final = "-._~[]:"
_TOKEN: Final = re.compile(TOKEN + rb"++")


def filter_request(
    filters: tuple[Filter, ...],
    match: Match,
    head: RequestHead,
    roll: float,
    *,
    is_grpc: bool,
    injects: bool,
) -> RequestHead | ResponseHead:
    """Return a request as it goes on, or what answers it instead.

    ``match`` is what it met, ``roll`` a number in [0, 1) for what happens to some requests only.
    ``injects``: a failure that is asked for is answered as it is written; Linkerd does so
    outbound, and inbound makes 500 of it. Raises RefusedError for a filter that refuses.
    """
    for each in filters:
        if isinstance(each, RequestHeaders):
            fields = edit_fields(head.fields, each.modifier)
            if fields is not head.fields:
                head = replace(head, fields=fields)
        elif isinstance(each, Redirect):
            location = location_of(each, match, head)
            return redirect_answer(head.version, each.status, location, is_grpc=is_grpc)
        elif isinstance(each, UrlRewrite):
            head = _rewritten(each, match, head)
        elif isinstance(each, FailureInjector):
            if not is_chosen(each.ratio, roll):
                continue
            if not injects:
                raise RefusedError(
                    each.message or "the route's policy injects a failure", code="injected"
                )
            return injected_answer(
                head.version, each.status, each.message, is_grpc=is_grpc, is_code=each.is_grpc
            )
        elif isinstance(each, InvalidFilter):
            raise _invalid(each.message)
        elif isinstance(each, ForbiddenFilter):
            raise RefusedError("traffic not allowed", code="forbidden-destination")
    return head


def filter_response(filters: tuple[Filter, ...], head: ResponseHead) -> ResponseHead:
    """Return a server's response as the client shall see it; the same object if nothing is edited.

    An answer of ours is not edited.
    """
    fields = head.fields
    for each in filters:
        if isinstance(each, ResponseHeaders):
            fields = edit_fields(fields, each.modifier)
    return head if fields is head.fields else replace(head, fields=fields)


def is_chosen(ratio: Ratio, roll: float) -> bool:
    """Whether one of those that happen to some requests happens to this one."""
    return roll * ratio.denominator < ratio.numerator


def edit_fields(fields: Fields, modifier: HeaderModifier) -> Fields:
    """Return fields with a modifier's edits, in any case of their names.

    ``set`` takes the place of all fields of its name, ``add`` stands behind them.
    """
    gone, more = _edits(modifier)
    fields = without_fields(fields, gone)
    return (*fields, *more) if more else fields


def location_of(redirect: Redirect, match: Match, head: RequestHead) -> bytes:
    """Return where a request is sent instead; what the redirect does not say stays, the query too.

    The well-known port of a new scheme takes the place of the request's own port, and none is
    written that the scheme has anyway. A request that names no host is told a path.
    """
    host, port = _split(head.authority)
    scheme = redirect.scheme.encode("ascii") or head.scheme or b"http"
    if redirect.host:
        host = _host(redirect.host)
    if redirect.port is not None:
        port = b"%d" % redirect.port
    elif redirect.scheme:
        port = b""
    path = head.path if head.path.startswith(b"/") else b"/"
    if redirect.path is not None:
        path = rewrite_path(redirect.path, match, path)
    if not host:
        # More than one slash in front would make the path's beginning a host.
        return b"/" + path.lstrip(b"/")
    if port and port != _PORTS.get(scheme):
        host = host + b":" + port
    return scheme + b"://" + host + path


def rewrite_path(rewrite: PathRewrite, match: Match, target: bytes) -> bytes:
    """Return a path and query with the path, or the prefix of it that was matched, replaced.

    A prefix ends where a segment does, and slashes at its end do not count (Gateway API,
    HTTPPathModifier). Raises RefusedError where no prefix was matched.
    """
    path, mark, query = target.partition(b"?")
    value = quote(rewrite.value, safe=_IN_A_PATH).encode("ascii")
    if rewrite.kind is PathRewriteKind.PREFIX:
        value = value.rstrip(b"/") + path[_prefix_length(match) :]
    if not value.startswith(b"/"):
        value = b"/" + value
    return value + mark + query


def _prefix_length(match: Match) -> int:
    path = match.path if isinstance(match, HttpMatch) else None
    if path is None or path.kind is not PathMatchKind.PREFIX:
        raise _invalid("a prefix is to be replaced where none is matched")
    return len(path.value.encode("utf-8").rstrip(b"/"))


def _rewritten(rewrite: UrlRewrite, match: Match, head: RequestHead) -> RequestHead:
    if rewrite.path is not None and head.path.startswith(b"/"):
        head = replace(head, path=rewrite_path(rewrite.path, match, head.path))
    if rewrite.host:
        host = _host(rewrite.host)
        fields = tuple((name, host if name == b"host" else value) for name, value in head.fields)
        head = replace(head, authority=host, fields=fields)
    return head


def _host(name: str) -> bytes:
    return quote(name, safe=_IN_A_HOST).encode("ascii")


def _split(authority: bytes) -> tuple[bytes, bytes]:
    """Return host and port; the brackets of an IPv6 address belong to the host."""
    host, colon, port = authority.rpartition(b":")
    if not colon or port.endswith(b"]"):
        return authority, b""
    return host, port


@lru_cache(maxsize=1024)
def _edits(modifier: HeaderModifier) -> tuple[frozenset[bytes], tuple[Field, ...]]:
    """Return which fields go, and which come; of the fixed ones, and of what is no name, none."""
    gone = [name.lower().encode() for name in (*modifier.remove, *dict(modifier.set))]
    more = [
        (name.lower().encode(), safe_value(value)) for name, value in (*modifier.set, *modifier.add)
    ]
    return (
        frozenset(gone) - FIXED,
        tuple(each for each in more if each[0] not in FIXED and _TOKEN.fullmatch(each[0])),
    )


def _invalid(message: str) -> RefusedError:
    return RefusedError(f"invalid server policy: {message}", code="filter-invalid")

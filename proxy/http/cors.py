"""Which origins may read what a server says: the answers of a CORS filter. Pure.

Fetch Standard, HTTP extensions (CORS protocol), as the Gateway API's HTTPCORSFilter asks for it.
Requests are never refused here: it is the browser that holds back what it is not told to show.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

from policy.route import Cors
from proxy.wire.http_field import Field, safe_value
from proxy.wire.http_message import RequestHead, ResponseHead
from proxy.wire.native import value_of, without_fields

_ORIGIN: Final = b"access-control-allow-origin"
_CREDENTIALS: Final = b"access-control-allow-credentials"
_EXPOSE: Final = b"access-control-expose-headers"
_METHOD: Final = b"access-control-request-method"
_HEADERS: Final = b"access-control-request-headers"
_OURS: Final = frozenset((_ORIGIN, _CREDENTIALS, _EXPOSE))
_VARY: Final[Field] = (b"vary", b"origin")
_NO_CONTENT: Final[Field] = (b"content-length", b"0")
_PORTS: Final = {"http": "80", "https": "443"}
_ALL: Final = ("*",)
MAX_ORIGIN: Final = 512
"""Longer ones are nobody's: a host's name has 253 characters at most."""


def preflight_answer(cors: Cors, head: RequestHead) -> ResponseHead | None:
    """Return the answer to a preflight request; None: it is none.

    An origin that is not allowed gets an answer that allows it nothing.
    """
    if head.method != b"OPTIONS":
        return None
    origin, method = value_of(head.fields, b"origin"), value_of(head.fields, _METHOD)
    if origin is None or method is None:
        return None
    fields: list[Field] = [_VARY]
    if is_allowed(cors, origin):
        fields = [*_origin_fields(cors, origin), *_permissions(cors, head, method)]
    return ResponseHead(200, b"", head.version, (*fields, _NO_CONTENT), 0, keep_alive=True)


def cors_response(cors: Cors, request: RequestHead, head: ResponseHead) -> ResponseHead:
    """Return a server's response with what an allowed origin is told; what it said itself goes."""
    origin = value_of(request.fields, b"origin")
    if origin is None or not is_allowed(cors, origin):
        return head
    fields = (*without_fields(head.fields, _OURS), *_origin_fields(cors, origin))
    if cors.expose_headers:
        fields = (*fields, (_EXPOSE, _listed(cors.expose_headers)))
    return replace(head, fields=fields)


def is_allowed(cors: Cors, origin: bytes) -> bool:
    """Whether an origin is among those allowed; an asterisk stands for any labels in front."""
    if len(origin) > MAX_ORIGIN:
        return False
    if cors.allow_origins == _ALL:
        return True
    given = _split(origin.decode("latin-1"))
    return given is not None and any(
        wanted is not None and _fits(wanted, given) for wanted in _patterns(cors.allow_origins)
    )


def _origin_fields(cors: Cors, origin: bytes) -> tuple[Field, ...]:
    if cors.allow_credentials:
        return ((_ORIGIN, origin), (_CREDENTIALS, b"true"), _VARY)
    if cors.allow_origins == _ALL:
        return ((_ORIGIN, b"*"),)
    return ((_ORIGIN, origin), _VARY)


def _permissions(cors: Cors, head: RequestHead, method: bytes) -> list[Field]:
    """Return what a preflight asks for: with credentials an asterisk means only itself."""
    fields: list[Field] = []
    methods = _listed(cors.allow_methods)
    if cors.allow_methods == _ALL and cors.allow_credentials:
        methods = method if _is_list(method) else b""
    if methods:
        fields.append((b"access-control-allow-methods", methods))
    headers = _listed(cors.allow_headers)
    if cors.allow_headers == _ALL and cors.allow_credentials:
        asked = value_of(head.fields, _HEADERS) or b""
        headers = asked if _is_list(asked) else b""
    if headers:
        fields.append((b"access-control-allow-headers", headers))
    if cors.expose_headers:
        fields.append((_EXPOSE, _listed(cors.expose_headers)))
    fields.append((b"access-control-max-age", b"%d" % cors.max_age_s))
    return fields


def _listed(names: tuple[str, ...]) -> bytes:
    return safe_value(", ".join(names))


def _is_list(value: bytes) -> bool:
    """Whether a value is nothing but tokens and what stands between them."""
    return bool(value) and not value.strip(_TOKENS)


_TOKENS: Final = (
    b"!#$%&'*+-.^_`|~0123456789, \tabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

_Parts = tuple[str, str, str]
"""Scheme, host and port."""


@lru_cache(maxsize=1024)
def _patterns(origins: tuple[str, ...]) -> tuple[_Parts | None, ...]:
    return tuple(_split(each) for each in origins)


def _split(origin: str) -> _Parts | None:
    """Return an origin's parts, its port in full; None for what is none, ``null`` included."""
    scheme, mark, rest = origin.lower().partition("://")
    if not mark or not rest or "/" in rest or "@" in rest:
        return None
    host, colon, port = rest.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = rest, _PORTS.get(scheme, "")
    return (scheme, host, port)


def _fits(wanted: _Parts, given: _Parts) -> bool:
    if wanted[0] != given[0]:
        return False
    if wanted[1] == "*":
        # Without a port in the pattern any will do: the asterisk is all that follows the scheme.
        return wanted[2] in (_PORTS.get(wanted[0], ""), given[2])
    if wanted[2] != given[2]:
        return False
    if wanted[1].startswith("*."):
        ending = wanted[1][1:]
        return given[1].endswith(ending) and len(given[1]) > len(ending)
    return wanted[1] == given[1]

"""Request targets and authorities: the four forms of RFC 9112 §3.2, and when two agree.

Host and target must not be able to name two different servers: a proxy that decides by one and
an app that serves by the other is how requests are smuggled past policy.
"""

from __future__ import annotations

import re
from typing import Final

from core.errors import ClientProtocolError
from proxy.wire.http_message import Form

HOST_PLAIN: Final = rb"[A-Za-z0-9\-._~!$&'()*+,;=]"
"""A character that a host's name may hold as it is (RFC 3986 §3.2.2)."""
_NAMED: Final = HOST_PLAIN + rb"*+"
_HOST: Final = (
    rb"(?:\[[0-9A-Fa-f:.]++\]|" + _NAMED + rb"(?:%[0-9A-Fa-f][0-9A-Fa-f]" + _NAMED + rb")*)"
)
_AUTHORITY: Final = re.compile(_HOST + rb"(?::[0-9]{0,5})?")
_CONNECT: Final = re.compile(_HOST + rb":[0-9]{1,5}")
_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+\-.]*+)://([^/?#]*+)([!-~]*+)")
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}

PATH_STRICT: Final = rb"[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]"
"""A character of path or query that RFC 3986 lets stand as it is."""

PATH_RAW: Final = rb"""[!"$-;=?-~]"""
"""Visible ASCII without ``#``, ``<`` and ``>``: what Linkerd's URIs may hold."""

_PATHS: Final = {
    False: re.compile(rb"/" + PATH_STRICT + rb"*+"),
    True: re.compile(rb"/" + PATH_RAW + rb"*+"),
}


def is_path(path: bytes, *, raw: bool) -> bool:
    """Tell whether ``path`` is an absolute path with or without a query."""
    return _PATHS[raw].fullmatch(path) is not None


def is_authority(text: bytes) -> bool:
    """Tell whether ``text`` is a host with or without a port, and no user (RFC 3986 §3.2)."""
    return _AUTHORITY.fullmatch(text) is not None


def is_connect_authority(text: bytes) -> bool:
    """Tell whether ``text`` is a host and a port from 1 to 65535, as CONNECT wants it."""
    if _CONNECT.fullmatch(text) is None or text.startswith(b":"):
        return False
    return 1 <= int(text[text.rindex(b":") + 1 :]) <= 65_535


def is_same_authority(one: bytes, other: bytes, scheme: bytes) -> bool:
    """Tell whether two authorities name the same server, ``scheme``'s own port left out."""
    if one == other:
        return True
    port = _DEFAULT_PORTS.get(scheme, b":")
    return _plain(one, port) == _plain(other, port)


def _plain(authority: bytes, port: bytes) -> bytes:
    """Return an authority in lower case without an empty or default port."""
    return authority.lower().removesuffix(port).removesuffix(b":")


def split_target(method: bytes, target: bytes, *, raw: bool) -> tuple[Form, bytes, bytes, bytes]:
    """Return form, scheme, authority and path of a target that is visible ASCII.

    Raises:
        ClientProtocolError: it has no form that ``method`` may have (``http1-target``).

    """
    if method == b"CONNECT":
        if not is_connect_authority(target):
            raise _bad_target("CONNECT wants HOST:PORT as its target")
        return Form.AUTHORITY, b"", target, b""
    if target.startswith(b"/"):
        if not is_path(target, raw=raw):
            raise _bad_target("the target's path holds a character that it must encode")
        return Form.ORIGIN, b"", b"", target
    if target == b"*":
        if method != b"OPTIONS":
            raise _bad_target("only OPTIONS may have the target *")
        return Form.ASTERISK, b"", b"", target
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise _bad_target("the target is neither a path nor an absolute URI")
    scheme, authority, path = found.groups()
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise _bad_target("the target's scheme is neither http nor https")
    if authority in (b"", b":") or authority.startswith(b":") or not is_authority(authority):
        raise _bad_target("the target's authority is not HOST or HOST:PORT")
    if not path and method == b"OPTIONS":
        return Form.ABSOLUTE, scheme, authority, b"*"
    if not path.startswith(b"/"):
        path = b"/" + path
    if not is_path(path, raw=raw):
        raise _bad_target("the target's path holds a character that it must encode")
    return Form.ABSOLUTE, scheme, authority, path


def _bad_target(message: str) -> ClientProtocolError:
    return ClientProtocolError(message, code="http1-target")

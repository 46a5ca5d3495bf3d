"""Which HTTP a connection begins with, if any, from its first octets.

Linkerd judges by exactly one read: a client whose first segment is short is taken for something
else. Here the octets are awaited until they decide, so that it does not matter how they are cut.
What cannot begin a request is known from the first octet that is wrong; most protocols show it
at once. Where nothing is decided after 1,024 octets only a long target can be the reason, and
that is HTTP/1 (Linkerd's verdict for such a read, too). The deviation costs a client of another
protocol that sends a single word without an end of line, and then waits, the detection timeout.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from proxy.wire.http_field import TOKEN

DETECT_OCTETS: Final = 1_024
"""How many octets decide at the latest: Linkerd's read."""

_PREFACE: Final = b"PRI * HTTP/2.0"
"""As much of the HTTP/2 preface as decides."""

_LONGEST_METHOD: Final = 64
_METHOD: Final = re.compile(TOKEN + rb"++")
_TARGET: Final = re.compile(rb"[!-~\x80-\xff]++")
_VERSION: Final = b"HTTP/1."


class HttpKind(Enum):
    """What a connection speaks."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    NONE = "none"
    """No HTTP: opaque."""


def detect_http(begin: bytes) -> HttpKind | None:
    """Return what begins with ``begin``; None: more octets must come.

    It is given all that has come so far; from ``DETECT_OCTETS`` on it always decides.
    """
    if _PREFACE.startswith(begin[: len(_PREFACE)]):
        return HttpKind.HTTP2 if len(begin) >= len(_PREFACE) else None
    kind = _detect_request(begin)
    if kind is None and len(begin) >= DETECT_OCTETS:
        return HttpKind.HTTP1
    return kind


def _detect_request(begin: bytes) -> HttpKind | None:
    """Look for METHOD SP TARGET SP HTTP/1. behind at most one empty line."""
    if b"\r\n".startswith(begin[:2]):
        if len(begin) <= 2:
            return None
        begin = begin[2:]
    method = _METHOD.match(begin)
    if method is None or method.end() > _LONGEST_METHOD:
        return HttpKind.NONE
    at = method.end()
    if at == len(begin):
        return None
    if begin[at : at + 1] != b" ":
        return HttpKind.NONE
    at += 1
    if at == len(begin):
        return None
    target = _TARGET.match(begin, at)
    if target is None:
        return HttpKind.NONE
    at = target.end()
    if at == len(begin):
        return None
    version = begin[at + 1 : at + 1 + len(_VERSION)]
    if begin[at : at + 1] != b" " or not _VERSION.startswith(version):
        return HttpKind.NONE
    return HttpKind.HTTP1 if version == _VERSION else None

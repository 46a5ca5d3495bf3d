"""What an HTTP/2 field section means: pseudo-header fields, forbidden fields (RFC 9113 §8.2, §8.3).

Each field is judged once, when it is decoded or put into the table (``classify``); a section is
then a list of good fields, a few marks, and the first fault. A fault is the name of a row of
``http2_reason``: the message is malformed, and its stream ends.
"""

from __future__ import annotations

import re
from typing import Final, final

from core.record import dataclass
from proxy.wire.http1_target import is_authority, is_connect_authority, is_path, is_same_authority
from proxy.wire.http_field import TEXT, TOKEN, Field, Fields
from proxy.wire.http_message import (
    CHUNKED,
    HTTP_2,
    Form,
    RequestHead,
    ResponseHead,
)

PLAIN: Final = 0
METHOD: Final = 1
SCHEME: Final = 2
AUTHORITY: Final = 3
PATH: Final = 4
STATUS: Final = 5
PSEUDO: Final = 6
"""Kinds below this one, but PLAIN, are pseudo-header fields."""
HOST: Final = 6
LENGTH: Final = 7
EXPECT: Final = 8
BAD: Final = 9
"""This kind and those above it are faults: BAD and the place in ``FAULTS``."""

FAULTS: Final = (
    "http2-field-name",
    "http2-field-value",
    "http2-pseudo",
    "http2-connection-field",
    "http2-te",
    "http2-method",
    "http2-scheme",
    "http2-authority",
    "http2-path",
    "http2-status",
    "http2-content-length",
)
_BAD_NAME: Final = BAD
_BAD_VALUE: Final = BAD + 1
_BAD_PSEUDO: Final = BAD + 2
_BAD_CONNECTION: Final = BAD + 3
_BAD_TE: Final = BAD + 4
_BAD_METHOD: Final = BAD + 5
_BAD_SCHEME: Final = BAD + 6
_BAD_AUTHORITY: Final = BAD + 7
_BAD_PATH: Final = BAD + 8
_BAD_STATUS: Final = BAD + 9
_BAD_LENGTH: Final = BAD + 10

_TE: Final = 100
_CONNECTION: Final = 101
KINDS: Final = {
    b":method": METHOD,
    b":scheme": SCHEME,
    b":authority": AUTHORITY,
    b":path": PATH,
    b":status": STATUS,
    b"host": HOST,
    b"content-length": LENGTH,
    b"expect": EXPECT,
    b"te": _TE,
    b"connection": _CONNECTION,
    b"keep-alive": _CONNECTION,
    b"proxy-connection": _CONNECTION,
    b"transfer-encoding": _CONNECTION,
    b"upgrade": _CONNECTION,
}

_NAME: Final = re.compile(TOKEN.replace(b"A-Z", b"") + rb"++")
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:" + TEXT + rb"*[!-~\x80-\xff])?)?")
_METHOD: Final = re.compile(TOKEN + rb"++")
_STATUS: Final = re.compile(rb"[1-9][0-9][0-9]")


def classify(name: bytes, value: bytes) -> int:
    """Return the kind of a field; from BAD on, why the message is malformed."""
    kind = KINDS.get(name, PLAIN)
    if kind == PLAIN and _NAME.fullmatch(name) is None:
        return _BAD_PSEUDO if name.startswith(b":") else _BAD_NAME
    if _VALUE.fullmatch(value) is None:
        return _BAD_VALUE
    if kind == PLAIN:
        return PLAIN
    return _classify_known(kind, value)


def _classify_known(kind: int, value: bytes) -> int:
    """Return the kind of a field that means something, its value judged."""
    if kind == METHOD:
        return METHOD if _METHOD.fullmatch(value) is not None else _BAD_METHOD
    if kind == SCHEME:
        return SCHEME if value in (b"http", b"https") else _BAD_SCHEME
    if kind in (AUTHORITY, HOST):
        good = is_authority(value) and not value.startswith(b":")
        return kind if good else _BAD_AUTHORITY
    if kind == PATH:
        return PATH if value == b"*" or is_path(value, raw=True) else _BAD_PATH
    if kind == STATUS:
        return STATUS if _STATUS.fullmatch(value) is not None else _BAD_STATUS
    if kind == LENGTH:
        good = value.isdigit() and len(value) <= 19 and int(value) < 2**63
        return LENGTH if good else _BAD_LENGTH
    if kind == _TE:
        return PLAIN if value.lower() == b"trailers" else _BAD_TE
    return EXPECT if kind == EXPECT else _BAD_CONNECTION


@final
@dataclass(slots=True, init=False)
class Section:
    """One decoded field section; shared by all equal blocks, so never changed once made."""

    pseudo: list[bytes | None]
    """The pseudo-header fields' values by kind."""
    fields: Fields
    fault: str
    """The first reason why it is malformed; empty: none by its fields alone."""
    size: int
    """Its size as RFC 9113 §6.5.2 counts it."""
    host: bytes | None
    length: int
    """Content-Length; -1: it has none."""
    expects_continue: bool
    never_indexed: frozenset[Field]
    request: RequestHead | None = None
    """What ``request_head`` made of it."""
    response: ResponseHead | None = None
    """What ``response_head`` made of it."""

    def __init__(
        self,
        pseudo: list[bytes | None],
        fields: Fields,
        fault: str,
        size: int,
        host: bytes | None,
        length: int,
        expects_continue: bool,
        never_indexed: frozenset[Field],
        request: RequestHead | None = None,
        response: ResponseHead | None = None,
    ) -> None:
        self.pseudo = pseudo
        self.fields = fields
        self.fault = fault
        self.size = size
        self.host = host
        self.length = length
        self.expects_continue = expects_continue
        self.never_indexed = never_indexed
        self.request = request
        self.response = response


def make_section(
    pseudo: list[bytes | None],
    fields: Fields,
    fault: str,
    size: int,
    host: bytes | None,
    length: int,
    expects_continue: bool,
    never_indexed: frozenset[Field],
) -> Section:
    """Return a section: from outside of the compiled core a function is cheaper than a class."""
    return Section(pseudo, fields, fault, size, host, length, expects_continue, never_indexed)


def request_head(section: Section, *, host_may_differ: bool = False) -> RequestHead | str:
    """Return the head of a request (RFC 9113 §8.3.1), or the reason why it is malformed."""
    if section.request is not None:
        return section.request
    why = section.fault or _request_fault(section, host_may_differ=host_may_differ)
    if why:
        return why
    _, method, scheme, authority, path, _ = section.pseudo
    host = section.host or b""
    form = Form.ORIGIN
    if method == b"CONNECT":
        form = Form.AUTHORITY
    elif path == b"*":
        form = Form.ASTERISK
    head = RequestHead(
        method or b"",
        form,
        scheme or b"",
        authority or host,
        path or b"",
        HTTP_2,
        section.fields,
        section.length if section.length >= 0 else CHUNKED,
        True,  # noqa: FBT003 - the order of the class
        b"",
        section.expects_continue,
        section.never_indexed,
    )
    section.request = head
    return head


def _request_fault(section: Section, *, host_may_differ: bool) -> str:
    """Return why well-formed fields are no request; empty: they are one."""
    _, method, scheme, authority, path, status = section.pseudo
    if method is None:
        return "http2-method"
    if status is not None:
        return "http2-pseudo"
    if method == b"CONNECT":
        if scheme is not None or path is not None:
            return "http2-pseudo"
        if authority is None or not is_connect_authority(authority) or section.length >= 0:
            return "http2-connect"
    elif scheme is None:
        return "http2-scheme"
    elif path is None or (path == b"*" and method != b"OPTIONS"):
        return "http2-path"
    elif not authority and not section.host:
        return "http2-authority"
    host = section.host
    if not authority or host is None or host_may_differ:
        return ""
    return "" if is_same_authority(authority, host, scheme or b"") else "http2-host"


def response_head(section: Section) -> ResponseHead | str:
    """Return the head of a response (RFC 9113 §8.3.2), or the reason why it is malformed."""
    if section.response is not None:
        return section.response
    if section.fault:
        return section.fault
    status = section.pseudo[STATUS]
    if status is None or status == b"101":
        return "http2-status"
    if section.pseudo.count(None) != len(section.pseudo) - 1:
        return "http2-pseudo"
    head = ResponseHead(
        int(status),
        b"",
        HTTP_2,
        section.fields,
        section.length if section.length >= 0 else CHUNKED,
        True,  # noqa: FBT003 - the order of the class
        section.never_indexed,
    )
    section.response = head
    return head


def trailer_fault(section: Section) -> str:
    """Return why a section cannot be trailers (RFC 9113 §8.1); empty: it can."""
    if section.fault:
        return section.fault
    if section.pseudo.count(None) != len(section.pseudo):
        return "http2-pseudo"
    if section.length >= 0 or section.host is not None:
        return "http2-trailers"
    return ""

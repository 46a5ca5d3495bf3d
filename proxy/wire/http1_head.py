"""An HTTP/1 head in one look: a strict regular expression over all of it (RFC 9112 §2 to §6).

The expression says yes or no; ``http1_refusal`` says why not. What remains is meaning: which
host, how the content ends, whether the connection lives on. Everything by which two readers of
one message could come to two ends is refused: both framings, a repeated, signed or huge length,
a coding other than chunked, a host that is missing, doubled or another than the target's.

Repetitions are possessive or disjoint from what follows: a head that does not match costs no
more than one that does.
Bounds shorter than a head are looked at only in heads long enough to break them.
"""

from __future__ import annotations

import re
from typing import Final

from core.errors import ClientProtocolError, ServerProtocolError
from proxy.wire.http1_limit import LENIENCY, LIMITS, Http1Leniency, Http1Limits
from proxy.wire.http1_refusal import explain_fields, explain_head, explain_prefix, refusal
from proxy.wire.http1_target import (
    PATH_RAW,
    PATH_STRICT,
    is_authority,
    is_same_authority,
    split_target,
)
from proxy.wire.http_field import TEXT, TOKEN, Field, Fields, list_members, may_be_trailer
from proxy.wire.http_message import (
    CHUNKED,
    HTTP_10,
    HTTP_11,
    UNTIL_CLOSE,
    Form,
    RequestHead,
    ResponseHead,
)

MAX_LENGTH: Final = 2**63 - 1
"""The largest content, in octets: what every other reader can count too."""

_FIELD_LINES: Final = rb"((?:" + TOKEN + rb"++:" + TEXT + rb"*+\r\n)*+)"
_REQUEST: Final = re.compile(
    rb"(" + TOKEN + rb"++) ([!-~]++) HTTP/1\.([01])\r\n" + _FIELD_LINES,
)
_ORIGIN_RAW: Final = re.compile(
    rb"(" + TOKEN + rb"++) (/" + PATH_RAW + rb"*+) HTTP/1\.([01])\r\n" + _FIELD_LINES,
)
_ORIGIN_STRICT: Final = re.compile(
    rb"(" + TOKEN + rb"++) (/" + PATH_STRICT + rb"*+) HTTP/1\.([01])\r\n" + _FIELD_LINES,
)
_STATUS: Final = rb"HTTP/1\.([01]) ([1-9][0-9][0-9])"
_RESPONSE_BARE: Final = re.compile(_STATUS + rb"(?: (" + TEXT + rb"*+))?\r\n" + _FIELD_LINES)
_RESPONSE_STRICT: Final = re.compile(_STATUS + rb" (" + TEXT + rb"*+)\r\n" + _FIELD_LINES)
_TRAILERS: Final = re.compile(_FIELD_LINES)

_MEANT: Final = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"upgrade",
        b"expect",
    )
)
"""The fields that mean something to the reader itself."""


_LINES_KEPT: Final = 256
_LINE_KEPT: Final = 256
"""A longer line, in octets, is not kept."""
_NEVER_KEPT: Final = frozenset(
    (b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"x-api-key")
)
"""Whether somebody else has sent such a line must not show in how long it takes to read."""
_lines: Final[dict[bytes, Field]] = {}
"""Field lines read lately: most are sent again and again."""


def _read_line(line: bytes) -> Field:
    """Read a matched field line, and keep it at hand."""
    raw, _, value = line.partition(b":")
    field = (raw.lower(), value.strip())
    if len(line) <= _LINE_KEPT and field[0] not in _NEVER_KEPT:
        if len(_lines) >= _LINES_KEPT:
            _lines.clear()
        _lines[line] = field
    return field


def split_fields(
    lines: bytes, limits: Http1Limits, *, is_request: bool
) -> tuple[Fields, dict[bytes, list[bytes]]]:
    """Return the fields of matched field lines, and the values of those that mean something.

    Raises:
        ClientProtocolError, ServerProtocolError: more than ``limits.fields``.

    """
    fields: list[Field] = []
    meant: dict[bytes, list[bytes]] = {}
    if not lines:
        return (), meant
    for line in lines[:-2].split(b"\r\n"):
        field = _lines.get(line) or _read_line(line)
        fields.append(field)
        name = field[0]
        if name in _MEANT:
            if name in meant:
                meant[name].append(field[1])
            else:
                meant[name] = [field[1]]
    if len(fields) > limits.fields:
        message = f"more than {limits.fields} field lines"
        raise refusal("http1-too-many-fields", message, is_request=is_request)
    return tuple(fields), meant


def parse_request_head(
    head: bytes, limits: Http1Limits = LIMITS, leniency: Http1Leniency = LENIENCY
) -> RequestHead:
    """Return the meaning of a request's head: its lines with their ends, without the blank one.

    Raises:
        ClientProtocolError: with the code of the first rule that it breaks.

    """
    found = (_ORIGIN_RAW if leniency.raw_target else _ORIGIN_STRICT).fullmatch(head)
    is_origin = found is not None
    if found is None:
        found = _REQUEST.fullmatch(head)
    if found is None or _is_past_a_bound(head, limits):
        code, message = explain_head(head, limits, leniency, is_request=True)
        raise ClientProtocolError(message, code=code)
    method, target, minor, lines = found.groups()
    form, scheme, authority, path = Form.ORIGIN, b"", b"", target
    if not is_origin or method == b"CONNECT":
        form, scheme, authority, path = split_target(method, target, raw=leniency.raw_target)
    fields, meant = split_fields(lines, limits, is_request=True)
    version = HTTP_11 if minor == b"1" else HTTP_10
    host = _host(meant.get(b"host"), version)
    if not authority:
        authority = host
    elif b"host" in meant and not is_same_authority(authority, host, scheme):
        raise ClientProtocolError("target and Host name two servers", code="http1-host-conflict")
    length = 0
    keep_alive = version == HTTP_11
    upgrade = b""
    expects = False
    if len(meant) > 1 or not host:
        length = _framing(meant, version, 0, is_request=True)
        keep_alive, is_upgrade = _connection(meant.get(b"connection"), version)
        if is_upgrade and version == HTTP_11 and b"upgrade" in meant:
            upgrade = _upgrade(meant[b"upgrade"])
        expects = version == HTTP_11 and _expects_continue(meant.get(b"expect"))
    if form is Form.AUTHORITY:
        _check_connect(version, length)
    return RequestHead(
        method,
        form,
        scheme,
        authority,
        path,
        version,
        fields,
        length,
        keep_alive,
        upgrade,
        expects,
    )


def parse_response_head(
    head: bytes,
    method: bytes,
    limits: Http1Limits = LIMITS,
    leniency: Http1Leniency = LENIENCY,
) -> ResponseHead:
    """Return the meaning of the head of a response to ``method``, given as for requests.

    A 2xx to CONNECT and a 101 have no length: what follows them is not HTTP.

    Raises:
        ServerProtocolError: with the code of the first rule that it breaks.

    """
    found = (_RESPONSE_BARE if leniency.bare_status else _RESPONSE_STRICT).fullmatch(head)
    if found is None or _is_past_a_bound(head, limits):
        code, message = explain_head(head, limits, leniency, is_request=False)
        raise ServerProtocolError(message, code=code)
    minor, digits, reason, lines = found.groups()
    fields, meant = split_fields(lines, limits, is_request=False)
    version = HTTP_11 if minor == b"1" else HTTP_10
    status = int(digits)
    keep_alive, _ = _connection(meant.get(b"connection"), version)
    length = _framing(meant, version, UNTIL_CLOSE, is_request=False)
    if (
        status < 200
        or status in (204, 304)
        or method == b"HEAD"
        or (method == b"CONNECT" and status < 300)
    ):
        length = 0
    elif length == UNTIL_CLOSE:
        keep_alive = False
    return ResponseHead(status, reason or b"", version, fields, length, keep_alive)


def parse_trailers(lines: bytes, limits: Http1Limits = LIMITS, *, is_request: bool) -> Fields:
    """Return the fields behind chunked content (RFC 9112 §7.1.2), given as for a head.

    Raises:
        ClientProtocolError, ServerProtocolError: with the code of the first rule broken; a field
            that frames or routes a message may not stand there (``http1-trailer``).

    """
    if _TRAILERS.fullmatch(lines) is None or _has_long_field(lines, limits):
        code, message = explain_prefix(lines) or explain_fields(lines[:-2].split(b"\r\n"), limits)
        raise refusal(code, message, is_request=is_request)
    fields, _ = split_fields(lines, limits, is_request=is_request)
    for name, _ in fields:
        if not may_be_trailer(name):
            message = f"{name.decode('ascii')} may not stand in trailers"
            raise refusal("http1-trailer", message, is_request=is_request)
    return fields


def _is_past_a_bound(head: bytes, limits: Http1Limits) -> bool:
    """Tell whether a line of a head is too long; short heads are not looked at."""
    size = len(head)
    if size > limits.start_line and head.index(b"\r\n") > limits.start_line:
        return True
    return size > limits.field_line and _has_long_field(head, limits)


def _has_long_field(lines: bytes, limits: Http1Limits) -> bool:
    """Tell whether a line is longer than a field line may be."""
    if len(lines) <= limits.field_line:
        return False
    return max(map(len, lines.split(b"\r\n"))) > limits.field_line


def _host(hosts: list[bytes] | None, version: int) -> bytes:
    """Return what Host says (RFC 9112 §3.2); empty when it says nothing."""
    if hosts is None:
        if version == HTTP_11:
            raise ClientProtocolError("an HTTP/1.1 request needs Host", code="http1-host-missing")
        return b""
    if len(hosts) > 1:
        raise ClientProtocolError("Host stands more than once", code="http1-host-repeated")
    host = hosts[0]
    if not is_authority(host) or host.startswith(b":"):
        raise ClientProtocolError("Host is not HOST or HOST:PORT", code="http1-host-invalid")
    return host


def _framing(
    meant: dict[bytes, list[bytes]], version: int, otherwise: int, *, is_request: bool
) -> int:
    """Return the length that the framing fields give (RFC 9112 §6.3), or ``otherwise``."""
    codings = meant.get(b"transfer-encoding")
    lengths = meant.get(b"content-length")
    if codings is not None:
        why = _coding_fault(codings, version, has_length=lengths is not None)
        if why is not None:
            raise refusal(why[0], why[1], is_request=is_request)
        return CHUNKED
    if lengths is None:
        return otherwise
    if len(lengths) > 1:
        message = "Content-Length stands more than once"
        raise refusal("http1-length-repeated", message, is_request=is_request)
    text = lengths[0]
    if not text.isdigit() or len(text) > 19 or int(text) > MAX_LENGTH:
        message = "Content-Length is not a number of octets below 2^63"
        raise refusal("http1-length-invalid", message, is_request=is_request)
    return int(text)


def _coding_fault(
    codings: list[bytes], version: int, *, has_length: bool
) -> tuple[str, str] | None:
    """Return code and message for a Transfer-Encoding that cannot be followed; None: chunked."""
    if has_length:
        return "http1-length-and-coding", "Content-Length stands beside Transfer-Encoding"
    if version == HTTP_10:
        return "http1-coding-version", "HTTP/1.0 has no Transfer-Encoding"
    if len(codings) > 1:
        return "http1-coding-repeated", "Transfer-Encoding stands more than once"
    if codings[0].lower() == b"chunked":
        return None
    if list_members(codings[0]).count(b"chunked") > 1:
        return "http1-coding-repeated", "chunked stands more than once"
    return "http1-coding-unknown", "the only transfer coding taken is chunked"


def _connection(values: list[bytes] | None, version: int) -> tuple[bool, bool]:
    """Return whether the connection lives on (RFC 9112 §9.3), and whether ``upgrade`` is named."""
    if values is None:
        return version == HTTP_11, False
    members: list[bytes] = []
    for value in values:
        members += list_members(value)
    if b"close" in members:
        return False, b"upgrade" in members
    return version == HTTP_11 or b"keep-alive" in members, b"upgrade" in members


def _upgrade(values: list[bytes]) -> bytes:
    """Return the protocols asked for; empty when it is h2c alone, which is never followed.

    h2c among others would let a server take up HTTP/2 inside a tunnel that policy does not see.
    """
    members: list[bytes] = []
    for value in values:
        members += list_members(value)
    if b"h2c" not in members:
        return b", ".join(members)
    if len(members) > 1:
        raise ClientProtocolError("Upgrade offers h2c among others", code="http1-upgrade")
    return b""


def _check_connect(version: int, length: int) -> None:
    """Refuse a CONNECT that Linkerd refuses, and one whose tunnel would begin with a body."""
    if version == HTTP_10:
        raise ClientProtocolError("CONNECT over HTTP/1.0", code="http1-connect")
    if length != 0:
        raise ClientProtocolError("CONNECT has content", code="http1-connect")


def _expects_continue(values: list[bytes] | None) -> bool:
    """Tell whether the client waits for 100 (RFC 9110 §10.1.1)."""
    return values is not None and any(b"100-continue" in list_members(value) for value in values)

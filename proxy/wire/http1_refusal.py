"""Why an HTTP/1 head is refused: the slow second look after its regular expression said no.

The expressions of ``http1_head`` only say yes or no; this module finds the first rule that a head
breaks and names it with a stable code (RFC 9112 §2 to §5). Messages name fields and lines, never
their values: those may be secrets.
"""

from __future__ import annotations

import re
from typing import Final

from core.errors import ClientProtocolError, MeshError, ServerProtocolError
from proxy.wire.http1_limit import Http1Leniency, Http1Limits
from proxy.wire.http_field import TOKEN

_NAME: Final = re.compile(TOKEN + rb"++")
_FORBIDDEN: Final = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TARGET: Final = re.compile(rb"[!-~]++")
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_KNOWN_VERSION: Final = re.compile(rb"HTTP/1\.[01]")


def refusal(code: str, message: str, *, is_request: bool) -> MeshError:
    """Return the error for a message of the client's (a request) or of the server's."""
    if is_request:
        return ClientProtocolError(message, code=code)
    return ServerProtocolError(message, code=code)


def explain_prefix(prefix: bytes | bytearray, start: int = 0) -> tuple[str, str] | None:
    """Return code and message when no end of head can make ``prefix`` good; None: it still may.

    A peer that ends its lines with LF alone would otherwise wait for an answer for ever. The
    first octet that is wrong decides, so that it does not matter how a stream is cut. What lies
    before ``start`` has been looked at.
    """
    found = _FORBIDDEN.search(prefix, start)
    if found is None:
        return None
    match found[0]:
        case b"\n":
            return "http1-bare-lf", "a line ends with LF alone; every line ends with CR LF"
        case b"\r":
            return "http1-bare-cr", "a CR stands without LF; every line ends with CR LF"
        case _:
            return "http1-control", "there is a control character among the lines"


def explain_head(
    head: bytes, limits: Http1Limits, leniency: Http1Leniency, *, is_request: bool
) -> tuple[str, str]:
    """Return code and message for a head (blank line left out) that is not taken."""
    known = explain_prefix(head)
    if known is not None:
        return known
    start, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
    if len(start) > limits.start_line:
        return explain_long_start(limits, is_request=is_request)
    if is_request:
        why = _explain_request_line(start)
    else:
        why = _explain_status_line(start, bare=leniency.bare_status)
    return why or explain_fields(lines, limits)


def explain_long_start(limits: Http1Limits, *, is_request: bool) -> tuple[str, str]:
    """Return code and message for a start line past its bound."""
    code = "http1-target-too-long" if is_request else "http1-head-too-large"
    return code, f"the start line has more than {limits.start_line} octets"


def explain_fields(lines: list[bytes], limits: Http1Limits) -> tuple[str, str]:
    """Return code and message for the first field line that is not taken."""
    for number, line in enumerate(lines, 1):
        why = _explain_field_line(line, number, limits)
        if why is not None:
            return why
    return "http1-field-line", "the field lines cannot be read"


def _explain_request_line(line: bytes) -> tuple[str, str] | None:
    """Say what is wrong with a request line; None: nothing."""
    parts = line.split(b" ")
    if len(parts) != 3 or _NAME.fullmatch(parts[0]) is None or _VERSION.fullmatch(parts[2]) is None:
        return "http1-start-line", "the first line is not METHOD SP TARGET SP VERSION"
    if _KNOWN_VERSION.fullmatch(parts[2]) is None:
        return "http1-version", f"version {parts[2].decode('ascii')}; wanted HTTP/1.0 or HTTP/1.1"
    if _TARGET.fullmatch(parts[1]) is None:
        return "http1-target", "the target holds something else than visible ASCII"
    return None


def _explain_status_line(line: bytes, *, bare: bool) -> tuple[str, str] | None:
    """Say what is wrong with a status line; None: nothing."""
    parts = line.split(b" ", 2)
    if len(parts) < 2 or _VERSION.fullmatch(parts[0]) is None:
        return "http1-start-line", "the first line is not VERSION SP STATUS SP REASON"
    if _KNOWN_VERSION.fullmatch(parts[0]) is None:
        return "http1-version", f"version {parts[0].decode('ascii')}; wanted HTTP/1.0 or HTTP/1.1"
    if len(parts[1]) != 3 or not parts[1].isdigit() or parts[1] < b"100":
        return "http1-start-line", "the status is not three digits from 100"
    if len(parts) == 2 and not bare:
        return "http1-start-line", "no blank follows the status"
    return None


def _explain_field_line(line: bytes, number: int, limits: Http1Limits) -> tuple[str, str] | None:
    """Say what is wrong with one field line; None: nothing."""
    if line[:1] in (b" ", b"\t"):
        return "http1-obs-fold", f"field line {number} begins with a blank: folding is obsolete"
    if len(line) > limits.field_line:
        return "http1-field-too-long", f"line {number} has more than {limits.field_line} octets"
    name, colon, _ = line.partition(b":")
    if not colon:
        return "http1-field-line", f"field line {number} has no colon"
    if name.endswith((b" ", b"\t")):
        return "http1-space-before-colon", f"a blank stands before the colon of field line {number}"
    if _NAME.fullmatch(name) is None:
        return "http1-field-line", f"the name in field line {number} is not a token"
    return None

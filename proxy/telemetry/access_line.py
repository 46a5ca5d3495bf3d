"""One line of the access log: what is said of a request, in Linkerd's two forms.

Every text in it is the peer's to choose, and none can leave its field: what is not plain ASCII,
quotes and backslashes are escaped, and each text has a bound after escaping, so that a line fits
into what a pipe takes at once and is never torn. Headers other than those named here are not
logged; credentials stand in none of these.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Final, final

from core.record import dataclass

FORMS: Final = ("json", "apache")

MAX_LINE: Final = 4_096
"""Octets of a line: what a pipe takes whole (PIPE_BUF on Linux)."""

_MAX_METHOD: Final = 32
_MAX_AUTHORITY: Final = 260
_MAX_URI: Final = 1_280
_MAX_AGENT: Final = 256
_MAX_IDENTITY: Final = 400
_MAX_NAME: Final = 300
_MAX_SHORT: Final = 128

_CUT: Final = "..."
_quote: Final = json.JSONEncoder().encode
_NOT_VISIBLE: Final = re.compile(r"[^!#-\[\]-~]")
_WHOLE_JSON: Final = re.compile(
    r"(?:[^\\]|\\u(?!d[89a-f])[0-9a-f]{4}|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\[^u])*+"
)
_WHOLE_WORD: Final = re.compile(r"(?:[^\\]|\\x[0-9a-f]{2})*+")
_VERSIONS: Final = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2.0"}


@final
class Origin:
    """Who calls, and what policy calls that: escaped once for all requests that are alike."""

    __slots__ = ("apache", "json")

    def __init__(
        self,
        client: str,
        client_identity: str = "",
        *,
        server: str = "",
        route: str = "",
        authorization: str = "",
    ) -> None:
        """Take the client's address and port, and its identity; empty texts where there is none."""
        self.json: Final = (
            f'"client.addr":{_json(client, _MAX_SHORT)},'
            f'"client.id":{_json(client_identity or "-", _MAX_IDENTITY)},'
            f'"server":{_json(server, _MAX_NAME)},'
            f'"route":{_json(route, _MAX_NAME)},'
            f'"authorization":{_json(authorization, _MAX_NAME)}'
        )
        who = _word(client_identity, _MAX_IDENTITY)
        self.apache: Final = f"{_word(client, _MAX_SHORT)} {who} -"


@final
@dataclass(slots=True, kw_only=True)
class Entry:
    """What is logged of one request: made with its head, filled in until its end."""

    origin: Origin
    began_at: float
    """Seconds since the epoch."""
    method: bytes
    authority: bytes
    path: bytes
    """Path and query; empty for CONNECT."""
    version: int
    """10, 11 or 20, as the head says."""
    user_agent: bytes = b""
    trace_id: str = ""
    status: int = 0
    """0: the client got none."""
    request_bytes: int = 0
    """Octets of content."""
    response_bytes: int = 0
    total_s: float = 0.0
    """From the request's head to the end of the response."""
    processing_s: float = 0.0
    """What of that was not spent waiting for the application."""
    attempts: int = 1
    error: str = ""
    """The code of what went wrong; empty: nothing."""


@final
class Lines:
    """Writes entries in one form."""

    __slots__ = ("_is_json", "_second", "_second_text")

    def __init__(self, form: str) -> None:
        self._is_json = form == "json"
        self._second = -1
        self._second_text = ""

    def line(self, entry: Entry) -> bytes:
        """Return ``entry`` as a line of ASCII, its end included."""
        text = self._json(entry) if self._is_json else self._apache(entry)
        return text.encode("ascii")

    def _json(self, entry: Entry) -> str:
        authority = _text(entry.authority)
        return (
            f'{{"timestamp":"{self._stamp(entry.began_at)}",{entry.origin.json},'
            f'"method":{_json(_text(entry.method), _MAX_METHOD)},'
            f'"uri":{_json(_uri(authority, _text(entry.path)), _MAX_URI)},'
            f'"version":"{_VERSIONS.get(entry.version, "")}",'
            f'"trace_id":{_json(entry.trace_id, _MAX_SHORT)},'
            f'"request_bytes":"{entry.request_bytes}",'
            f'"status":{entry.status},'
            f'"response_bytes":"{entry.response_bytes}",'
            f'"total_ns":"{int(entry.total_s * 1e9)}",'
            f'"processing_ns":"{int(entry.processing_s * 1e9)}",'
            f'"user_agent":{_json(_text(entry.user_agent), _MAX_AGENT)},'
            f'"host":{_json(authority, _MAX_AUTHORITY)},'
            f'"attempts":{entry.attempts},'
            f'"error":{_json(entry.error, _MAX_SHORT)}}}\n'
        )

    def _apache(self, entry: Entry) -> str:
        uri = _uri(_text(entry.authority), _text(entry.path))
        return (
            f"{entry.origin.apache} [{self._stamp(entry.began_at)}] "
            f'"{_word(_text(entry.method), _MAX_METHOD)} '
            f"{_word(uri, _MAX_URI)} "
            f'{_VERSIONS.get(entry.version, "-")}" {entry.status} {entry.response_bytes}\n'
        )

    def _stamp(self, at: float) -> str:
        """Return RFC 3339 in UTC with microseconds; the second is written once for all in it."""
        second = int(at)
        if second != self._second:
            self._second = second
            moment = datetime.fromtimestamp(second, UTC)
            self._second_text = moment.strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{int((at - second) * 1e6):06d}Z"


def _uri(authority: str, path: str) -> str:
    if path.startswith("/"):
        return f"http://{authority}{path}" if authority else path
    return path or authority


def _text(value: bytes) -> str:
    # Octet by octet, as HTTP once meant it: nothing is lost. What is cut off anyway is not
    # looked at.
    return value[: _MAX_URI + 1].decode("latin-1")


def _json(text: str, limit: int) -> str:
    """Return ``text`` as a string of JSON in ASCII, of at most ``limit`` characters in quotes."""
    quoted = _quote(text[: limit + 1])
    # The encoder leaves this one as it is, and a terminal need not.
    if "\x7f" in quoted:
        quoted = quoted.replace("\x7f", "\\u007f")
    if len(quoted) <= limit + 2:
        return quoted
    return f'"{_fitted(quoted[1:-1], limit, _WHOLE_JSON)}"'


def _word(text: str, limit: int) -> str:
    """Return ``text`` as one word without quotes or blanks, of at most ``limit`` characters.

    No text is a dash.
    """
    if len(text) <= limit and _NOT_VISIBLE.search(text) is None:
        return text or "-"
    return _fitted(_NOT_VISIBLE.sub(_escaped, text[: limit + 1]), limit, _WHOLE_WORD)


def _fitted(escaped: str, limit: int, whole: re.Pattern[str]) -> str:
    """Return ``escaped``, cut between two of its characters when it is longer than ``limit``."""
    if len(escaped) <= limit:
        return escaped
    kept = whole.match(escaped[: limit - len(_CUT)])
    return f"{kept[0] if kept is not None else ''}{_CUT}"


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"\\x{octet:02x}" for octet in found[0].encode("latin-1", "replace"))

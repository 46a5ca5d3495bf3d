"""The head of a request and of a response, the same for every version of HTTP.

Made by ``http1_head`` and ``http2_header``, read by everyone who decides about a message. A head
is never changed in place: HTTP/2 hands out one object for equal header blocks. Whoever edits
builds new fields.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from core.record import dataclass
from proxy.wire.http_field import Field, Fields

HTTP_10: Final = 10
HTTP_11: Final = 11
HTTP_2: Final = 20

CHUNKED: Final = -1
"""A ``length``: the content ends itself; in HTTP/1 it is chunked."""

UNTIL_CLOSE: Final = -2
"""A ``length``: the content goes on until the connection ends (HTTP/1 responses only)."""


NONE_SENSITIVE: Final[frozenset[Field]] = frozenset()


class Form(Enum):
    """How a request names what it is about (RFC 9112 §3.2)."""

    ORIGIN = "origin"
    ABSOLUTE = "absolute"
    AUTHORITY = "authority"
    ASTERISK = "asterisk"


@final
@dataclass(slots=True, init=False)
class RequestHead:
    """What a request says before its content."""

    method: bytes
    form: Form
    scheme: bytes
    """``http`` or ``https`` in lower case; empty where the request does not say it."""

    authority: bytes
    """Host and port as received: of an absolute target, else of Host; empty when neither is."""

    path: bytes
    """Path and query; ``*`` in asterisk form; empty for CONNECT."""

    version: int
    """HTTP_10, HTTP_11 or HTTP_2."""

    fields: Fields
    """Everything else, ``host`` included; no pseudo-header fields."""

    length: int
    """Octets of content that will follow, or CHUNKED."""

    keep_alive: bool
    """Whether the client lets the connection live on after this exchange."""

    upgrade: bytes
    """The protocols asked for (RFC 9110 §7.8), never h2c; empty when none is."""

    expects_continue: bool
    """The client waits for 100 before it sends the content (RFC 9110 §10.1.1)."""

    never_indexed: frozenset[Field] = NONE_SENSITIVE
    """Fields that no HTTP/2 hop may put into a compression table (RFC 7541 §6.2.3)."""

    def __init__(
        self,
        method: bytes,
        form: Form,
        scheme: bytes,
        authority: bytes,
        path: bytes,
        version: int,
        fields: Fields,
        length: int,
        keep_alive: bool,
        upgrade: bytes,
        expects_continue: bool,
        never_indexed: frozenset[Field] = NONE_SENSITIVE,
    ) -> None:
        self.method = method
        self.form = form
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.version = version
        self.fields = fields
        self.length = length
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.expects_continue = expects_continue
        self.never_indexed = never_indexed

    def with_fields(self, fields: Fields, authority: bytes | None = None) -> RequestHead:
        """Return this head with other fields, and with another authority if one is given."""
        return RequestHead(
            self.method,
            self.form,
            self.scheme,
            self.authority if authority is None else authority,
            self.path,
            self.version,
            fields,
            self.length,
            self.keep_alive,
            self.upgrade,
            self.expects_continue,
            self.never_indexed,
        )


@final
@dataclass(slots=True, init=False)
class ResponseHead:
    """What a response says before its content."""

    status: int
    reason: bytes
    """The words after an HTTP/1 status; empty in HTTP/2."""

    version: int
    fields: Fields
    length: int
    """Octets of content that will follow, CHUNKED or UNTIL_CLOSE."""

    keep_alive: bool
    """Whether the connection may carry another exchange after this one."""

    never_indexed: frozenset[Field] = NONE_SENSITIVE
    """As in a request."""

    def __init__(
        self,
        status: int,
        reason: bytes,
        version: int,
        fields: Fields,
        length: int,
        keep_alive: bool,
        never_indexed: frozenset[Field] = NONE_SENSITIVE,
    ) -> None:
        self.status = status
        self.reason = reason
        self.version = version
        self.fields = fields
        self.length = length
        self.keep_alive = keep_alive
        self.never_indexed = never_indexed

    def with_fields(self, fields: Fields) -> ResponseHead:
        """Return this head with other fields."""
        return ResponseHead(
            self.status,
            self.reason,
            self.version,
            fields,
            self.length,
            self.keep_alive,
            self.never_indexed,
        )

    @property
    def is_final(self) -> bool:
        """Not one of the 1xx that come before the response proper; 101 ends HTTP and is final."""
        return self.status >= 200 or self.status == 101

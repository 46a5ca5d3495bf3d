"""How much of HTTP/1 is taken, and which leniencies are on.

The bounds are where hyper, Go, nginx and Envoy put theirs: 100 fields (hyper, Envoy), 64 KiB of
head (Envoy 60 KiB, Node 16 KiB, hyper 400 KiB), 16 KiB of trailers and of chunk extensions
(hyper). RFC 9112 §3 wants at least 8000 octets for a request line.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass


@final
@dataclass(frozen=True, slots=True)
class Http1Limits:
    """The bounds of one connection's reader; what is past one is refused."""

    head: int = 65_536
    """Octets of a head, its blank line included."""

    start_line: int = 16_384
    """Octets of a request or status line without its end."""

    field_line: int = 32_768
    """Octets of one field line without its end: a Kerberos ticket must fit."""

    fields: int = 100
    """Field lines of a head, and of trailers."""

    chunk_line: int = 4_096
    """Octets of a chunk's size line with its extensions, without its end (Go's bound)."""

    chunk_extensions: int = 16_384
    """Octets of chunk extensions in one message."""

    trailers: int = 16_384
    """Octets of trailers, their blank line included."""


@final
@dataclass(frozen=True, slots=True)
class Http1Leniency:
    """Where a reader takes what the RFC does not allow to be sent; each is a switch."""

    bare_status: bool = True
    """A status line may end after its code, without the blank before an empty reason.

    Servers send it, and h11, hyper and curl take it; it changes nothing about the message.
    """

    raw_target: bool = True
    """A target may hold what RFC 3986 wants percent-encoded: ``" [ ] \\ ^ ` { | }``.

    Browsers send them in queries and Linkerd takes them. ``#``, ``<``, ``>`` and all that is not
    visible ASCII stay refused.
    """


LIMITS: Final = Http1Limits()
LENIENCY: Final = Http1Leniency()
STRICT: Final = Http1Leniency(bare_status=False, raw_target=False)

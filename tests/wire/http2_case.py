"""Rows of HTTP/2: what a peer says, and what must come of it, by section of RFC 9113 and 7541.

``h2spec`` names the case of the public conformance suite (version 2.2.1) that a row covers, by
its group, section and number; sections there are those of RFC 7540.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from tests.wire.http2_talk import GET, Pairs


@final
@dataclass(frozen=True)
class Row:
    """One conversation; ``reason`` is empty when nothing is broken."""

    section: str
    name: str
    steps: tuple[bytes, ...]
    """What the peer says; the application acts between the steps."""
    reason: str = ""
    stream: int = 0
    """The stream that ends for ``reason``; 0: the connection does."""
    answered: tuple[int, ...] = ()
    """The streams that are answered in full."""
    h2spec: tuple[str, ...] = ()
    pongs: tuple[bytes, ...] = ()
    sizes: tuple[int, ...] | None = None
    """The sizes of our DATA frames; None: not looked at."""
    fields: Pairs = GET
    """What a client asks."""
    statuses: tuple[int, ...] = ()
    """What a client understands."""
    content: bytes = b""
    given_up: tuple[int, ...] = ()
    """Streams that the peer gives up."""


def ok(
    section: str,
    name: str,
    *steps: bytes,
    answered: tuple[int, ...] = (1,),
    h2spec: str = "",
    pongs: tuple[bytes, ...] = (),
    sizes: tuple[int, ...] | None = None,
) -> Row:
    """Return a row of a server's in which all is well."""
    cases = tuple(h2spec.split())
    return Row(section, name, steps, answered=answered, h2spec=cases, pongs=pongs, sizes=sizes)


def ends(section: str, name: str, reason: str, *steps: bytes, h2spec: str = "") -> Row:
    """Return a row in which the connection ends."""
    return Row(section, name, steps, reason, h2spec=tuple(h2spec.split()))


def breaks(
    section: str,
    name: str,
    reason: str,
    *steps: bytes,
    stream: int = 1,
    answered: tuple[int, ...] = (),
    h2spec: str = "",
) -> Row:
    """Return a row in which a stream ends before its time, and the connection lives on."""
    cases = tuple(h2spec.split())
    return Row(section, name, steps, reason, stream, answered=answered, h2spec=cases)

"""Drive our HTTP/1 readers over pieces of a stream, and say what they understood."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import final

from core.errors import MeshError
from proxy.wire.http1_limit import LENIENCY, LIMITS, Http1Leniency, Http1Limits
from proxy.wire.http1_reader import RequestReader, ResponseReader
from proxy.wire.http_field import Fields
from proxy.wire.http_message import RequestHead, ResponseHead


@final
@dataclass
class Message:
    """One message as understood: its head, its content as far as it came, its trailers."""

    head: RequestHead | ResponseHead
    body: bytes = b""
    trailers: Fields = ()
    ended: bool = False
    interim: list[int] = field(default_factory=list)
    """The statuses that came before a response's final head."""


@final
@dataclass
class Seen:
    """What came out of a stream: messages, the code that ended it, what was left over."""

    messages: list[Message] = field(default_factory=list)
    code: str = ""
    rest: bytes = b""
    switched: bool = False
    skipped: bool = field(default=False, compare=False)
    """An empty line, or its beginning, stood before a request."""


def bytewise(data: bytes) -> list[bytes]:
    """Return ``data`` one byte at a time."""
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return ``data`` cut at ``places`` (taken modulo its length)."""
    if not data:
        return []
    at = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[begin:end] for begin, end in pairwise(at)]


def read_requests(
    pieces: Sequence[bytes],
    *,
    eof: bool = False,
    limits: Http1Limits = LIMITS,
    leniency: Http1Leniency = LENIENCY,
) -> Seen:
    """Read every request of a stream, as a server does that answers each at once."""
    reader = RequestReader(limits, leniency)
    seen = Seen()
    try:
        for piece in pieces:
            reader.feed(piece)
            _read_on(reader, seen)
        if eof:
            reader.feed_eof()
            _read_on(reader, seen)
    except MeshError as error:
        seen.code = error.code
        return seen
    if not reader.buffered:
        return seen
    seen.rest = reader.take_rest()
    return seen


def _read_on(reader: RequestReader, seen: Seen) -> None:
    while True:
        if not seen.messages or seen.messages[-1].ended:
            if not reader._partial and reader._data[reader._position :].startswith(b"\r"):
                seen.skipped = True
            head = reader.read_head()
            if head is None:
                return
            seen.messages.append(Message(head))
        message = seen.messages[-1]
        while piece := reader.read_body():
            message.body += piece
        if not reader.ended:
            return
        message.ended = True
        message.trailers = reader.trailers
        reader.next_message()


def read_responses(
    pieces: Sequence[bytes],
    methods: Sequence[bytes],
    *,
    eof: bool = False,
    upgrade: bool = False,
    limits: Http1Limits = LIMITS,
    leniency: Http1Leniency = LENIENCY,
) -> Seen:
    """Read the responses to ``methods``, each expected when the one before has ended."""
    reader = ResponseReader(limits, leniency)
    asked = list(methods)
    seen = Seen()
    interim: list[int] = []
    pending: Message | None = None
    reader.expect(asked.pop(0), upgrade=upgrade)
    try:
        for piece in [*pieces, None] if eof else pieces:
            if piece is None:
                reader.feed_eof()
            else:
                reader.feed(piece)
            while True:
                if pending is None:
                    head = reader.read_head()
                    if head is None:
                        break
                    if not head.is_final:
                        interim.append(head.status)
                        continue
                    pending = Message(head, interim=interim)
                    interim = []
                    seen.messages.append(pending)
                if reader.switched:
                    seen.switched = True
                    break
                while body := reader.read_body():
                    pending.body += body
                if not reader.ended:
                    break
                pending.ended = True
                pending.trailers = reader.trailers
                if not asked:
                    break
                pending = None
                reader.expect(asked.pop(0), upgrade=upgrade)
    except MeshError as error:
        seen.code = error.code
        return seen
    seen.rest = reader.take_rest()
    return seen

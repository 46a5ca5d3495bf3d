"""What a peer's frames meant, as values: what ``http2_end`` was told, in the order of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import NONE_SENSITIVE, RequestHead, ResponseHead


@final
@dataclass(slots=True)
class RequestReceived:
    """A client opened a stream."""

    stream_id: int
    head: RequestHead
    ended: bool
    """Nothing follows: neither content nor trailers."""


@final
@dataclass(slots=True)
class ResponseReceived:
    """A server answered; 1xx heads come before the final one."""

    stream_id: int
    head: ResponseHead
    ended: bool


@final
@dataclass(slots=True)
class DataReceived:
    """Content; to be acknowledged with ``credit`` once it has been passed on."""

    stream_id: int
    data: bytes
    credit: int
    """What it took of the windows: its octets and its padding."""
    ended: bool


@final
@dataclass(slots=True)
class TrailersReceived:
    """The fields behind the content; the message has ended."""

    stream_id: int
    fields: Fields
    never_indexed: frozenset[Field] = NONE_SENSITIVE
    """As in a head."""


@final
@dataclass(slots=True)
class StreamReset:
    """A stream came to an end before its time; nothing more can be sent or will come on it."""

    stream_id: int
    error: int
    """The error code of RST_STREAM (RFC 9113 §7), the peer's or ours."""
    reason: str
    """The row of ``http2_reason`` for what the peer broke; empty when the peer gave up."""


@final
@dataclass(slots=True)
class SettingsChanged:
    """The peer's settings have been taken over; streams may be allowed that were not."""


@final
@dataclass(slots=True)
class PingAnswered:
    """The peer answered our ping."""

    payload: bytes


@final
@dataclass(slots=True)
class GoAwayReceived:
    """The peer takes no new streams; those of ours above the last one were reset before this."""

    last_stream_id: int
    error: int
    debug: bytes


@final
@dataclass(slots=True)
class ConnectionEnded:
    """The peer broke a rule of the connection: GOAWAY is queued, all streams are gone."""

    error: int
    reason: str
    """The row of ``http2_reason``."""


Http2Event = (
    RequestReceived
    | ResponseReceived
    | DataReceived
    | TrailersReceived
    | StreamReset
    | SettingsChanged
    | PingAnswered
    | GoAwayReceived
    | ConnectionEnded
)

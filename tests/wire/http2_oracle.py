"""The h2 library as the judge of HTTP/2: frame by frame, what it takes, we take, and otherwise not.

Where we differ, a row of ``STRICTER`` or ``LOOSER`` says so and why. A stream is compared until
one of the two refuses a frame: whether the stream or the connection ends for it is the tables'
question (h2 ends connections where RFC 9113 §8.1.1 asks for the stream alone).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from proxy.wire.http2_limit import Http2Limits
from proxy.wire.http_field import Fields
from tests.wire.http2_end import Client, Server
from tests.wire.http2_event import (
    ConnectionEnded,
    DataReceived,
    GoAwayReceived,
    Http2Event,
    PingAnswered,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from tests.wire.http2_talk import GET, POST, PREFACE, settings

STRICTER: Final = {
    "http2-field-name": "h2 takes any visible ASCII; RFC 9110 §5.1 wants a token",
    "http2-field-value": "h2 takes controls but NUL, CR and LF; RFC 9110 §5.5 calls them invalid",
    "http2-method": "h2 leaves the method to the application; RFC 9110 §9.1 wants a token",
    "http2-scheme": "h2 leaves the scheme to the application; we carry http and https",
    "http2-path": "h2 takes any path that is not empty; RFC 9113 §8.3.1 wants a target",
    "http2-authority": "h2 takes any text; RFC 9113 §8.3.1 wants no user, RFC 3986 wants a host",
    "http2-host": "h2 looks at Host in requests alone; two are refused wherever they stand",
    "http2-connect": "h2 takes CONNECT to anything; RFC 9113 §8.5 wants host and port",
    "http2-status": "h2 takes any status; RFC 9110 §15 wants three digits",
    "http2-pseudo": "h2 knows extended CONNECT, which nobody announced",
    "http2-content-length": "h2 reads the last of several lengths, and signs; we read one number",
    "http2-trailers": "h2 takes trailers that frame, and heads behind the final one",
    "http2-idle-stream": "h2 takes window updates and resets for streams nobody opened",
    "http2-closed-stream": "h2 drops what comes for streams it has forgotten",
    "http2-setting-window": "h2 looks at the last of several values alone",
    "http2-push": "h2 leaves it to the settings",
    "http2-padding": "hyperframe leaves the priority before the fields out of its count",
}
"""Reasons for which we refuse what h2 may take."""

LOOSER: Final = {
    "host": "h2 compares host and authority octet by octet; case and default port may differ",
    "connect setting": "h2 reads RFC 8441's setting, which we pass over as unknown",
    "reserved bit": "hyperframe counts it as the window's; RFC 9113 §6.9 has it ignored",
    "closed stream": "hyperframe refuses an update of 0 even where updates are passed over",
    "padding alone": "hyperframe refuses it; RFC 9113 §6.2 forbids what exceeds the rest",
    "extension": "h2 reads ALTSVC (RFC 7838); we pass over what we do not know (RFC 9113 §5.5)",
}
"""What we take and h2 does not."""


def looser(frame: bytes) -> str:
    """Return the row of ``LOOSER`` that a frame falls under; empty: none."""
    kind, payload = frame[3], frame[9:]
    if kind > 0x9:
        return "extension"
    if kind == 0x4 and any(payload[at : at + 2] == b"\x00\x08" for at in range(0, len(payload), 6)):
        return "connect setting"
    if kind == 0x8 and payload[0] & 0x80:
        return "reserved bit"
    if kind == 0x8 and frame[5:9] != bytes(4) and payload == bytes(4):
        return "closed stream"
    if kind == 0x1 and frame[4] & 0x8 and payload[0] == len(payload) - 1:
        return "padding alone"
    return "host" if b"host" in frame else ""


def frames_of(data: bytes) -> Iterator[bytes]:
    """Cut a stream into frames; what is left at its end is no frame."""
    at = 0
    while at + 9 <= len(data):
        behind = at + 9 + int.from_bytes(data[at : at + 3], "big")
        if behind > len(data):
            return
        yield data[at:behind]
        at = behind


Plain = tuple[object, ...]


def plain_of_ours(event: Http2Event) -> Plain | None:
    """Return an event of ours for comparison; None: h2 has no such event."""
    match event:
        case RequestReceived():
            return ("request", event.stream_id, event.head.fields, event.ended)
        case ResponseReceived():
            return ("response", event.stream_id, event.head.status, event.head.fields)
        case DataReceived():
            return ("data", event.stream_id, event.data)
        case TrailersReceived():
            return ("trailers", event.stream_id, event.fields)
        case PingAnswered():
            return ("pong", event.payload)
        case GoAwayReceived():
            return ("goaway", event.error)
        case StreamReset():
            return ("reset", event.stream_id, event.error)
        case _:
            return None


def plain_of_theirs(event: h2.events.Event) -> Plain | None:
    """Return an event of h2's for comparison; None: we have no such event."""
    match event:
        case h2.events.RequestReceived():
            fields = regular(event.headers)
            return ("request", event.stream_id, fields, event.stream_ended is not None)
        case h2.events.ResponseReceived() | h2.events.InformationalResponseReceived():
            status = int(next(bytes(value) for name, value in event.headers if name == b":status"))
            return ("response", event.stream_id, status, regular(event.headers))
        case h2.events.DataReceived():
            return ("data", event.stream_id, bytes(event.data or b""))
        case h2.events.TrailersReceived():
            return ("trailers", event.stream_id, regular(event.headers))
        case h2.events.PingAckReceived():
            return ("pong", event.ping_data)
        case h2.events.ConnectionTerminated():
            return ("goaway", int(event.error_code or 0))
        case h2.events.StreamReset():
            return ("reset", event.stream_id, int(event.error_code or 0))
        case _:
            return None


def regular(headers: object) -> Fields:
    """Return the fields without pseudo-header fields."""
    assert isinstance(headers, list)
    return tuple((bytes(n), bytes(v)) for n, v in headers if not n.startswith(b":"))


def refused_by_us(events: list[Http2Event]) -> str:
    """Return the reason why we refused a frame; empty: we took it."""
    for event in events:
        if isinstance(event, StreamReset | ConnectionEnded) and event.reason:
            return event.reason
    return ""


def ends(*, is_server: bool) -> tuple[Server | Client, H2Connection]:
    """Return our end and h2's, behind the exchange of prefaces; a client has sent two requests."""
    limits = Http2Limits(noise=10**6, resets=10**6)
    config = H2Configuration(
        client_side=not is_server, header_encoding=None, normalize_inbound_headers=False
    )
    theirs = H2Connection(config)
    theirs.initiate_connection()
    theirs.update_settings({SettingCodes.MAX_HEADER_LIST_SIZE: 16_384})
    theirs.increment_flow_control_window(1_048_576 - 65_535)
    ours: Server | Client = Server(limits) if is_server else Client(limits)
    begin = (PREFACE if is_server else b"") + settings()
    ours.feed(begin, 0.0)
    theirs.receive_data(begin + settings(flags=1) + settings(flags=1))
    if isinstance(ours, Client):
        for fields, last in ((GET, True), (POST, False)):
            ours.send_request(tuple(fields), (), ends=last)
            theirs.send_headers(
                theirs.get_next_available_stream_id(), list(fields), end_stream=last
            )
    return ours, theirs


def difference(data: bytes, *, is_server: bool) -> tuple[str, str]:
    """Compare a stream; return what no row explains, and how far it went."""
    ours, theirs = ends(is_server=is_server)
    seen: set[str] = set()
    for frame in frames_of(data):
        events = ours.feed(frame, 0.0)
        why = refused_by_us(events)
        try:
            judged: list[h2.events.Event] = theirs.receive_data(frame)
            refused = any(
                isinstance(event, h2.events.StreamReset) and not event.remote_reset
                for event in judged
            )
        except ProtocolError:
            judged, refused = [], True
        if why:
            unexplained = not refused and why not in STRICTER
            return (f"refused as {why}; h2 took it" if unexplained else ""), why
        if refused:
            return ("" if looser(frame) else f"took {frame!r}; h2 refused it"), "refused"
        mine = [plain for event in events if (plain := plain_of_ours(event)) is not None]
        judges = [plain for event in judged if (plain := plain_of_theirs(event)) is not None]
        if any(plain[0] == "goaway" for plain in judges):
            # Only ours names the streams that come back, and reads on.
            return ("" if mine[-1:] == judges else f"{mine} where h2 has {judges}"), "goaway"
        mine = [plain for plain in mine if plain[0] != "data" or plain[2]]
        judges = [plain for plain in judges if plain[0] != "data" or plain[2]]
        if mine != judges:
            return f"{mine} where h2 has {judges}", ""
        seen.update(str(plain[0]) for plain in mine)
        for event in events:
            if isinstance(event, DataReceived):
                ours.acknowledge(event.stream_id, event.credit)
    return "", " ".join(sorted(seen))

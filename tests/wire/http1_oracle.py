"""h11 as the judge of HTTP/1: what it takes, we take; what it refuses, we refuse.

Where we differ, a row of ``STRICTER``, or ``LOOSER``, says so and why. ``difference`` compares one
stream and returns what no row explains.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, final

import h11

from proxy.wire.http_message import Form, RequestHead, ResponseHead
from tests.wire.http1_drive import Message, Seen

STRICTER: Final = {
    "http1-bare-lf": "h11 ends lines with LF alone; RFC 9112 §2.2 lets others not",
    "http1-bare-cr": "h11 refuses it too, but not before the empty line has come",
    "http1-control": "h11 lets cookies hold controls; RFC 9110 §5.5 calls them invalid",
    "http1-obs-fold": "h11 joins folded lines; RFC 9112 §5.2 lets a server refuse them",
    "http1-version": "h11 takes any D.D; we know 1.0 and 1.1",
    "http1-target": "h11 takes any visible ASCII; RFC 9112 §3.2 has four forms",
    "http1-host-invalid": "h11 leaves Host unread; RFC 9112 §3.2 wants a 400",
    "http1-host-conflict": "h11 leaves the target unread; two names are how policy is passed by",
    "http1-length-repeated": "h11 joins equal lengths; RFC 9110 §8.6 lets us refuse them",
    "http1-length-invalid": "h11 takes lists of equal lengths and 20 digits",
    "http1-length-and-coding": "h11 follows the coding; RFC 9112 §6.1 lets a server refuse both",
    "http1-coding-version": "h11 follows a coding in 1.0; RFC 9112 §6.1 calls that faulty",
    "http1-chunk-size": "h11 takes blanks behind a size, any extension, and 20 digits",
    "http1-chunk-extensions": "h11 has no bound of its own for them",
    "http1-trailer": "h11 lets trailers frame; RFC 9110 §6.5.1 does not",
    "http1-connect": "h11 takes CONNECT in 1.0 and with content; Linkerd does not",
    "http1-upgrade": "h11 leaves Upgrade to the application; h2c among others is never followed",
    "http1-too-many-fields": "h11 bounds the head alone",
}
"""Codes with which we refuse what h11 may take."""

LOOSER: Final = {
    "empty line": "RFC 9112 §2.2: one before a request is ignored",
    "blank extension": "RFC 9112 §7.1.1: blanks before a chunk's extension are removed",
}
"""What we take and h11 does not."""

_BLANK_EXTENSION: Final = re.compile(rb"[0-9A-Fa-f][ \t]+;")


@final
@dataclass
class Judged:
    """What h11 made of a stream."""

    messages: list[tuple[object, ...]] = field(default_factory=list)
    refused: bool = False
    begun: bool = False
    """A message was begun behind the last complete one."""
    closed: bool = False
    """h11 wants the connection closed behind the last message and reads on no further."""


def judge_requests(data: bytes, *, eof: bool = False) -> Judged:
    """Read every request of a stream with h11, each refused as a server may."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    judged = Judged()
    connection.receive_data(data)
    if eof:
        connection.receive_data(b"")
    head: h11.Request | None = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
                judged.begun = True
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                judged.messages.append((*plain_h11(head), body, tuple(event.headers)))
                judged.begun = False
                connection.send(h11.Response(status_code=400, headers=[(b"content-length", b"0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    judged.closed = True
                    return judged
                connection.start_next_cycle()
            else:
                return judged
    except h11.RemoteProtocolError:
        judged.refused = True
        return judged


def judge_response(data: bytes, method: bytes, *, eof: bool = False) -> Judged:
    """Read the response to one request with h11."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=65_536)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    judged = Judged()
    connection.receive_data(data)
    if eof:
        connection.receive_data(b"")
    head: h11.Response | None = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                head, body = event, b""
                judged.begun = True
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                judged.messages.append((*plain_h11(head), body, tuple(event.headers)))
                return judged
            elif not isinstance(event, h11.InformationalResponse):
                return judged
    except h11.RemoteProtocolError:
        judged.refused = True
        return judged


def plain_h11(head: h11.Request | h11.Response) -> tuple[object, ...]:
    """Return a head of h11's for comparison."""
    if isinstance(head, h11.Request):
        target = bytes(head.target) if head.target.startswith(b"/") else b""
        return (bytes(head.method), target, fields_of_h11(head))
    return (head.status_code, bytes(head.reason), fields_of_h11(head))


def fields_of_h11(head: h11.Request | h11.Response) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields; h11 writes codings in lower case."""
    return tuple((bytes(name), bytes(value)) for name, value in head.headers)


def plain_ours(message: Message) -> tuple[object, ...]:
    """Return a message of ours for comparison."""
    head = message.head
    fields = tuple(
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in head.fields
    )
    if isinstance(head, RequestHead):
        path = head.path if head.form is Form.ORIGIN else b""
        return (head.method, path, fields, message.body, message.trailers)
    assert isinstance(head, ResponseHead)
    return (head.status, head.reason, fields, message.body, message.trailers)


def looser(data: bytes, ours: Seen) -> str:
    """Return the row of ``LOOSER`` that a stream we take falls under; empty: none."""
    if ours.skipped:
        return "empty line"
    return "blank extension" if _BLANK_EXTENSION.search(data) else ""


def difference(data: bytes, ours: Seen, judged: Judged) -> str:
    """Return what the two understood differently and no row explains; empty: nothing."""
    complete = [plain_ours(message) for message in ours.messages if message.ended]
    common = min(len(complete), len(judged.messages))
    if complete[:common] != judged.messages[:common]:
        return f"understood {complete[:common]} where h11 has {judged.messages[:common]}"
    if ours.switched or (judged.closed and len(complete) >= len(judged.messages)):
        return ""
    if judged.refused and looser(data, ours):
        return ""
    if ours.code:
        undecided = not judged.begun
        if len(judged.messages) == len(complete) and (judged.refused or undecided):
            return ""
        return "" if ours.code in STRICTER else f"refused as {ours.code}; h11 took it"
    if judged.refused:
        undecided = not ours.messages or ours.messages[-1].ended
        return "" if undecided else "taken; h11 refused it"
    if len(complete) != len(judged.messages):
        return f"{len(complete)} messages; h11 has {len(judged.messages)}"
    return ""

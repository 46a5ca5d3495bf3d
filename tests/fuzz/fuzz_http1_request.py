"""Any octets, however cut, are the same requests or one refusal, and mean what they mean to h11.

Nothing but a ``ClientProtocolError`` with a known code is ever raised; what is read can be
written and read again.
"""

from __future__ import annotations

from typing import Final

from core.errors import OUTCOMES
from proxy.wire.http1_writer import write_chunk, write_last_chunk, write_request_head
from proxy.wire.http_message import CHUNKED, Form, RequestHead
from tests.fuzz.engine import Target, places_of
from tests.wire.http1_body_cases import BODIES
from tests.wire.http1_drive import Message, cut, read_requests
from tests.wire.http1_head_cases import HEADS
from tests.wire.http1_oracle import difference, judge_requests
from tests.wire.http1_traffic import FRAGMENTS


def run(data: bytes) -> str:
    """Check one stream; return the code and the shape of what was understood."""
    whole = read_requests([data])
    pieces = read_requests(cut(data, places_of(data)))
    assert whole.messages == pieces.messages, "cut otherwise, understood otherwise"
    assert whole.code == pieces.code, f"{whole.code} whole, {pieces.code} in pieces"
    assert not whole.code or whole.code in OUTCOMES, whole.code
    why = difference(data, whole, judge_requests(data))
    assert not why, why
    for message in whole.messages:
        if message.ended:
            _check_written(message)
    shapes = {(message.ended, bool(message.body)) for message in whole.messages}
    return f"{whole.code} {sorted(shapes)}"


def _check_written(message: Message) -> None:
    """Write a message as a proxy does, and read the same one."""
    head = message.head
    assert isinstance(head, RequestHead)
    if head.form is Form.ABSOLUTE and head.path == b"*":
        return
    target = head.authority if head.form is Form.AUTHORITY else head.path
    data = write_request_head(head.method, target, head.fields, head.version)
    if head.length == CHUNKED:
        data += write_chunk(message.body) + write_last_chunk(message.trailers)
    else:
        data += message.body
    again = read_requests([data])
    assert again.code == "", again.code
    assert len(again.messages) == 1
    assert again.messages[0].head.fields == head.fields
    assert again.messages[0].body == message.body
    assert again.messages[0].trailers == message.trailers


TARGET: Final = Target(
    "http1_request",
    run,
    [case.data for case in HEADS + BODIES if len(case.data) < 1_000],
    FRAGMENTS,
)

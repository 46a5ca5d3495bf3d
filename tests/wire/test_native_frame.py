"""Frames of content as what runs puts them together, against the reference."""

from __future__ import annotations

import pytest

from proxy.wire import http2_frame
from proxy.wire.http2_frame import FRAME_SIZE
from proxy.wire.native import data_frame
from tests.wire.http2_talk import ping, raw, serve


@pytest.mark.parametrize("size", [0, 1, 255, 256, FRAME_SIZE - 1, FRAME_SIZE])
@pytest.mark.parametrize("stream_id", [1, 0x80, 0x8000, 0x800000, 2**31 - 1])
def test_frames_are_put_together_the_same(size: int, stream_id: int) -> None:
    """Whatever their size and their stream."""
    for ends in (False, True):
        data = data_frame(stream_id, b"x" * size, ends)
        assert data == http2_frame.data_frame(stream_id, b"x" * size, ends)
        assert data == raw(0, int(ends), stream_id, b"x" * size)


def test_the_longest_frame_is_one_and_one_more_is_not() -> None:
    """What came before it still counts, and no more than its head is waited for."""
    first = ping()
    longest, longer = (raw(0x20, 0, 3, b"x" * size) for size in (FRAME_SIZE, FRAME_SIZE + 1))
    talk = serve()
    talk.say(longest[:-1])
    talk.say(longest[-1:] + first + longer[:8])
    assert talk.reasons == []
    assert len(talk.pongs) == 1
    talk.say(longer[8:9] + first)
    assert talk.reasons == ["http2-frame-size"]
    assert len(talk.pongs) == 1

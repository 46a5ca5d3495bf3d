"""Frames cut apart and put together by what runs, against the reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import http2_frame
from proxy.wire.http2_frame import FRAME_SIZE
from proxy.wire.native import data_frame, split_frames
from tests.wire.http2_talk import raw

_FRAMES = st.builds(
    raw,
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=40),
    st.sampled_from([-1, -1, -1, 0, 1, 300, FRAME_SIZE, FRAME_SIZE + 1, 2**24 - 1]),
)


@given(st.lists(st.one_of(_FRAMES, st.binary(max_size=12)), max_size=8).map(b"".join), st.data())
def test_frames_are_cut_apart_the_same(data: bytes, chance: st.DataObject) -> None:
    """From anywhere on, whatever the octets are."""
    at = chance.draw(st.integers(0, len(data) + 1))
    assert split_frames(data, at) == http2_frame.split_frames(data, at)


@pytest.mark.parametrize("size", [0, 1, 255, 256, FRAME_SIZE - 1, FRAME_SIZE])
@pytest.mark.parametrize("stream_id", [1, 0x80, 0x8000, 0x800000, 2**31 - 1])
def test_frames_are_put_together_the_same(size: int, stream_id: int) -> None:
    """And come apart again as what they were; one octet less is no frame."""
    for ends in (False, True):
        data = data_frame(stream_id, b"x" * size, ends)
        assert data == http2_frame.data_frame(stream_id, b"x" * size, ends)
        assert split_frames(b"?" + data, 1) == ([(0, int(ends), stream_id, b"x" * size)], size + 10)
        assert split_frames(data[:-1], 0) == ([], 0)


def test_the_longest_frame_is_one_and_one_more_is_not() -> None:
    """What came before it still counts."""
    first = data_frame(1, b"a", True)
    longer = raw(0, 0, 3, b"x" * (FRAME_SIZE + 1))
    assert split_frames(first + longer, 0) == ([(0, 1, 1, b"a")], -1)
    assert split_frames(first + longer[:9], 0) == ([(0, 1, 1, b"a")], -1)
    assert split_frames(first + longer[:8], 0) == ([(0, 1, 1, b"a")], 10)

from __future__ import annotations

import asyncio
import socket

import pytest

from control.issuer_frame import decode_answer, encode_answer, frame, read_frame
from core.errors import IdentityError, OverloadError
from identity.request import REFUSED, Certified, refusal

CERTIFIED = Certified(b"leaf", (b"issuer",), 1000.0)


async def _read(data: bytes, limit: int, *, pieces: int = 1) -> bytes:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read_frame(near, limit))
            step = max(1, len(data) // pieces)
            for start in range(0, len(data), step):
                await loop.sock_sendall(far, data[start : start + step])
                await asyncio.sleep(0)
            far.shutdown(socket.SHUT_WR)
        return reading.result()


@pytest.mark.parametrize("pieces", [1, 2, 5, 100])
async def test_a_frame_is_read_however_it_is_cut(pieces: int) -> None:
    """Split anywhere it is the same frame; what follows it is left."""
    body = bytes(range(100))
    assert await _read(frame(body) + b"more", 100, pieces=pieces) == body


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 of 4"),
        (b"\0\0", "2 of 4"),
        (b"\0\0\0\0", "a frame of 0 bytes"),
        (b"\0\0\0\x65", "a frame of 101 bytes"),
        (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "a frame of 1195725856 bytes"),
        (frame(b"x" * 100)[:-1], "99 of 100"),
    ],
)
async def test_a_frame_out_of_bounds_or_cut_short_is_refused(data: bytes, words: str) -> None:
    """As soon as the length is known; at the bound it is taken."""
    with pytest.raises(ExceptionGroup) as refused:
        await _read(data, 100)
    assert words in str(refused.value.exceptions[0])
    assert await _read(frame(b"x" * 100), 100) == b"x" * 100


def test_an_answer_comes_back() -> None:
    """A certificate as it was, a refusal with its code and its words."""
    assert decode_answer(encode_answer(CERTIFIED)) == CERTIFIED
    with pytest.raises(IdentityError, match="the issuer refuses: no such workload") as refused:
        decode_answer(encode_answer(refusal(REFUSED, "no such workload")))
    assert refused.value.code == REFUSED
    with pytest.raises(IdentityError) as refused:
        decode_answer(encode_answer(OverloadError("x" * 10_000)))
    assert refused.value.code == "overload"
    assert len(str(refused.value)) < 3000


@pytest.mark.parametrize("body", [b"", b"\2", b"\0garbage", b"\1", b"\1\xff\xfe", b"\1odd\nwords"])
def test_a_broken_answer_is_an_error(body: bytes) -> None:
    """An unknown code is not taken over."""
    with pytest.raises(IdentityError) as refused:
        decode_answer(body)
    assert refused.value.code == "identity"

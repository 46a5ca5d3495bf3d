"""The frames of the issuer's socket: one request, one answer, then the end.

    request   u32 length, CertifyRequest (io.linkerd.proxy.identity)
    answer    u32 length, one byte of outcome, then
              0: CertifyResponse      1: UTF-8 "code LF message"

Lengths are big-endian and count what follows them.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

from api.identity import decode_certified, encode_certified
from core.errors import OUTCOMES, IdentityError, MeshError
from identity.request import Certified

MAX_REQUEST_BYTES: Final = 32 * 1024
"""A request at most: identity, token and CSR have bounds of their own below this."""
MAX_ANSWER_BYTES: Final = 128 * 1024
"""An answer at most: twice a chain's bound."""
_LENGTH: Final = struct.Struct(">I")
_MAX_MESSAGE: Final = 2048


def frame(body: bytes) -> bytes:
    """Return ``body`` with its length before it."""
    return _LENGTH.pack(len(body)) + body


async def read_frame(connection: socket.socket, limit: int) -> bytes:
    """Return the body of the one frame that a peer sends; the caller bounds the time.

    Raises IdentityError when the peer ends early, or as soon as the length is known to be 0 or
    past ``limit``.
    """
    (length,) = _LENGTH.unpack(await _read_exactly(connection, _LENGTH.size))
    if not 1 <= length <= limit:
        raise IdentityError(f"a frame of {length} bytes; 1 to {limit} are taken")
    return await _read_exactly(connection, length)


async def _read_exactly(connection: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        piece = await loop.sock_recv(connection, size - len(data))
        if not piece:
            raise IdentityError(f"the peer hung up after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


def encode_answer(answer: Certified | MeshError) -> bytes:
    """Return the body of an answer."""
    if isinstance(answer, Certified):
        return b"\0" + encode_certified(answer)
    return b"\1" + f"{answer.code}\n{answer}"[:_MAX_MESSAGE].encode(errors="replace")


def decode_answer(body: bytes) -> Certified:
    """Read an answer's body. Raises IdentityError: the issuer's refusal, or a broken answer."""
    if body[:1] == b"\0":
        return decode_certified(body[1:])
    if body[:1] != b"\1":
        raise IdentityError("the issuer's answer is neither a certificate nor a refusal")
    code, _, message = body[1:].decode(errors="replace").partition("\n")
    raise IdentityError(
        f"the issuer refuses: {message[:_MAX_MESSAGE]}", code=code if code in OUTCOMES else ""
    )

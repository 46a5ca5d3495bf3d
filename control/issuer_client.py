"""The workload's end of the issuer's socket."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Final, final

from api.identity import encode_request
from control.issuer_frame import MAX_ANSWER_BYTES, decode_answer, frame, read_frame
from core.errors import IdentityError
from identity.name import Identity
from identity.request import Certified, CertifyRequest

TIMEOUT_S: Final = 15.0
"""How long one request may take, connecting included."""


@final
class IssuerClient:
    """Asks the issuer behind one Unix socket for certificates of one identity."""

    def __init__(self, path: Path, identity: Identity, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._identity = identity
        self._timeout_s = timeout_s

    async def certify(self, csr: bytes, token: bytes) -> Certified:
        """Return a new leaf. Raises IdentityError: refused, unreachable, broken or too slow."""
        request = encode_request(CertifyRequest(self._identity.name, token, csr))
        try:
            async with asyncio.timeout(self._timeout_s):
                return decode_answer(await self._call(frame(request)))
        except TimeoutError as error:
            raise IdentityError(
                f"the issuer at {self._path} did not answer within {self._timeout_s:g} s"
            ) from error
        except OSError as error:
            raise IdentityError(
                f"cannot reach the issuer at {self._path}: {error.strerror or error}",
                hint="is `pillion identity serve` running there?",
            ) from error

    async def _call(self, request: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)  # noqa: FBT003  the standard library's own form
            await loop.sock_connect(connection, str(self._path))
            await loop.sock_sendall(connection, request)
            return await read_frame(connection, MAX_ANSWER_BYTES)

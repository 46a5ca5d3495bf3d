"""The issuer's end of its socket: a Unix socket that any workload of this machine may dial.

Who a caller is, its token says; the socket's permissions are therefore wide. Its directory
should belong to the issuer, so that nobody else can put a socket in its place.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from api.identity import decode_request
from control.issuer_frame import MAX_REQUEST_BYTES, encode_answer, frame, read_frame
from core.clock import utc_text
from core.errors import ConfigError, MeshError
from identity.request import Certified, CertifyRequest

MAX_CALLERS: Final = 128
"""Callers at once; further ones wait in the kernel's queue."""
TIMEOUT_S: Final = 10.0
"""A caller's whole time, from connecting to having read the answer."""
SOCKET_MODE: Final = 0o666
MAX_PATH_BYTES: Final = 107
"""A Unix socket's longest path (unix(7)): past it no caller could dial."""
_PAUSE_S: Final = 0.5

Certify = Callable[[CertifyRequest], Certified]
"""Decides a request; raises MeshError to refuse."""
Log = Callable[[str, str], None]
"""Takes a level (``info``, ``warn``, ``error``) and a sentence."""


@final
class IssuerServer:
    """Answers requests on a Unix socket."""

    def __init__(
        self,
        path: Path,
        certify: Certify,
        log: Log,
        *,
        max_callers: int = MAX_CALLERS,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Open the socket: callers queue from now on. Raises ConfigError."""
        self._path = path
        self._certify = certify
        self._log = log
        self._free = asyncio.Semaphore(max_callers)
        self._timeout_s = timeout_s
        self._listener = _listen(path)

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._listener.close()
        self._path.unlink(missing_ok=True)

    async def run(self) -> None:
        """Answer callers until cancelled; those that are being answered are cut."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as callers:
            while True:
                await self._free.acquire()
                try:
                    connection, _ = await loop.sock_accept(self._listener)
                except OSError as error:
                    # Out of descriptors, most likely: callers that end give some back.
                    self._free.release()
                    self._log("warn", f"cannot accept callers: {error.strerror}")
                    await asyncio.sleep(_PAUSE_S)
                    continue
                callers.create_task(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._answer(connection)
                    await asyncio.get_running_loop().sock_sendall(connection, frame(answer))
        except TimeoutError:
            self._log("warn", f"a caller took longer than {self._timeout_s:g} s")
        except OSError as error:
            self._log("warn", f"a caller is gone: {error.strerror}")
        except Exception as error:  # noqa: BLE001  one caller's input must not end the issuer
            self._log("error", f"a fault of the issuer's own: {type(error).__name__}: {error}")
        finally:
            self._free.release()

    async def _answer(self, connection: socket.socket) -> bytes:
        who = "a caller"
        try:
            request = decode_request(await read_frame(connection, MAX_REQUEST_BYTES))
            who = repr(request.identity[:253])
            certified = self._certify(request)
        except MeshError as error:
            self._log("warn", f"refused {who}: {error}")
            return encode_answer(error)
        self._log("info", f"issued {who} until {utc_text(certified.valid_until)}")
        return encode_answer(certified)


def _listen(path: Path) -> socket.socket:
    _check_free(path)
    # Bound under another name and moved: whoever sees the socket finds somebody listening, and
    # the file that a killed issuer left behind is replaced without a gap.
    draft = path.with_name(f".{os.urandom(4).hex()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)  # noqa: FBT003  the standard library's own form
        listener.bind(str(draft))
        draft.chmod(SOCKET_MODE)
        listener.listen()
        draft.rename(path)
    except OSError as error:
        listener.close()
        draft.unlink(missing_ok=True)
        reason = error.strerror or error
        raise ConfigError(f"cannot open the issuer's socket {path}: {reason}") from error
    return listener


def _check_free(path: Path) -> None:
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ConfigError(
            f"cannot open the issuer's socket {path}: {MAX_PATH_BYTES} bytes at most are a path"
        )
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"{path} exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
        except OSError as error:
            raise ConfigError(f"{path} is in use: {error}") from error
    raise ConfigError(f"another issuer listens on {path}")

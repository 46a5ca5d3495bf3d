"""Dialling: an address in, a connected socket out."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Final, final

from core.errors import ConnectRefusedError, ConnectTimeoutError, OverloadError, UnreachableError
from discovery.model import Address
from proxy.net.poller import WRITE, Pollable, Poller
from proxy.net.sockopt import TcpOptions, apply_options

_IP_BIND_ADDRESS_NO_PORT: Final = 24
"""linux/in.h; for IPv6 sockets too."""
_OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


@final
class Dial(Pollable):
    """A TCP handshake that is under way."""

    __slots__ = ("done",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        """Whether it came to an end, good or bad: the socket says which."""

    def on_ready(self, events: int) -> None:
        """Take notice of the end."""
        if not self.done.done():
            self.done.set_result(None)


@final
class Connector:
    """Dials addresses with the options every connection gets."""

    __slots__ = ("_options", "_poller", "_sources")

    def __init__(
        self,
        poller: Poller,
        options: TcpOptions,
        sources: tuple[str, ...] = (),
    ) -> None:
        self._poller = poller
        self._options = options
        self._sources = {":" in ip: ip for ip in reversed(sources)}
        """The address to dial from, by whether it is of IPv6; none: the system's choice."""

    async def connect(self, address: Address, timeout_s: float) -> socket.socket:
        """Return a socket connected to ``address`` within ``timeout_s`` seconds.

        Raises ConnectRefusedError, ConnectTimeoutError, or OverloadError when we are out of
        descriptors.
        """
        family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise _as_mesh_error(address, error) from error
        try:
            apply_options(sock, self._options)
            if self._sources:
                self._bind(sock, address)
            if not self._begin(sock, (address.ip, address.port)):
                async with asyncio.timeout(timeout_s):
                    await self._writable(sock)
                _raise_unless_connected(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        except TimeoutError as error:
            sock.close()
            raise ConnectTimeoutError(
                f"{address} did not answer within {timeout_s:g} s",
                hint="a NetworkPolicy or firewall may drop the packets",
            ) from error
        except OSError as error:
            sock.close()
            raise _as_mesh_error(address, error) from error
        except BaseException:
            sock.close()
            raise
        return sock

    def _bind(self, sock: socket.socket, address: Address) -> None:
        source = self._sources.get(":" in address.ip)
        if source is not None:
            # The port is chosen at the connect: one may lead to many peers then.
            sock.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))

    def _begin(self, sock: socket.socket, address: tuple[str, int]) -> bool:
        """Begin the TCP handshake by hand, for the loop's own costs twice the system call.

        Returns whether it is done: a second call tells at once whether the peer, as on this
        machine, has answered already.
        """
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            code = sock.connect_ex(address)
        if code in (errno.EINPROGRESS, errno.EALREADY):
            return False
        _raise_unless_connected(code)
        return True

    async def _writable(self, sock: socket.socket) -> None:
        dial = Dial(self._poller.loop)
        self._poller.watch(sock.fileno(), dial, WRITE)
        try:
            await dial.done
        finally:
            self._poller.forget(sock.fileno())


def _raise_unless_connected(code: int) -> None:
    if code not in (0, errno.EISCONN):
        raise OSError(code, os.strerror(code))


def _as_mesh_error(address: Address, error: OSError) -> UnreachableError | OverloadError:
    if error.errno in _OUT_OF_DESCRIPTORS:
        return OverloadError(f"cannot dial {address}: {error.strerror}")
    return ConnectRefusedError(f"{address} cannot be reached: {error.strerror or error}")

"""Where a captured connection was going before it was redirected to us."""

from __future__ import annotations

import socket
import struct
from typing import Final, Protocol, final

from core.errors import CaptureError
from discovery.model import Address
from proxy.net.address import plain_ip

_SO_ORIGINAL_DST: Final = 80
"""linux/netfilter_ipv4.h; the same number in linux/netfilter_ipv6/ip6_tables.h."""


class Capture(Protocol):
    """How connections come to us."""

    def original_destination(self, sock: socket.socket) -> Address:
        """Return where the client was going. Raises CaptureError."""
        ...


@final
class RedirectCapture:
    """Connections redirected by netfilter: the kernel's NAT table knows their destination."""

    def original_destination(self, sock: socket.socket) -> Address:
        """Ask for SO_ORIGINAL_DST; a connection that was not redirected gives its own address.

        The client's address chooses the family: on a listener for both, an IPv4 connection is
        known to IPv4's table alone, whatever the socket's own family.
        """
        try:
            if sock.family == socket.AF_INET6 and ":" in plain_ip(sock.getpeername()[0]):
                raw = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
                port6, packed6 = struct.unpack_from("!2xH4x16s", raw)
                return Address(plain_ip(socket.inet_ntop(socket.AF_INET6, packed6)), port6)
            raw = sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
        except OSError as error:
            raise CaptureError(
                f"no original destination: {error.strerror}",
                hint="install the capture rules (pillion redirect install) in this namespace",
            ) from error
        port, packed = struct.unpack_from("!2xH4s", raw)
        return Address(socket.inet_ntop(socket.AF_INET, packed), port)


@final
class ExplicitCapture:
    """Connections dialled at addresses that we hold: each was going just there."""

    def original_destination(self, sock: socket.socket) -> Address:
        """Return the address that the client dialled."""
        try:
            name = sock.getsockname()
        except OSError as error:
            raise CaptureError(f"no destination: {error.strerror}") from error
        return Address(plain_ip(str(name[0])), int(name[1]))


@final
class FixedCapture:
    """Every connection was going to the same place: for measurements and tests."""

    def __init__(self, destination: Address) -> None:
        self._destination = destination

    def original_destination(self, sock: socket.socket) -> Address:
        """Return the one destination."""
        del sock
        return self._destination

"""Where a captured connection was going before it was redirected to us."""

from __future__ import annotations

import socket
import struct
from typing import Final, Protocol, final

from core.errors import CaptureError
from discovery.model import Address

_SO_ORIGINAL_DST: Final = 80
"""linux/netfilter_ipv4.h."""


class Capture(Protocol):
    """How connections come to us."""

    def original_destination(self, sock: socket.socket) -> Address:
        """Return where the client was going. Raises CaptureError."""
        ...


@final
class RedirectCapture:
    """Connections redirected by netfilter: the kernel's NAT table knows their destination."""

    def original_destination(self, sock: socket.socket) -> Address:
        """Ask for SO_ORIGINAL_DST; a connection that was not redirected gives its own address."""
        try:
            raw = sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
        except OSError as error:
            raise CaptureError(
                f"no original destination: {error.strerror}",
                hint="install the capture rules (pillion redirect install) in this namespace",
            ) from error
        port, packed = struct.unpack_from("!2xH4s", raw)
        return Address(socket.inet_ntop(socket.AF_INET, packed), port)


@final
class FixedCapture:
    """Every connection was going to the same place: for measurements and tests."""

    def __init__(self, destination: Address) -> None:
        self._destination = destination

    def original_destination(self, sock: socket.socket) -> Address:
        """Return the one destination."""
        del sock
        return self._destination

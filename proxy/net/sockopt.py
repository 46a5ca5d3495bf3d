"""Socket options every user connection gets."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from typing import Final, final

from core.record import dataclass

_TCP_USER_TIMEOUT: Final = 18
"""linux/tcp.h; not in every Python's socket module."""
_TCP_INFO_BYTES: Final = 72
_TCP_INFO_RTT: Final = 68
"""Where tcpi_rtt lies in them, in microseconds (linux/tcp.h)."""
_SO_ATTACH_FILTER: Final = 26
"""asm-generic/socket.h; any process may filter what its own socket gets."""
_INSTRUCTION: Final = struct.Struct("HBBI")
_NO_SYN: Final = b"".join(
    # Load the byte of TCP flags (RFC 9293, 3.1); if SYN is among them drop the segment, else take.
    _INSTRUCTION.pack(*each)
    for each in ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
)
"""A classic BPF program, as socket filters take it (linux/filter.h)."""
_NO_SYN_BUFFER: Final = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
"""Where the kernel reads it: for ever, since a compiled local goes with its last use."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TcpOptions:
    """When a silent peer counts as gone, in milliseconds and seconds; 0 keeps the system's.

    The defaults are the Linkerd chart's: keepalive 10 s, TCP_USER_TIMEOUT 30 s.
    """

    keepalive_s: int = 10
    user_timeout_ms: int = 30_000


def apply_options(sock: socket.socket, options: TcpOptions) -> None:
    """Make ``sock`` non-blocking and set the options that hold for every connection.

    On a listening socket: accepted ones inherit the options, but not that they do not block.
    """
    sock.settimeout(0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.keepalive_s:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, options.keepalive_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, options.keepalive_s)
    if options.user_timeout_ms:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, options.user_timeout_ms)


def drop_new_handshakes(sock: socket.socket) -> None:
    """Let a listening socket finish handshakes that have begun, and begin no others.

    A new client's SYN is dropped; it will be sent again in a second (RFC 6298, 2.1). Where the
    system takes no filters, nothing happens.
    """
    with contextlib.suppress(OSError):
        count = len(_NO_SYN) // _INSTRUCTION.size
        fprog = struct.pack("HP", count, ctypes.addressof(_NO_SYN_BUFFER))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def round_trip_s(sock: socket.socket) -> float:
    """Return the kernel's estimate of the peer's round-trip time, in seconds."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    rtt: int = struct.unpack_from("I", info, _TCP_INFO_RTT)[0]
    return rtt / 1e6

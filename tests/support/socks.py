"""A client of SOCKS 5 that shows what it was told."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address

CONNECT = 1


def socks_connection(
    proxy: str, host: str, port: int, *, source: str = "", command: int = CONNECT
) -> tuple[socket.socket, int]:
    """Ask the sidecar at ``proxy`` for ``host``; return the connection and the reply's code.

    ConnectionError when the sidecar hangs up without one.
    """
    near = socket.create_connection(
        (proxy, 4140), timeout=15, source_address=(source, 0) if source else None
    )
    try:
        near.sendall(b"\x05\x01\x00")
        assert _exactly(near, 2) == b"\x05\x00"
        near.sendall(bytes((5, command, 0)) + _address(host) + port.to_bytes(2, "big"))
        return near, _exactly(near, 10)[1]
    except BaseException:
        near.close()
        raise


def _address(host: str) -> bytes:
    if host.replace(".", "").isdigit():
        return b"\x01" + IPv4Address(host).packed
    return b"\x03" + bytes((len(host),)) + host.encode()


def _exactly(near: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = near.recv(size - len(data))
        if not part:
            raise ConnectionError("the sidecar hung up")
        data += part
    return data

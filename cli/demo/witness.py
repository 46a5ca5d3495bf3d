"""What a capture of the cable between two pods shows: TLS or not, and of whom.

Reads the files that tcpdump writes (classic pcap of Ethernet frames with IPv4 and TCP), puts
each connection's bytes in order and judges them by TLS's own record structure (RFC 8446 section
5.1), which the proxy has no say in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, final

from core.errors import ClientProtocolError
from core.record import dataclass
from proxy.wire.client_hello import HelloState, read_client_hello

MAX_CAPTURE_BYTES: Final = 64 * 1024 * 1024
"""The largest capture that is read."""
_MAGIC: Final = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\x4d\x3c\xb2\xa1": "<"}
_ETHERNET: Final = 1
_IPV4: Final = 0x0800
_TCP: Final = 6
_SYN: Final = 0x02
_ACK: Final = 0x10
_RECORD_TYPES: Final = range(20, 25)
_MAX_RECORD: Final = 16_384 + 256

End = tuple[str, int]
"""Address and port."""


@final
@dataclass(slots=True)
class Flow:
    """One connection's bytes, both ways, in order."""

    client: End
    server: End
    sent: bytes = b""
    """By the client."""
    received: bytes = b""


@final
@dataclass(frozen=True, slots=True)
class Testimony:
    """What flows turned out to be."""

    connections: int
    tls: int
    """Connections that are TLS from the first byte to the last, both ways."""
    records: int
    size_bytes: int
    server_names: tuple[str, ...]
    """Whom the clients asked for, in the clear, in their hellos."""
    marked: int
    """Connections in which the marker could be read."""


@final
@dataclass(slots=True)
class _Half:
    start: int = -1
    """The sequence number of the first byte; -1 until a SYN was seen."""
    parts: dict[int, bytes] = field(default_factory=dict)

    def joined(self) -> bytes:
        """Return the bytes from the first up to the first gap."""
        data = bytearray()
        for at in sorted(self.parts):
            if at > len(data):
                break
            data += self.parts[at][len(data) - at :]
        return bytes(data)


def read_capture(path: Path) -> list[Flow]:
    """Return the connections whose beginning is in the capture, in that order.

    Raises ClientProtocolError when the file is not a capture of Ethernet frames, or too large.
    """
    size = path.stat().st_size
    if size > MAX_CAPTURE_BYTES:
        raise ClientProtocolError(f"{path} has {size} bytes; at most {MAX_CAPTURE_BYTES} are read")
    halves: dict[tuple[End, End], _Half] = {}
    clients: dict[tuple[End, End], None] = {}
    for frame in _frames(path.read_bytes(), path):
        segment = _segment(frame)
        if segment is None:
            continue
        way, sequence, flags, payload = segment
        half = halves.setdefault(way, _Half())
        if flags & _SYN:
            half.start = (sequence + 1) & 0xFFFFFFFF
            if not flags & _ACK:
                clients.setdefault(way)
        elif payload and half.start >= 0:
            at = (sequence - half.start) & 0xFFFFFFFF
            if len(half.parts.get(at, b"")) < len(payload):
                half.parts[at] = payload
    nothing = _Half()
    return [
        Flow(
            client,
            server,
            halves[client, server].joined(),
            halves.get((server, client), nothing).joined(),
        )
        for client, server in clients
    ]


def judge(flows: Sequence[Flow], marker: bytes) -> Testimony:
    """Judge ``flows``; ``marker`` is something the programs at both ends did exchange."""
    spoken = [flow for flow in flows if flow.sent or flow.received]
    names = [read_client_hello(flow.sent).sni for flow in spoken]
    return Testimony(
        connections=len(spoken),
        tls=sum(_is_tls(flow) for flow in spoken),
        records=sum(_records(flow.sent) + _records(flow.received) for flow in spoken),
        size_bytes=sum(len(flow.sent) + len(flow.received) for flow in spoken),
        server_names=tuple(dict.fromkeys(name for name in names if name)),
        marked=sum(marker in flow.sent or marker in flow.received for flow in spoken),
    )


def _is_tls(flow: Flow) -> bool:
    hello = read_client_hello(flow.sent)
    if hello.state is not HelloState.HELLO:
        return False
    return _records(flow.sent) > 0 and _records(flow.received) > 0


def _records(data: bytes) -> int:
    """Return how many TLS records ``data`` is made of; 0 when it is anything else."""
    count = at = 0
    while at + 5 <= len(data):
        length = (data[at + 3] << 8) | data[at + 4]
        if data[at] not in _RECORD_TYPES or data[at + 1] != 3 or not 0 < length <= _MAX_RECORD:
            return 0
        at += 5 + length
        count += 1
    return count


def _frames(data: bytes, path: Path) -> Iterator[bytes]:
    order = _MAGIC.get(data[:4])
    if order is None or len(data) < 24:
        raise ClientProtocolError(f"{path} is no capture: it begins with {data[:4].hex() or '-'}")
    (link,) = struct.unpack_from(f"{order}I", data, 20)
    if link != _ETHERNET:
        raise ClientProtocolError(f"{path} has link type {link}; wanted Ethernet, {_ETHERNET}")
    at = 24
    while at + 16 <= len(data):
        (length,) = struct.unpack_from(f"{order}I", data, at + 8)
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def _segment(frame: bytes) -> tuple[tuple[End, End], int, int, bytes] | None:
    """Return way, sequence number, flags and payload of a frame; None when it is not TCP."""
    if len(frame) < 54 or frame[12:14] != _IPV4.to_bytes(2, "big") or frame[23] != _TCP:
        return None
    packet = frame[14:]
    head = (packet[0] & 0x0F) * 4
    total = int.from_bytes(packet[2:4], "big")
    segment = packet[head:total]
    if len(segment) < 20:
        return None
    near, far, sequence = struct.unpack_from("!HHI", segment)
    source = str(IPv4Address(packet[12:16])), near
    target = str(IPv4Address(packet[16:20])), far
    return (source, target), sequence, segment[13], segment[(segment[12] >> 4) * 4 :]

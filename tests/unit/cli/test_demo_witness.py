"""The witness: what it makes of captures, good and bad."""

from __future__ import annotations

import ssl
import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cli.demo import witness
from cli.demo.witness import Flow, judge, read_capture
from core.errors import ClientProtocolError

CLIENT, SERVER = ("10.11.0.11", 40000), ("10.11.0.12", 8080)
HEAD = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def frame(
    source: tuple[str, int],
    target: tuple[str, int],
    sequence: int,
    payload: bytes = b"",
    flags: int = 0x10,
) -> bytes:
    """Return an Ethernet frame with one TCP segment, padded as the wire pads."""
    segment = struct.pack("!HHIIBBHHH", source[1], target[1], sequence, 0, 5 << 4, flags, 0, 0, 0)
    packet = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0)
    packet += IPv4Address(source[0]).packed + IPv4Address(target[0]).packed + segment + payload
    return bytes(12) + b"\x08\x00" + packet + b"\x00" * 6


def capture(tmp_path: Path, *frames: bytes) -> Path:
    """Write a capture file."""
    path = tmp_path / "c.pcap"
    records = (struct.pack("<IIII", 0, 0, len(each), len(each)) + each for each in frames)
    path.write_bytes(HEAD + b"".join(records))
    return path


def client_hello(name: str) -> bytes:
    """Return what a real TLS client says first."""
    near, far = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    engine = context.wrap_bio(near, far, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        engine.do_handshake()
    return far.read()


def test_bytes_are_put_in_order(tmp_path: Path) -> None:
    """Segments late, doubled and overlapping, a sequence number that wraps, a frame of others."""
    first = 0xFFFFFFFE
    path = capture(
        tmp_path,
        frame(CLIENT, SERVER, first - 1 & 0xFFFFFFFF, flags=0x02),
        frame(SERVER, CLIENT, 99, flags=0x12),
        b"\x00" * 60,
        frame(CLIENT, SERVER, 2, b"efgh"),
        frame(CLIENT, SERVER, first, b"abcd"),
        frame(CLIENT, SERVER, first, b"abcd"),
        frame(CLIENT, SERVER, 0, b"cdef"),
        frame(SERVER, CLIENT, 100, b"answer"),
        frame(CLIENT, SERVER, 50, b"after a gap"),
    )
    assert read_capture(path) == [Flow(CLIENT, SERVER, b"abcdefgh", b"answer")]


def test_a_connection_without_its_beginning_is_left_out(tmp_path: Path) -> None:
    """What had begun before the capture cannot be judged."""
    assert read_capture(capture(tmp_path, frame(CLIENT, SERVER, 1, b"late"))) == []


def test_tls_is_told_from_plaintext() -> None:
    """Records from end to end are TLS; anything else is not, and its marker is found."""
    record = b"\x17\x03\x03\x00\x04abcd"
    good = Flow(CLIENT, SERVER, client_hello("store.shop") + record, record * 3)
    plain = Flow(CLIENT, SERVER, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nmarker")
    torn = Flow(CLIENT, SERVER, client_hello("store.shop") + b"GET / marker", record)
    idle = Flow(CLIENT, SERVER)
    testimony = judge([good, plain, torn, idle], b"marker")
    assert testimony.connections == 3
    assert testimony.tls == 1
    assert testimony.records == 6
    assert testimony.server_names == ("store.shop",)
    assert testimony.marked == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no capture"),
        (b"GIF89a" + bytes(40), "is no capture: it begins with 47494638"),
        (HEAD[:20] + struct.pack("<I", 113), "has link type 113; wanted Ethernet"),
    ],
)
def test_a_file_that_is_no_capture_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    """No crash, no silent nothing."""
    path = tmp_path / "c.pcap"
    path.write_bytes(content)
    with pytest.raises(ClientProtocolError, match=said):
        read_capture(path)


def test_a_capture_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound a file is read, one byte past it is refused."""
    path = capture(tmp_path, frame(CLIENT, SERVER, 1, flags=0x02))
    monkeypatch.setattr(witness, "MAX_CAPTURE_BYTES", path.stat().st_size)
    assert len(read_capture(path)) == 1
    with path.open("ab") as file:
        file.write(b"\x00")
    with pytest.raises(ClientProtocolError, match="at most"):
        read_capture(path)

"""Raw conversations with a sidecar's HTTP: what to send, what came back, what the app has seen."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, final

import hpack
import hyperframe.frame as hf

from core.watch import Watch
from discovery.model import Address
from identity.generation import Generation
from policy.model import Protocol
from proxy.net.capture import FixedCapture
from proxy.outbound.route import policy_without
from tests.session.apps import App, serve
from tests.session.test_metrics import scrape, total
from tests.sidecars import OPEN, Control, Running, run_sidecar
from tests.wire.http2_talk import ACK, PREFACE, settings

PATIENCE_S: Final = 10.0
DIRECTIONS: Final = ("inbound", "outbound")


@final
@dataclass
class Side:
    """A sidecar that takes connections of one direction in plaintext, before an application."""

    running: Running
    entry: Address
    app: Address
    direction: str

    async def count(self, family: str, **labels: str) -> float:
        """Return the sum of a family's samples that have these labels, as scraped."""
        return total(await scrape(self.running), family, **labels)

    async def errors(self) -> dict[str, float]:
        """Return how many messages failed, by the error's code, as scraped."""
        return await failures(self.running, self.direction)

    async def until_requests(self, number: int) -> None:
        """Wait until so many requests have been let in."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.count("request_total", direction=self.direction) < number:
                await asyncio.sleep(0.01)

    def pass_time(self, seconds: float) -> None:
        """Let everybody who waits believe that so much time has passed."""
        runtime = self.running.sidecar.runtime
        runtime.ticker.tick(runtime.loop.time() + seconds)


async def failures(running: Running, direction: str) -> dict[str, float]:
    """Return how many messages failed, by the error's code, as scraped."""
    found: dict[str, float] = {}
    for (name, labels), value in (await scrape(running)).items():
        if name == f"{direction}_http_errors_total":
            code = dict(labels)["error"]
            found[code] = found.get(code, 0) + value
    return found


@contextlib.asynccontextmanager
async def run_side(
    generation: Generation,
    direction: str,
    app: App,
    protocol: Protocol = Protocol.HTTP1,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Side]:
    """Run an application, and one sidecar before it, declared to carry ``protocol``."""
    async with serve(app) as address:
        policy = policy_without(address, None)
        control = Control(
            Watch(generation),
            policy=replace(OPEN, protocol=protocol),
            outbound_policies={address: Watch(replace(policy, protocol=protocol))},
        )
        async with run_sidecar(
            generation, FixedCapture(address), ip="127.0.0.2", control=control, settings=settings
        ) as running:
            config = running.config
            entry = config.inbound_listen if direction == "inbound" else config.outbound_listen
            yield Side(running, entry, address, direction)


@final
@dataclass
class Recorder:
    """An application that notes what comes, and answers what it was told to."""

    answer: bytes = b""
    seen: list[bytearray] = field(default_factory=list)
    """One each connection."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        heard = bytearray()
        self.seen.append(heard)
        try:
            while data := await reader.read(65_536):
                heard += data
                if self.answer and b"\r\n\r\n" in heard:
                    writer.write(self.answer)
        except OSError:
            pass
        finally:
            writer.close()

    @property
    def heard(self) -> bytes:
        """All that came on any connection."""
        return b"".join(self.seen)


def evil(answer: bytes, *, ends: bool = False) -> App:
    """Return an application that says the same to every request, and may hang up then."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
                if ends:
                    break
        writer.close()

    return app


def evil2(answer: Callable[[int], bytes], *, ends: bool = False, hello: bytes = settings()) -> App:
    """Return an application of HTTP/2 that answers each stream so, and may hang up then."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(len(PREFACE))
            writer.write(hello)
            while True:
                head = await reader.readexactly(9)
                frame, length = hf.Frame.parse_frame_header(memoryview(head))
                await reader.readexactly(length)
                if isinstance(frame, hf.SettingsFrame) and "ACK" not in frame.flags:
                    writer.write(settings(flags=ACK))
                elif isinstance(frame, hf.HeadersFrame):
                    writer.write(answer(frame.stream_id))
                    await writer.drain()
                    if ends:
                        break
        writer.close()

    return app


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, 10 seconds at most."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def talk(entry: Address, data: bytes, *, ends: bool = False) -> bytes:
    """Send ``data`` and return all that comes back until the other side ends."""
    reader, writer = await asyncio.open_connection(entry.ip, entry.port)
    got = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(OSError):
                writer.write(data)
                if ends:
                    writer.write_eof()
                while part := await reader.read(65_536):
                    got += part
    finally:
        writer.transport.abort()
    return bytes(got)


def statuses_of(answer: bytes) -> list[int]:
    """Return the statuses of responses whose content says nothing of HTTP."""
    return [int(each) for each in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", answer)]


def last_of(answer: bytes) -> int:
    """Return the status of the last response; 0: none came."""
    return (statuses_of(answer) or [0])[-1]


@final
@dataclass
class Http2Client:
    """A client of frames by hand; what comes back is read by hyperframe and hpack."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: list[hf.Frame] = field(default_factory=list)
    heads: dict[int, list[dict[bytes, bytes]]] = field(default_factory=dict)
    """The field sections of each stream."""
    ended: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    bodies: dict[int, bytearray] = field(default_factory=dict)
    goaway: hf.GoAwayFrame | None = None
    is_over: bool = False
    _out: bytearray = field(default_factory=bytearray)
    _block: bytearray = field(default_factory=bytearray)
    _decoder: hpack.Decoder = field(default_factory=hpack.Decoder)

    def say(self, data: bytes) -> None:
        """Send frames."""
        self.writer.write(data)

    async def read(self) -> bool:
        """Take what comes next; False: the other side has ended."""
        try:
            data = await self.reader.read(65_536)
        except OSError:
            data = b""
        self._out += data
        while len(self._out) >= 9:
            frame, length = hf.Frame.parse_frame_header(memoryview(bytes(self._out[:9])))
            if len(self._out) < 9 + length:
                break
            frame.parse_body(memoryview(bytes(self._out[9 : 9 + length])))
            del self._out[: 9 + length]
            self._take(frame)
        self.is_over = not data
        return not self.is_over

    def _take(self, frame: hf.Frame) -> None:
        self.frames.append(frame)
        stream = frame.stream_id
        if isinstance(frame, hf.HeadersFrame | hf.ContinuationFrame):
            self._block += frame.data
            if "END_HEADERS" in frame.flags:
                fields = self._decoder.decode(bytes(self._block), raw=True)
                self._block.clear()
                self.heads.setdefault(stream, []).append(
                    {bytes(name): bytes(value) for name, value in fields}
                )
        elif isinstance(frame, hf.DataFrame):
            self.bodies.setdefault(stream, bytearray()).extend(frame.data)
        elif isinstance(frame, hf.RstStreamFrame):
            self.resets[stream] = frame.error_code
        elif isinstance(frame, hf.GoAwayFrame):
            self.goaway = frame
        if "END_STREAM" in frame.flags:
            self.ended.add(stream)

    async def until(self, condition: Callable[[], object]) -> None:
        """Read until a condition holds or the connection ends, 10 seconds at most."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition() and await self.read():
                pass

    async def until_stream(self, stream: int) -> None:
        """Read until a stream is answered or reset."""
        await self.until(lambda: stream in self.ended or stream in self.resets)

    def status(self, stream: int) -> int:
        """Return the last status of a stream; 0: it has none."""
        statuses = [each[b":status"] for each in self.heads.get(stream, ()) if b":status" in each]
        return int(statuses[-1]) if statuses else 0


@contextlib.asynccontextmanager
async def http2(
    entry: Address, *, hello: bytes = PREFACE + settings()
) -> AsyncIterator[Http2Client]:
    """Open a connection that speaks HTTP/2."""
    reader, writer = await asyncio.open_connection(entry.ip, entry.port)
    writer.write(hello)
    try:
        yield Http2Client(reader, writer)
    finally:
        writer.transport.abort()

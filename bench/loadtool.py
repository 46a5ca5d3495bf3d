"""The load tools, run on the load's core: ours in C (bench/load), compiled at first use; h2load."""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol, final

from bench.candidate import Carried, Stage
from bench.h2load import CONTENT
from bench.process import Child, Processes, wait_until_accepting
from core.errors import ConfigError, UnreachableError
from discovery.model import Address

SOURCES: Final = Path(__file__).parent / "load"
H2LOAD: Final = Path(__file__).with_name("h2load.py")
BUILD: Final = Path(__file__).parents[1] / "build" / "bench"
FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
LIBRARIES: Final = ("-lm",)
COMPILE_TIMEOUT_S: Final = 60.0
CONTENT_OCTETS: Final = 100
"""Of a response, as in HTTP/1."""
SLACK_S: Final = 10.0
"""How much longer than asked a load may take before it counts as stuck."""
MAX_IDLE_S: Final = 60.0
"""How long idle connections are held at most; a measurement takes a second of it."""


class Load(Protocol):
    """One kind of load, as arguments of a load tool."""

    def tool(self) -> list[str]:
        """Return the load tool, ready to run. Raises ConfigError when it cannot be made."""
        ...

    def arguments(self, target: Address, warm_ms: int, run_ms: int) -> list[str]:
        """Return the load tool's arguments."""
        ...


class OwnLoad:
    """What our own load tool does."""

    __slots__ = ()

    def tool(self) -> list[str]:
        """Return the load tool, ready to run. Raises ConfigError when it cannot be made."""
        return [str(compile_tool("l4load"))]


@final
@dataclass(frozen=True, slots=True)
class Throughput(OwnLoad):
    """Bytes in one direction, as many as pass."""

    connections: int
    is_up: bool = False

    def arguments(self, target: Address, warm_ms: int, run_ms: int) -> list[str]:
        """Return the load tool's arguments."""
        return [
            *("throughput", target.ip, str(target.port), str(self.connections)),
            *(str(warm_ms), str(run_ms), "up" if self.is_up else "down"),
        ]


@final
@dataclass(frozen=True, slots=True)
class RoundTrips(OwnLoad):
    """A message and its echo, one in flight on each connection."""

    connections: int
    size_bytes: int = 64

    def arguments(self, target: Address, warm_ms: int, run_ms: int) -> list[str]:
        """Return the load tool's arguments."""
        return [
            *("round-trip", target.ip, str(target.port), str(self.connections)),
            *(str(warm_ms), str(run_ms), str(self.size_bytes)),
        ]


@final
@dataclass(frozen=True, slots=True)
class Connections(OwnLoad):
    """New connections, each with one echoed byte, so many in flight."""

    in_flight: int = 16

    def arguments(self, target: Address, warm_ms: int, run_ms: int) -> list[str]:
        """Return the load tool's arguments."""
        return [
            *("connect", target.ip, str(target.port), str(self.in_flight)),
            *(str(warm_ms), str(run_ms)),
        ]


@final
@dataclass(frozen=True, slots=True)
class Http1Requests(OwnLoad):
    """HTTP/1.1, one request in flight on each connection, no two with the same trace."""

    connections: int

    def arguments(self, target: Address, warm_ms: int, run_ms: int) -> list[str]:
        """Return the load tool's arguments."""
        return [
            *("http1", target.ip, str(target.port), str(self.connections)),
            *(str(warm_ms), str(run_ms)),
        ]


@final
@dataclass(frozen=True, slots=True)
class PacedRequests(OwnLoad):
    """The same, so many a second as chance has it, whatever comes back: an open loop."""

    connections: int
    rate: int

    def arguments(self, target: Address, warm_ms: int, run_ms: int) -> list[str]:
        """Return the load tool's arguments."""
        return [
            *("paced", target.ip, str(target.port), str(self.connections)),
            *(str(warm_ms), str(run_ms), str(self.rate)),
        ]


@final
@dataclass(frozen=True, slots=True)
class Http2Requests:
    """HTTP/2 with prior knowledge, so many streams in flight on each connection."""

    connections: int
    streams: int
    paths: int = 1
    """How many different ones are asked for, one after the other."""

    def tool(self) -> list[str]:
        """Return h2load in our terms."""
        return [sys.executable, str(H2LOAD)]

    def arguments(self, target: Address, warm_ms: int, run_ms: int) -> list[str]:
        """Return the load tool's arguments."""
        numbers = (self.connections, self.streams, self.paths, warm_ms, run_ms)
        return [target.ip, str(target.port), *(str(number) for number in numbers)]


@final
@dataclass(frozen=True, slots=True)
class LoadResult:
    """What the load tool counted in its window."""

    seconds: float
    bytes: int
    operations: int
    errors: int
    """Connections lost, the warm-up's included."""
    p50_us: float
    p99_us: float
    p999_us: float


@final
class Lines:
    """The lines a child prints, each waited for with a bound."""

    def __init__(self, child: Child) -> None:
        self._child = child
        output = child.process.stdout
        assert output is not None, "every child is started with pipes"
        self._output: IO[bytes] = output
        self._pending = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(output, selectors.EVENT_READ)

    def next(self, timeout_s: float) -> dict[str, float | str]:
        """Return the next line's JSON. Raises UnreachableError at its end or the timeout."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise UnreachableError(f"{self._child.name}: stuck for {timeout_s:.0f} s")
            chunk = os.read(self._output.fileno(), 4096)
            if not chunk:
                self._child.process.wait(SLACK_S)
                raise UnreachableError(f"{self._child.name}: {self._child.tail() or 'no result'}")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        parsed = json.loads(line)
        if not isinstance(parsed, dict):
            raise UnreachableError(f"{self._child.name} said {line[:80]!r}, want a JSON object")
        return parsed

    def close(self) -> None:
        """Let go of the pipe."""
        self._selector.close()


def compile_tool(name: str) -> Path:
    """Compile ``bench/load/<name>.c`` unless that was done; return the program.

    Raises ConfigError without gcc, or with what gcc says.
    """
    parts = [SOURCES / f"{name}.c", *sorted(SOURCES.glob("*.h"))]
    text = b"".join(part.read_bytes() for part in parts)
    program = BUILD / f"{name}-{hashlib.sha256(text).hexdigest()[:12]}"
    if program.exists():
        return program
    if shutil.which("gcc") is None:
        raise ConfigError("gcc not found", hint="the load tool is C: apt-get install gcc libc6-dev")
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        fresh = Path(directory) / name
        said = subprocess.run(
            ["gcc", *FLAGS, "-o", str(fresh), str(parts[0]), *LIBRARIES],
            capture_output=True,
            text=True,
            timeout=COMPILE_TIMEOUT_S,
            check=False,
        )
        if said.returncode != 0:
            raise ConfigError(f"gcc cannot compile {parts[0].name}: {said.stderr[-600:]}")
        fresh.replace(program)
    return program


def run_load(
    stage: Stage,
    load: Load,
    target: Address,
    warm_s: float,
    run_s: float,
    at_window: Callable[[], None],
) -> LoadResult:
    """Run a load; ``at_window`` is called when its warm-up is over.

    Raises UnreachableError when nothing could be measured.
    """
    arguments = load.arguments(target, round(warm_s * 1000), round(run_s * 1000))
    command = [*load.tool(), *arguments]
    return run_tool(stage.processes, stage.cores.load, command, warm_s, run_s, at_window)


def run_tool(
    processes: Processes,
    core: int,
    command: list[str],
    warm_s: float,
    run_s: float,
    at_window: Callable[[], None],
) -> LoadResult:
    """Run a load tool, wherever ``command`` does it; as ``run_load``."""
    child = processes.start("load", command, core)
    try:
        with closing(Lines(child)) as lines:
            lines.next(warm_s + SLACK_S)
            at_window()
            return load_result(lines.next(run_s + SLACK_S))
    finally:
        processes.stop([child])


def load_result(said: dict[str, float | str]) -> LoadResult:
    """Read the load tool's last line."""
    return LoadResult(
        seconds=float(said["seconds"]),
        bytes=int(said["bytes"]),
        operations=int(said["operations"]),
        errors=int(said["errors"]),
        p50_us=float(said["p50_us"]),
        p99_us=float(said["p99_us"]),
        p999_us=float(said["p999_us"]),
    )


@contextmanager
def idle_connections(stage: Stage, target: Address, count: int) -> Iterator[None]:
    """Hold ``count`` connections, each of which has had one byte echoed.

    Raises UnreachableError when one of them gets no echo.
    """
    arguments = ["idle", target.ip, str(target.port), str(count), str(round(MAX_IDLE_S * 1000))]
    child = stage.processes.start(
        "idle", [str(compile_tool("l4load")), *arguments], stage.cores.load
    )
    try:
        with closing(Lines(child)) as lines:
            lines.next(MAX_IDLE_S)
            yield
    finally:
        stage.processes.stop([child])


def start_backend(stage: Stage, carried: Carried = Carried.OPAQUE) -> Child:
    """Start what every candidate forwards to; it listens on ``stage.backend``.

    One backend echoes and answers HTTP/1; HTTP/2 is nghttpd's. Raises ConfigError without it.
    """
    where = [stage.backend.ip, str(stage.backend.port)]
    command = [str(compile_tool("backend")), *where]
    if carried is Carried.HTTP2:
        for tool, package in (("nghttpd", "nghttp2-server"), ("h2load", "nghttp2-client")):
            if shutil.which(tool) is None:
                raise ConfigError(f"{tool} not found", hint=f"apt-get install {package}")
        root = stage.directory / "content"
        root.mkdir()
        (root / CONTENT).write_bytes(b"x" * CONTENT_OCTETS)
        command = ["nghttpd", "--no-tls", f"--address={where[0]}", f"--htdocs={root}", where[1]]
    child = stage.processes.start(f"backend-{carried.value}", command, stage.cores.load)
    wait_until_accepting(child, stage.backend)
    return child

"""The rows: what is measured, in which unit, and what pillion must reach."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, final

from bench.candidate import Carried
from bench.loadtool import (
    Connections,
    Http1Requests,
    Http2Requests,
    Load,
    LoadResult,
    RoundTrips,
    Throughput,
)

BASELINE: Final = "haproxy"
"""Ratios are to this candidate, in the same round."""
SUBJECT: Final = "pillion"
"""Targets are this candidate's."""


@final
@dataclass(frozen=True, slots=True)
class Metric:
    """What a row shows."""

    key: str
    title: str
    unit: str
    is_higher_better: bool = False


RATE_BYTES: Final = Metric("rate", "", "MB/s", is_higher_better=True)
RATE: Final = Metric("rate", "", "1/s", is_higher_better=True)
P50: Final = Metric("p50", "p50", "µs")
P99: Final = Metric("p99", "p99", "µs")
IDLE: Final = Metric("idle", "", "MiB")
PER_CONNECTION: Final = Metric("per-connection", "", "KiB")
START: Final = Metric("start", "", "ms")
FIRST_WAIT: Final = Metric("first-wait", "", "ms")
LATER_WAIT: Final = Metric("later-wait", "", "ms")


class Basis(Enum):
    """What a target speaks of."""

    RATIO = "ratio"
    """The median of the paired ratios to the baseline."""
    VALUE = "value"
    """The median itself."""
    WORK_PER_CPU = "work per CPU"
    """The median of the paired ratios of operations per second of CPU time."""


@final
@dataclass(frozen=True, slots=True)
class Target:
    """What must be reached: at least the limit where more is better, at most elsewhere."""

    basis: Basis
    limit: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One job under load, measured in every round."""

    key: str
    title: str
    load: Load
    metrics: tuple[Metric, ...]
    target: Target | None = None
    judged: Metric = RATE
    """What the target speaks of; a rate of operations or bytes, unless it says otherwise."""
    resumes: bool = False
    """Whether the hops resume TLS sessions."""
    carried: Carried = Carried.OPAQUE

    @property
    def cost_unit(self) -> str:
        """The unit of CPU time per operation, both hops together."""
        return "ns/byte" if isinstance(self.load, Throughput) else "µs"


def must(limit: float) -> Target:
    """Return the target for a ratio to the baseline."""
    return Target(Basis.RATIO, limit)


OPAQUE_WORKS: Final = (
    Work(
        key="down-1",
        title="throughput down, 1 connection",
        load=Throughput(1),
        metrics=(RATE_BYTES,),
        target=must(0.9),
    ),
    Work(
        key="down-8",
        title="throughput down, 8 connections",
        load=Throughput(8),
        metrics=(RATE_BYTES,),
        target=must(1.0),
    ),
    Work(
        key="up-1",
        title="throughput up, 1 connection",
        load=Throughput(1, is_up=True),
        metrics=(RATE_BYTES,),
    ),
    Work(
        key="trips-1",
        title="round trips, 64 B, 1 connection",
        load=RoundTrips(1),
        metrics=(RATE, P50, P99),
    ),
    Work(
        key="trips-64",
        title="round trips, 64 B, 64 connections",
        load=RoundTrips(64),
        metrics=(RATE, P50, P99),
        target=must(0.75),
    ),
    Work(
        key="connect",
        title="new connections, full handshakes",
        load=Connections(),
        metrics=(RATE,),
        target=must(0.75),
    ),
    Work(
        key="resume",
        title="new connections, resumed",
        load=Connections(),
        metrics=(RATE,),
        resumes=True,
    ),
)
"""Opaque bytes over two hops of mutual TLS."""

PLAIN_WORKS: Final = (
    Work(
        key="plain-down-8",
        title="plaintext down, 8 connections",
        load=Throughput(8),
        metrics=(RATE_BYTES,),
        target=Target(Basis.WORK_PER_CPU, 2.0),
        carried=Carried.PLAIN,
    ),
)
"""Opaque bytes over two hops without TLS: half of haproxy's CPU time a byte, at most."""

HTTP_WORKS: Final = (
    Work(
        key="http1-64",
        title="HTTP/1, 64 connections",
        load=Http1Requests(64),
        metrics=(RATE, P50, P99),
        target=Target(Basis.WORK_PER_CPU, 0.75),
        carried=Carried.HTTP1,
    ),
    Work(
        key="http1-1",
        title="HTTP/1, 1 connection",
        load=Http1Requests(1),
        metrics=(RATE, P50, P99),
        target=must(1.6),
        judged=P50,
        carried=Carried.HTTP1,
    ),
    Work(
        key="http2-same",
        title="HTTP/2, 8×32 streams, headers repeated",
        load=Http2Requests(8, 32),
        metrics=(RATE,),
        carried=Carried.HTTP2,
    ),
    Work(
        key="http2-unique",
        title="HTTP/2, 8×32 streams, headers all different",
        load=Http2Requests(8, 32, paths=20_000),
        metrics=(RATE,),
        carried=Carried.HTTP2,
    ),
)
"""Requests over two hops of mutual TLS, on ports that are declared nothing."""

WORKS: Final = (*OPAQUE_WORKS, *PLAIN_WORKS, *HTTP_WORKS)

FOOTPRINT: Final = "footprint"
"""Memory and start of a pair of hops, fresh for every measurement."""
FIRST_BYTE: Final = "first-byte"
"""How long a client waits for a server that speaks first; fresh hops as well."""


def value_of(metric: Metric, result: LoadResult) -> float:
    """Return what a load's result says about a metric, in the metric's unit."""
    if metric is P50:
        return result.p50_us
    if metric is P99:
        return result.p99_us
    amount = result.bytes / 1e6 if metric is RATE_BYTES else result.operations
    return amount / result.seconds


def cost_of(cpu_ns: int, result: LoadResult) -> float:
    """Return CPU time per operation: ns a byte, or µs a round trip or connection."""
    return cpu_ns / result.bytes if result.bytes else cpu_ns / 1000 / result.operations

"""The rows: what is measured, in which unit, and what pillion must reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from bench.candidate import Carried
from bench.loadtool import (
    Connections,
    Http1Requests,
    Http2Requests,
    Load,
    LoadResult,
    PacedRequests,
    RoundTrips,
    Throughput,
)
from bench.target import KEPT_HTTP1, Target, per_cpu, ratio


@final
@dataclass(frozen=True, slots=True)
class Metric:
    """What a row shows."""

    key: str
    title: str
    unit: str
    is_higher_better: bool = False
    is_worst: bool = False
    """Whether the worst of the rounds is shown, not their median."""


RATE_BYTES: Final = Metric("rate", "", "MB/s", is_higher_better=True)
RATE: Final = Metric("rate", "", "1/s", is_higher_better=True)
P50: Final = Metric("p50", "p50", "µs")
P99: Final = Metric("p99", "p99", "µs")
P999: Final = Metric("p99.9", "p99.9", "µs")
LONGEST_PAUSE: Final = Metric("longest-pause", "longest collector pause", "µs", is_worst=True)
IDLE: Final = Metric("idle", "", "MiB")
PER_CONNECTION: Final = Metric("per-connection", "", "KiB")
START: Final = Metric("start", "", "ms")
FIRST_WAIT: Final = Metric("first-wait", "", "ms")
LATER_WAIT: Final = Metric("later-wait", "", "ms")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One job under load, measured in every round."""

    key: str
    title: str
    load: Load
    metrics: tuple[Metric, ...]
    targets: tuple[tuple[Metric, Target], ...] = ()
    """By the metric they speak of."""
    resumes: bool = False
    """Whether the hops resume TLS sessions."""
    carried: Carried = Carried.OPAQUE
    least_rounds: int = 0
    """Rounds it is given even in a run of fewer."""

    @property
    def cost_unit(self) -> str:
        """The unit of CPU time per operation, both hops together."""
        return "ns/byte" if isinstance(self.load, Throughput) else "µs"


OPAQUE_WORKS: Final = (
    Work(
        key="down-1",
        title="throughput down, 1 connection",
        load=Throughput(1),
        metrics=(RATE_BYTES,),
        targets=((RATE_BYTES, ratio(0.95, 1.05)),),
    ),
    Work(
        key="down-8",
        title="throughput down, 8 connections",
        load=Throughput(8),
        metrics=(RATE_BYTES,),
        targets=((RATE_BYTES, ratio(1.05, 1.2)),),
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
        targets=((RATE, ratio(0.95, 1.1)), (P99, ratio(1.2, 1.0))),
    ),
    Work(
        key="connect",
        title="new connections, full handshakes",
        load=Connections(),
        metrics=(RATE,),
        targets=((RATE, per_cpu(0.85, 1.2)),),
    ),
    Work(
        key="resume",
        title="new connections, resumed",
        load=Connections(),
        metrics=(RATE,),
        targets=((RATE, per_cpu(0.9, 1.0)),),
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
        targets=((RATE_BYTES, per_cpu(2.0, 4.0)),),
        carried=Carried.PLAIN,
    ),
)
"""Opaque bytes over two hops without TLS."""

HTTP_WORKS: Final = (
    Work(
        key="http1-64",
        title="HTTP/1, 64 connections",
        load=Http1Requests(64),
        metrics=(RATE, P50, P99),
        targets=(
            (RATE, per_cpu(1.0, 1.4, to="haproxy-h2", peers=("haproxy-h2",))),
            (RATE, per_cpu(1.6, 2.5, peers=KEPT_HTTP1)),
            (RATE, per_cpu(1.0, 1.3, peers=KEPT_HTTP1, subject="pillion-h1")),
        ),
        carried=Carried.HTTP1,
    ),
    Work(
        key="http1-1",
        title="HTTP/1, 1 connection",
        load=Http1Requests(1),
        metrics=(RATE, P50, P99),
        targets=((P50, ratio(1.0, 0.8)),),
        carried=Carried.HTTP1,
    ),
    Work(
        key="paced",
        title="HTTP/1, 1,000 requests/s, open loop",
        load=PacedRequests(16, 1_000),
        metrics=(RATE, P50, P99, P999, LONGEST_PAUSE),
        targets=((P50, ratio(1.1, 0.9)),),
        carried=Carried.HTTP1,
        least_rounds=9,
    ),
    Work(
        key="http2-same",
        title="HTTP/2, 8×32 streams, headers repeated",
        load=Http2Requests(8, 32),
        metrics=(RATE,),
        targets=((RATE, per_cpu(1.1, 1.5)),),
        carried=Carried.HTTP2,
    ),
    Work(
        key="http2-unique",
        title="HTTP/2, 8×32 streams, headers all different",
        load=Http2Requests(8, 32, paths=20_000),
        metrics=(RATE,),
        targets=((RATE, per_cpu(1.0, 1.35)),),
        carried=Carried.HTTP2,
    ),
)
"""Requests over two hops of mutual TLS, on ports that are declared nothing."""

WORKS: Final = (*OPAQUE_WORKS, *PLAIN_WORKS, *HTTP_WORKS)

FOOTPRINT: Final = "footprint"
"""Memory of a pair of hops, fresh for every measurement."""
START_UP: Final = "start"
"""From starting a hop to its first answer, beside the interpreter's own start."""
FIRST_BYTE: Final = "first-byte"
"""How long a client waits for a server that speaks first; fresh hops as well."""


def value_of(metric: Metric, result: LoadResult) -> float:
    """Return what a load's result says about a metric, in the metric's unit."""
    if metric is P50:
        return result.p50_us
    if metric is P99:
        return result.p99_us
    if metric is P999:
        return result.p999_us
    amount = result.bytes / 1e6 if metric is RATE_BYTES else result.operations
    return amount / result.seconds


def cost_of(cpu_ns: int, result: LoadResult) -> float:
    """Return CPU time per operation: ns a byte, or µs a round trip or connection."""
    return cpu_ns / result.bytes if result.bytes else cpu_ns / 1000 / result.operations

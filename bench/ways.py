"""The ways to an application, as they were measured, and what must hold of them.

Pure. Everything is kept round by round, and compared within a round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, final

from bench.spread import Rounds, Spread, paired_ratios, spread

SCHEMA: Final = 1
"""Raised when a key changes its meaning or goes away; new keys do not raise it."""
BARE: Final = "bare"
"""To the other cluster without any sidecar: what the network itself takes."""
LOCAL: Final = "local"
DIRECT: Final = "direct"
GATEWAY: Final = "gateway"
WAYS: Final = (BARE, LOCAL, DIRECT, GATEWAY)
MESHED: Final = (LOCAL, DIRECT, GATEWAY)
DIRECT_LIMIT: Final = 1.15
"""Direct p50, less the network's delay, over local at most."""
GATEWAY_LIMIT: Final = 2.0
"""Gateway p50 over direct at most, without delay."""
NO_DELAY: Final = 0.0


@final
@dataclass(frozen=True, slots=True)
class Carried:
    """What the gateway did for its clients; warm-up included."""

    requests: int
    """That it passed on, by its own count."""
    content_bytes: int
    """To and from its targets, without TLS, by its own count; pings of idle connections, too."""
    wire_bytes: int
    """On its cable, by the kernel's count: TLS, TCP, and what asks whether it lives, too."""

    def __sub__(self, before: Carried) -> Carried:
        """Return what came to it since."""
        return Carried(
            self.requests - before.requests,
            self.content_bytes - before.content_bytes,
            self.wire_bytes - before.wire_bytes,
        )


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """One way, with one delay, in one round."""

    requests: int
    """Answered in the window."""
    p50_ms: float
    p99_ms: float
    cpu_us: Mapping[str, float]
    """CPU time a request, by sidecar; the gateway is one."""
    carried: Carried

    @property
    def cpu_total_us(self) -> float:
        """CPU time a request of all sidecars together."""
        return sum(self.cpu_us.values())


Cells = Mapping[tuple[float, str], Sequence[Sample]]
"""The rounds of each delay (in ms, of a round trip) and way."""


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How a run was made."""

    rounds: int
    seconds: float
    warm_seconds: float
    rate: int
    """Requests a second."""
    connections: int
    delays_ms: tuple[float, ...]
    """Of a round trip; NO_DELAY is the first."""
    has_precedence: bool
    """Whether nothing here waited for ordinary processes of the machine."""


@final
@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    taken: str
    """When, in UTC (ISO 8601)."""
    settings: Settings
    versions: Mapping[str, str]
    machine: Mapping[str, str | int]
    cells: Cells
    steal_percent: Spread | None
    """Of the core of the client's sidecar, over all measurements: time that other machines took."""
    others_percent: Spread | None
    """The same for other processes of this machine."""


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """One requirement, and whether it holds."""

    claim: str
    seen: str
    holds: bool
    ratio: Spread | None = None
    limit: float | None = None


def p50s(cells: Cells, delay_ms: float, way: str) -> Rounds:
    """Return p50 in ms, round by round."""
    return tuple(each.p50_ms for each in cells[delay_ms, way])


def added_ms(cells: Cells, delay_ms: float) -> Rounds:
    """Return what a delay added to a round trip without sidecars, in ms, round by round.

    It is a little more than was set: the cable is a program, and has to be woken up.
    """
    return _less(p50s(cells, delay_ms, BARE), p50s(cells, NO_DELAY, BARE))


def beyond_delay(cells: Cells, delay_ms: float, way: str) -> Rounds:
    """Return p50 in ms less what the delay added; a local way has none."""
    seen = p50s(cells, delay_ms, way)
    return seen if way == LOCAL else _less(seen, added_ms(cells, delay_ms))


def verdicts(cells: Cells) -> list[Verdict]:
    """Return what has to hold, and whether it does, by the medians of paired ratios."""
    delays = sorted({delay for delay, _ in cells})
    found = [_direct(cells, delay) for delay in delays]
    ratio = spread(paired_ratios(p50s(cells, NO_DELAY, GATEWAY), p50s(cells, NO_DELAY, DIRECT)))
    found.append(
        _at_most(
            f"gateway without delay: p50 at most {GATEWAY_LIMIT:g} × direct", ratio, GATEWAY_LIMIT
        )
    )
    return [*found, _bytes(cells)]


def bytes_a_request(cells: Cells, delay_ms: float, way: str) -> float:
    """Return the median of what the gateway carried for a request, in bytes."""
    seen = spread(
        [
            each.carried.content_bytes / max(each.carried.requests, each.requests)
            for each in cells[delay_ms, way]
        ]
    )
    return seen.median if seen else 0.0


def to_json(report: Report) -> dict[str, object]:
    """Return the report as JSON's own types."""
    cells = report.cells
    return {
        "schema": SCHEMA,
        "taken": report.taken,
        "settings": asdict(report.settings),
        "versions": dict(report.versions),
        "machine": dict(report.machine),
        "cells": [
            {
                "delay_ms": delay,
                "way": way,
                "p50_ms": _spread_json(p50s(cells, delay, way)),
                "p99_ms": _spread_json([each.p99_ms for each in rounds]),
                "cpu_us": _spread_json([each.cpu_total_us for each in rounds]),
                "rounds": [asdict(each) for each in rounds],
            }
            for (delay, way), rounds in cells.items()
        ],
        "added_ms": {
            f"{delay:g}": _spread_json(added_ms(cells, delay))
            for delay in report.settings.delays_ms
        },
        "verdicts": [asdict(each) for each in verdicts(cells)],
        "steal_percent": asdict(report.steal_percent) if report.steal_percent else None,
        "others_percent": asdict(report.others_percent) if report.others_percent else None,
    }


def _direct(cells: Cells, delay_ms: float) -> Verdict:
    local = p50s(cells, delay_ms, LOCAL)
    ratio = spread(paired_ratios(beyond_delay(cells, delay_ms, DIRECT), local))
    if delay_ms == NO_DELAY:
        claim = f"direct without delay: p50 at most {DIRECT_LIMIT:g} × local"
        return _at_most(claim, ratio, DIRECT_LIMIT)
    added = spread(added_ms(cells, delay_ms))
    as_set = spread(
        paired_ratios(tuple(each.p50_ms - delay_ms for each in cells[delay_ms, DIRECT]), local)
    )
    more = ""
    if added and as_set:
        more = f"; it was {added.median:.2f} ms, by those that were set {as_set.median:.2f}"
    claim = f"direct with {delay_ms:g} ms more: p50 at most {DIRECT_LIMIT:g} × local plus the delay"
    return _at_most(claim, ratio, DIRECT_LIMIT, more)


def _at_most(claim: str, ratio: Spread | None, limit: float, more: str = "") -> Verdict:
    if ratio is None:
        return Verdict(claim, "nothing was measured", holds=False, limit=limit)
    seen = f"{ratio.median:.2f} ({ratio.minimum:.2f}-{ratio.maximum:.2f}){more}"
    return Verdict(claim, seen, ratio.median <= limit, ratio, limit)


def _bytes(cells: Cells) -> Verdict:
    requests, content, asked = {}, {}, {}
    for way in MESHED:
        rounds = [each for (_, of), rounds in cells.items() if of == way for each in rounds]
        requests[way] = sum(each.carried.requests for each in rounds)
        content[way] = sum(each.carried.content_bytes for each in rounds)
        asked[way] = sum(each.requests for each in rounds)
    said = ", ".join(
        f"{way} {requests[way]:,} requests and {content[way]:,} bytes" for way in MESHED
    )
    # A connection that rests is pinged, 34 bytes now and then; a request would be more.
    passes_by = all(requests[way] == 0 and content[way] < asked[way] for way in (LOCAL, DIRECT))
    holds = passes_by and requests[GATEWAY] >= asked[GATEWAY]
    return Verdict("through the gateway nothing but what is sent that way", said, holds)


def _less(values: Rounds, others: Rounds) -> Rounds:
    return tuple(
        value - other if value is not None and other is not None else None
        for value, other in zip(values, others, strict=True)
    )


def _spread_json(values: Sequence[float | None]) -> dict[str, float] | None:
    seen = spread(values)
    return asdict(seen) if seen else None

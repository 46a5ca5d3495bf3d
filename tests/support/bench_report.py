"""A report as a run would bring it, made of given numbers."""

from __future__ import annotations

from bench.footprint import Footprint, footprint_rows
from bench.loadtool import LoadResult
from bench.measure import Disturbance, Findings, Sample, rows_of
from bench.probe import Tls
from bench.result import Report, Settings
from bench.spread import Spread
from bench.startup import start_row
from bench.work import WORKS


def mk_result(
    *, seconds: float = 1.0, size: int = 0, operations: int = 0, errors: int = 0
) -> LoadResult:
    """Return what a load tool would have counted."""
    return LoadResult(seconds, size, operations, errors, 80.0, 200.0, 300.0)


def mk_sample(*, size: int = 0, operations: int = 0, cost: float = 2.0, errors: int = 0) -> Sample:
    """Return one measurement."""
    result = mk_result(size=size, operations=operations, errors=errors)
    return Sample(result, cost, Disturbance(0.0, 0.0))


def mk_report(*, pillion: float | None = 1.0, failures: tuple[str, ...] = ()) -> Report:
    """Return a report in which pillion is so many times haproxy's rate; None: without pillion."""
    findings = Findings()
    speeds = {"haproxy": 1.0, "nginx": 1.25} | ({} if pillion is None else {"pillion": pillion})
    for work in WORKS:
        is_bytes = work.cost_unit == "ns/byte"
        for name, speed in speeds.items():
            amount = round(400_000_000 * speed)
            findings.samples[work.key, name] = [
                mk_sample(
                    size=amount if is_bytes else 0, operations=0 if is_bytes else amount // 1000
                )
            ] * 2
    sizes = {"haproxy": Footprint(15.0, 30.0), "nginx": Footprint(17.0, 55.0)}
    if pillion is not None:
        sizes["pillion"] = Footprint(33.0, 30.0)
    rows = rows_of(WORKS, findings)
    rows += footprint_rows({name: [size, size] for name, size in sizes.items()})
    starts: dict[str, list[float | None]] = {"haproxy": [60.0, 60.0], "python": [100.0, 100.0]}
    if pillion is not None:
        starts["pillion"] = [300.0, 300.0]
    rows.append(start_row(starts))
    return Report(
        taken="2026-11-22T18:30:12+00:00",
        settings=Settings(rounds=2, seconds=1.0, warm_seconds=0.4),
        versions={"haproxy": "2.6.12"},
        machine={"cpus": 2},
        tls={"haproxy": Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", True, False)},
        rows=tuple(rows),
        steal_percent=Spread(1.0, 0.0, 12.0),
        others_percent=Spread(2.0, 0.0, 4.9),
        errors=findings.errors,
        failures=failures,
        absent=(),
    )

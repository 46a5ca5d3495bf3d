"""Metrics as text, by the Prometheus client's own exposition.

The library is imported at the first scrape: a sidecar nobody scrapes does not carry it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from proxy.telemetry.slot import Described, Table

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

PROCESS: Final = (
    Described("process_cpu_seconds_total", "counter", "User and system CPU time, in seconds."),
    Described("process_max_fds", "gauge", "The bound on open file descriptors."),
    Described("process_open_fds", "gauge", "Open file descriptors."),
    Described("process_resident_memory_bytes", "gauge", "Resident memory."),
    Described("process_start_time_seconds", "gauge", "When it started, since the epoch."),
    Described("process_virtual_memory_bytes", "gauge", "Virtual memory."),
)
"""What the library tells of the process, for the page."""


def expose(families: Iterable[Table[Any]]) -> bytes:
    """Return all families, and the process's own, in Prometheus' text format."""
    # Imported at the first scrape: 5 MiB that an unscraped sidecar need not carry.
    from prometheus_client import (  # noqa: PLC0415
        CollectorRegistry,
        ProcessCollector,
        generate_latest,
    )
    from prometheus_client.core import Metric  # noqa: PLC0415

    class OurFamilies:
        def collect(self) -> Iterable[Metric]:
            for family in families:
                name = (
                    family.name.removesuffix("_total") if family.kind == "counter" else family.name
                )
                metric = Metric(name, family.documentation, family.kind)
                for suffix, labels, value in family.samples():
                    metric.add_sample(family.name + suffix, dict(labels), value)
                yield metric

    registry = CollectorRegistry()
    registry.register(_as_collector(OurFamilies()))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _as_collector(collector: object) -> Collector:
    """Tell the type checker what duck typing already knows: it collects."""
    return collector  # type: ignore[return-value]

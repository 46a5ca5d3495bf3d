"""Metrics as text, in Prometheus' text format 0.0.4; of the process by the library's collector.

The library is imported at the first scrape: a sidecar nobody scrapes does not carry it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from discovery.model import Labels
from proxy.telemetry.slot import Described, Table

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

LINES: Final = 250
"""So many are written, or read, at once: about half a millisecond, where all may take 0.2 s."""
_ESCAPED: Final = re.compile(r'[\\"\n]')
_NOT_FINITE: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def expose(families: Iterable[Table[Any]]) -> Iterator[bytes]:
    """Yield all families, and the process's own, in Prometheus' text format: some lines at once."""
    # Imported at the first scrape: 5 MiB that an unscraped sidecar need not carry.
    from prometheus_client import (  # noqa: PLC0415
        CollectorRegistry,
        ProcessCollector,
        generate_latest,
    )

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    lines: list[str] = []
    for line in chain.from_iterable(_lines(family) for family in families):
        lines.append(line)
        if len(lines) == LINES:
            yield "".join(lines).encode()
            lines.clear()
    yield "".join(lines).encode() + generate_latest(registry)


def _lines(family: Table[Any]) -> Iterator[str]:
    """Yield the lines of one family.

    The library's own takes ten times as long.
    """
    name = family.name
    documentation = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {documentation}\n# TYPE {name} {family.kind}\n"
    # What follows a family's name, and the labels besides its own, are few: made once each.
    ends: dict[tuple[str, Labels], tuple[str, str]] = {}
    # Another may be made between two pieces.
    for labels, child in tuple(family.children()):
        common = _text(labels)
        for suffix, more, value in child.samples():
            found = ends.get((suffix, more))
            if found is None:
                found = ends[suffix, more] = (f"{name}{suffix}", _text(more))
            comma = "," if more and labels else ""
            braced = f"{{{common}{comma}{found[1]}}}" if more or labels else ""
            yield f"{found[0]}{braced} {number_text(value)}\n"


def _text(labels: Labels) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in labels])


def _escaped(value: str) -> str:
    if _ESCAPED.search(value) is None:
        return value
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def number_text(value: float) -> str:
    """Return a value as the format writes it."""
    if isinstance(value, int):
        return str(value)
    text = repr(value)
    return _NOT_FINITE.get(text, text)

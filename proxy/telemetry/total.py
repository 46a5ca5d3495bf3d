"""One page of metrics from those of several workers, which all tell the same families.

Counters, histograms and gauges of what is there now are added. Of gauges that say how things
stand for all of them alike one counts: the largest, or where the worst is the least that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from proxy.telemetry.exposition import number_text

_BALANCER_LARGEST: Final = (
    *("endpoints", "p2c_endpoints", "queue_gate_open_time_seconds"),
    *("queue_gate_shut_time_seconds", "queue_gate_timeout_seconds"),
)
LARGEST: Final = frozenset(
    (
        *("gateway_enabled", "gateway_latency", "pillion_tls_info", "proxy_build_info"),
        "pillion_identity_warnings",
        *(
            f"outbound_{kind}_balancer_{name}"
            for kind in ("tcp", "http")
            for name in _BALANCER_LARGEST
        ),
    )
)
"""Gauges of what each worker has or knows for itself, of the same things."""
LEAST: Final = frozenset(
    (
        *("gateway_alive", "process_start_time_seconds"),
        "control_identity_cert_expiration_timestamp_seconds",
        "control_identity_cert_refresh_timestamp_seconds",
        *(f"pillion_identity_{name}_ttl_seconds" for name in ("cert", "issuer", "anchor")),
    )
)
"""Gauges of which the worst, or the oldest, is the least."""


def join_pages(pages: Sequence[bytes]) -> bytes:
    """Return what several workers' pages come to, in the order of the first."""
    if len(pages) == 1:
        return pages[0]
    families: dict[str, tuple[list[str], dict[str, list[float]]]] = {}
    for page in pages:
        for name, heads, samples in _families(page.decode().split("\n")):
            known = families.setdefault(name, (heads, {}))[1]
            for sample, value in samples:
                known.setdefault(sample, []).append(value)
    return "".join(
        line for name, family in families.items() for line in _lines(name, *family)
    ).encode()


def _families(lines: Iterable[str]) -> Iterator[tuple[str, list[str], list[tuple[str, float]]]]:
    """Yield each family: its name, the lines about it, and (what is measured, value)."""
    name, heads = "", list[str]()
    samples: list[tuple[str, float]] = []
    for line in lines:
        if line.startswith("# HELP "):
            if heads:
                yield name, heads, samples
            name, heads, samples = line.split(" ", 3)[2], [line], []
        elif line.startswith("#"):
            heads.append(line)
        elif line:
            sample, _, value = line.rpartition(" ")
            samples.append((sample, _number(value)))
    if heads:
        yield name, heads, samples


def _lines(name: str, heads: list[str], samples: dict[str, list[float]]) -> Iterator[str]:
    join = max if name in LARGEST else min if name in LEAST else sum
    for head in heads:
        yield f"{head}\n"
    for sample, values in samples.items():
        yield f"{sample} {number_text(join(values))}\n"


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)

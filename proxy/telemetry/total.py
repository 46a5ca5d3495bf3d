"""One page of metrics from those of several workers, which all tell the same families.

Counters, histograms and gauges of what is there now are added. Of gauges that say how things
stand for all of them alike one counts: the largest, or where the worst is the least that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from typing import Final

from proxy.telemetry.exposition import LINES, number_text

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
_JOINS: Final[Mapping[str, Callable[[Iterable[float]], float]]] = {
    **dict.fromkeys(LARGEST, max),
    **dict.fromkeys(LEAST, min),
    # Each start tells of those before it.
    "pillion_worker_starts_total": max,
}


async def join_pages(pages: Sequence[bytes], ended: Sequence[bytes] = ()) -> bytes:
    """Return what several workers' pages come to, in the order of the first.

    ``ended``: pages of workers that are there no more. Of these gauges do not count.
    Connections have their turn meanwhile, each time some lines are read or written.
    """
    if len(pages) == 1 and not ended:
        return pages[0]
    families: dict[bytes, tuple[dict[bytes, None], dict[bytes, list[float]]]] = {}
    for number, page in enumerate((*pages, *ended)):
        heads, samples = dict[bytes, None](), dict[bytes, list[float]]()
        for place, line in enumerate(BytesIO(page), 1):
            if line.startswith(b"#"):
                if line.startswith(b"# HELP "):
                    name = line.split(b" ", 3)[2]
                    heads, samples = families.setdefault(name, ({}, {}))
                heads[line] = None
                if number >= len(pages) and line.endswith(b" gauge\n"):
                    samples = {}
            else:
                sample, _, value = line[:-1].rpartition(b" ")
                samples.setdefault(sample, []).append(_number(value))
            if place % LINES == 0:
                await asyncio.sleep(0)
    joined: list[bytes] = []
    for name, (heads, samples) in families.items():
        join = _JOINS.get(name.decode(), sum)
        lines = list(heads)
        for sample, values in samples.items():
            lines.append(b"%b %b\n" % (sample, number_text(join(values)).encode()))
            if len(lines) >= LINES:
                joined.append(b"".join(lines))
                lines.clear()
                await asyncio.sleep(0)
        joined += lines
    return b"".join(joined)


def _number(text: bytes) -> float:
    return int(text) if text.isdigit() else float(text)

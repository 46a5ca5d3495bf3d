"""Pages of several workers as one."""

from __future__ import annotations

import asyncio

from proxy.telemetry.exposition import LINES, PROCESS, expose
from proxy.telemetry.metric import Metrics
from proxy.telemetry.total import LARGEST, LEAST, join_pages
from tests.session.admin import samples

ADDED = {
    *("tcp_open_connections", "pillion_connections_max", "process_max_fds", "process_open_fds"),
    *("process_resident_memory_bytes", "process_virtual_memory_bytes"),
    *("outbound_tcp_balancer_queue_length", "outbound_http_balancer_queue_length"),
}
"""Gauges of what is there now."""
LABELS = (("name", 'a "b" \\ c\nd e'),)


def page(bytes_read: int, seconds: float, ttl: float, kind: str) -> bytes:
    """Return a worker's page."""
    metrics = Metrics()
    metrics.tcp_read.child(LABELS).value = bytes_read
    metrics.tcp_read.child((("name", kind),)).value = 1
    metrics.inbound_handshakes.full.observe(seconds)
    metrics.cert_ttl.child().value = ttl
    metrics.connections_max.child().value = 100
    metrics.build_info.child((("version", "1"),)).value = 1
    return b"".join(expose(metrics.families()))


def test_every_gauge_has_a_rule() -> None:
    """One that nobody has thought of would be added, right or wrong."""
    gauges = {each.name for each in Metrics().families() if each.kind == "gauge"}
    gauges |= {each.name for each in PROCESS if each.kind == "gauge"}
    assert gauges == LARGEST | LEAST | ADDED
    assert not LARGEST & LEAST


async def test_what_is_counted_is_added_and_what_stands_is_not() -> None:
    """Exactly; label sets that only one has stay, whatever is written in them."""
    pages = [page(2**60, 0.002, 50.5, "x"), page(1, 0.2, 10.25, "y")]
    text = await join_pages(pages)
    joined = samples(text)
    read = joined["tcp_read_bytes_total"]
    assert read[frozenset(LABELS)] == 2**60 + 1
    assert f"{2**60 + 1}" in text.decode()
    assert read[frozenset({("name", "x")})] == read[frozenset({("name", "y")})] == 1
    name = "pillion_tls_handshake_duration_seconds"
    full = {("direction", "inbound"), ("resumed", "false")}
    assert joined[f"{name}_count"][frozenset(full)] == 2
    assert joined[f"{name}_sum"][frozenset(full)] == 0.202
    assert joined[f"{name}_bucket"][frozenset({*full, ("le", "0.0025")})] == 1
    assert joined[f"{name}_bucket"][frozenset({*full, ("le", "+Inf")})] == 2
    assert joined["pillion_identity_cert_ttl_seconds"][frozenset()] == 10.25
    assert joined["pillion_connections_max"][frozenset()] == 200
    assert joined["proxy_build_info"][frozenset({("version", "1")})] == 1


async def test_of_workers_that_are_gone_the_counts_stay() -> None:
    """Counters and histograms, exactly; no gauge, and none of what was left says who leads."""
    here, gone = page(3, 0.002, 50.5, "x"), page(4, 0.2, 10.25, "y")
    joined = samples(await join_pages([here], [gone]))
    assert joined["tcp_read_bytes_total"][frozenset(LABELS)] == 7
    assert joined["tcp_read_bytes_total"][frozenset({("name", "y")})] == 1
    full = {("direction", "inbound"), ("resumed", "false")}
    assert joined["pillion_tls_handshake_duration_seconds_count"][frozenset(full)] == 2
    for gauge in ("pillion_identity_cert_ttl_seconds", "pillion_connections_max"):
        assert joined[gauge] == samples(here)[gauge]


async def test_starts_are_not_added_to_those_before_them() -> None:
    """The worker that was started last knows how often it was; others have lines of their own."""
    pages = []
    for number, starts in (("1", 1), ("2", 3), ("2", 2)):
        metrics = Metrics()
        metrics.worker_starts.child((("worker", number),)).value = starts
        pages.append(b"".join(expose(metrics.families())))
    found = samples(await join_pages(pages[:2], pages[2:]))["pillion_worker_starts_total"]
    assert found == {frozenset({("worker", "1")}): 1, frozenset({("worker", "2")}): 3}


async def test_the_families_stay_whole_and_in_order() -> None:
    """Each is told about once."""
    one = page(1, 1.0, 1.0, "x")
    heads = [line for line in one.split(b"\n") if line.startswith(b"#")]
    joined = await join_pages([one, one, one])
    assert [line for line in joined.split(b"\n") if line.startswith(b"#")] == heads
    assert await join_pages([one]) == one


async def test_connections_have_their_turn_while_pages_are_joined() -> None:
    """Each time so many lines are read or written; not within them."""
    for lines, turns in ((LINES - 2, 0), (LINES - 1, 3), (4 * LINES, 12)):
        told = b"".join(b'a_total{b="%d"} %d\n' % (each, each) for each in range(lines))
        one = b"# HELP a_total x\n" + told
        joining = asyncio.create_task(join_pages([one, one]))
        found = -1
        while not joining.done():
            found += 1
            await asyncio.sleep(0)
        assert found == turns
        assert (await joining).count(b"\n") == lines + 1

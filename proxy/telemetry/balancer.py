"""Where one balancer is counted: slots of Linkerd's ``*_balancer_*`` families, and our own."""

from __future__ import annotations

from typing import Final, final

from discovery.model import Labels
from proxy.telemetry.http_metric import Families
from proxy.telemetry.slot import Family, Histogram, HistogramFamily, Slot

QUEUE_SECONDS: Final = (0.0005, 0.005, 0.05, 0.5, 1.0, 3.0)
"""Linkerd's buckets of the wait for an endpoint."""


@final
class BalancerFamilies(Families):
    """The families of one sort of balancer: ``outbound_tcp`` or ``outbound_http``."""

    def __init__(self, prefix: str, labels: tuple[str, ...]) -> None:
        name = f"{prefix}_balancer"
        own = f"pillion_{name}"
        self.endpoints = Family(
            f"{name}_endpoints",
            "gauge",
            "Endpoints, by whether they may be chosen now.",
            (*labels, "endpoint_state"),
        )
        self.members = Family(
            f"{name}_p2c_endpoints", "gauge", "Endpoints that are balanced over.", labels
        )
        self.updates = Family(
            f"{name}_p2c_updates_total",
            "counter",
            "Endpoints that came, went, or began anew because the way to them changed.",
            (*labels, "op"),
        )
        self.queue_length = Family(
            f"{name}_queue_length", "gauge", "Waiting for an endpoint now.", labels
        )
        self.queue_requests = Family(
            f"{name}_queue_requests_total", "counter", "Asked for an endpoint.", labels
        )
        self.queue_latency = HistogramFamily(
            f"{name}_queue_latency_seconds",
            "From the question for an endpoint to the answer.",
            labels,
            QUEUE_SECONDS,
        )
        self.gate_open = Family(
            f"{name}_queue_gate_open_total",
            "counter",
            "Times the queue took requests again after fail-fast.",
            labels,
        )
        self.gate_shut = Family(
            f"{name}_queue_gate_shut_total",
            "counter",
            "Times the queue began to fail fast: no endpoint was ready for too long.",
            labels,
        )
        self.gate_open_time = Family(
            f"{name}_queue_gate_open_time_seconds",
            "gauge",
            "When the queue last opened, in seconds since the epoch.",
            labels,
        )
        self.gate_shut_time = Family(
            f"{name}_queue_gate_shut_time_seconds",
            "gauge",
            "When the queue last shut, in seconds since the epoch.",
            labels,
        )
        self.gate_timeout = Family(
            f"{name}_queue_gate_timeout_seconds",
            "gauge",
            "How long nothing may be ready before the queue fails fast.",
            labels,
        )
        self.connect_failures = Family(
            f"{own}_unreachable_total",
            "counter",
            "Times an endpoint was held back because it could not be reached.",
            labels,
        )
        self.breaker_opens = Family(
            f"{own}_breaker_opens_total",
            "counter",
            "Times an endpoint's circuit breaker opened, for the first time or again.",
            labels,
        )
        self.probes = Family(
            f"{own}_probes_total",
            "counter",
            "Single requests to endpoints held back, by outcome.",
            (*labels, "result"),
        )

    def of(self, labels: Labels) -> BalancerSlots:
        """Return where the balancers with these labels are counted together."""
        slots = BalancerSlots()
        slots.ready = self.endpoints.child((*labels, ("endpoint_state", "ready")))
        slots.pending = self.endpoints.child((*labels, ("endpoint_state", "pending")))
        slots.members = self.members.child(labels)
        slots.added = self.updates.child((*labels, ("op", "Add")))
        slots.removed = self.updates.child((*labels, ("op", "Remove")))
        slots.reset = self.updates.child((*labels, ("op", "Reset")))
        slots.waiting = self.queue_length.child(labels)
        slots.asked = self.queue_requests.child(labels)
        slots.waited = self.queue_latency.child(labels)
        slots.gate_open = self.gate_open.child(labels)
        slots.gate_shut = self.gate_shut.child(labels)
        slots.gate_open_time = self.gate_open_time.child(labels)
        slots.gate_shut_time = self.gate_shut_time.child(labels)
        slots.gate_timeout = self.gate_timeout.child(labels)
        slots.unreachable = self.connect_failures.child(labels)
        slots.opened = self.breaker_opens.child(labels)
        slots.probes_good = self.probes.child((*labels, ("result", "ok")))
        slots.probes_bad = self.probes.child((*labels, ("result", "error")))
        return slots


@final
class BalancerSlots:
    """The slots of one balancer; made here by itself, it counts where nobody looks."""

    __slots__ = (
        "added",
        "asked",
        "gate_open",
        "gate_open_time",
        "gate_shut",
        "gate_shut_time",
        "gate_timeout",
        "members",
        "opened",
        "pending",
        "probes_bad",
        "probes_good",
        "ready",
        "removed",
        "reset",
        "unreachable",
        "waited",
        "waiting",
    )

    def __init__(self) -> None:
        self.ready = Slot()
        self.pending = Slot()
        self.members = Slot()
        self.added = Slot()
        self.removed = Slot()
        self.reset = Slot()
        self.waiting = Slot()
        self.asked = Slot()
        self.waited = Histogram(QUEUE_SECONDS)
        self.gate_open = Slot()
        self.gate_shut = Slot()
        self.gate_open_time = Slot()
        self.gate_shut_time = Slot()
        self.gate_timeout = Slot()
        self.unreachable = Slot()
        self.opened = Slot()
        self.probes_good = Slot()
        self.probes_bad = Slot()

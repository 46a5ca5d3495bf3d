"""Local rate limits: a total, a rate for each client, and rates of their own for named clients.

Each bucket is one number, the time at which it would be full again (GCRA, with a burst of one
second's worth, as linkerd2-proxy's local rate limit): time comes in, the next number goes out.
The total is asked first; a client with an override is measured by that alone; all clients
without identity share one bucket. What a later bucket refuses the total has still counted.

A bucket that was not used for a second is full, so the table keeps the last two seconds only,
and at most ``MAX_IDENTITIES`` clients of each; the rest share one bucket.

Of several workers, who know nothing of each other's buckets, each admits its share: together no
more than the rate. A bucket holds a whole request at least, so of a rate below the number of
workers as many as those may go at one instant; it then takes as many seconds to be full. This
module is compiled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, final

from identity.name import Identity
from policy.model import Audit, LimitHit, LimitScope, Permit, RateLimit, Refusal, Verdict

MAX_IDENTITIES: Final = 10_000
"""Clients with a bucket of their own within a second."""

_SECOND_NS: Final = 1_000_000_000


def take(full_at_ns: int, now_ns: int, per_second: int, workers: int = 1) -> tuple[int, bool]:
    """Take one request from a bucket: when it is full again, and whether the request may go.

    ``workers``: how many share the rate, ourselves included.
    """
    interval_ns = _SECOND_NS * workers // per_second
    if full_at_ns - now_ns > interval_ns * (max(per_second // workers, 1) - 1):
        return full_at_ns, False
    return max(full_at_ns, now_ns) + interval_ns, True


@final
class RateState:
    """The buckets of one rate limit. Made anew when the limit changes: then they are full."""

    __slots__ = (
        *("_before", "_last", "_long_ns", "_override_of", "_overrides", "_total", "_turn_ns"),
        *("_workers", "limit"),
    )

    def __init__(self, limit: RateLimit, workers: int = 1) -> None:
        """Begin with full buckets; ``workers`` share the limit, ourselves included."""
        self.limit: Final = limit
        self._workers: Final = workers
        self._long_ns: Final = _SECOND_NS * workers
        """How long it takes at most until an empty bucket is full."""
        self._total = 0
        self._overrides = [0] * len(limit.overrides)
        self._override_of: Final[dict[str, int]] = {}
        for index, override in enumerate(limit.overrides):
            for client in override.clients:
                self._override_of.setdefault(client.name, index)
        self._last: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._turn_ns = 0

    def hit(self, identity: Identity | None, now: float) -> LimitHit | None:
        """Count one request at ``now`` (monotonic seconds); what refuses it, if anything does."""
        limit = self.limit
        now_ns = int(now * 1e9)
        if limit.total is not None:
            self._total, may_go = take(self._total, now_ns, limit.total, self._workers)
            if not may_go:
                return LimitHit(limit.metadata, LimitScope.TOTAL, limit.total)
        name = identity.name if identity is not None else ""
        index = self._override_of.get(name, -1)
        if index >= 0:
            rate = limit.overrides[index].requests_per_second
            full_at_ns = self._overrides[index]
            self._overrides[index], may_go = take(full_at_ns, now_ns, rate, self._workers)
            if not may_go:
                return LimitHit(limit.metadata, LimitScope.IDENTITY, rate, is_override=True)
            return None
        if limit.identity is not None and not self._take_own(name, now_ns, limit.identity):
            return LimitHit(limit.metadata, LimitScope.IDENTITY, limit.identity)
        return None

    def _take_own(self, name: str, now_ns: int, rate: int) -> bool:
        if now_ns - self._turn_ns >= self._long_ns:
            idle = now_ns - self._turn_ns >= 2 * self._long_ns
            self._before = {} if idle else self._last
            self._last = {}
            self._turn_ns = now_ns
        full_at_ns = self._last.get(name, -1)
        if full_at_ns < 0:
            full_at_ns = self._before.get(name, 0)
            if len(self._last) >= MAX_IDENTITIES:
                name = ""
                full_at_ns = self._last.get("", self._before.get("", 0))
        self._last[name], may_go = take(full_at_ns, now_ns, rate, self._workers)
        return may_go


def decide_rate(state: RateState, permit: Permit, identity: Identity | None, now: float) -> Verdict:
    """Count one permitted request at ``now`` (monotonic seconds); a limit in audit mode only says.

    What a filter answers by itself, a redirect, is not to be counted.
    """
    hit = state.hit(identity, now)
    if state.limit.is_audit:
        audit = Audit(state.limit.metadata, would_allow=hit is None)
        return replace(permit, audits=(*permit.audits, audit))
    return permit if hit is None else refuse_rate(permit, hit)


def refuse_rate(permit: Permit, hit: LimitHit) -> Refusal:
    """Turn a permit into the refusal that a reached limit makes of it."""
    kind = "override" if hit.is_override else "per-identity"
    if hit.scope is LimitScope.TOTAL:
        kind = "total"
    return Refusal(
        code="rate-limited",
        server=permit.server,
        route=permit.route,
        reason=f"{kind} rate limit of {hit.metadata.name} exceeded: "
        f"{hit.requests_per_second} requests per second",
        limit=hit,
        audits=permit.audits,
        hint="wait a second, or raise the limit",
    )

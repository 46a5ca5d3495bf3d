"""HTTPLocalRateLimitPolicy (policy.linkerd.io): how many requests a second a Server takes.

Each sidecar counts on its own. Rates are whole requests per second.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from resources.fields import Fields
from resources.kind import Meta
from resources.object_name import Account, check_name, check_namespace, group_of
from resources.policy_mode import parse_is_audit

MAX_RATE: Final = 2**32 - 1
"""What the control API can carry."""


@final
@dataclass(frozen=True, slots=True)
class RateOverride:
    """A rate that the named accounts share."""

    rate: int
    accounts: tuple[Account, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitPolicy:
    """An HTTPLocalRateLimitPolicy; None is no limit."""

    meta: Meta
    server: str
    total: int | None = None
    identity: int | None = None
    overrides: tuple[RateOverride, ...] = ()
    is_audit: bool = False


def parse_rate_limit_policy(meta: Meta, body: Fields) -> RateLimitPolicy:
    """Read an HTTPLocalRateLimitPolicy."""
    spec = body.map("spec", required=True)
    spec.only("targetRef", "total", "identity", "overrides")
    target = spec.map("targetRef", required=True)
    target.choice("kind", ("Server",), required=True)
    if group_of(target) != "policy.linkerd.io":
        target.problem("group", "wanted policy.linkerd.io, the group of Server")
    total = _rate(spec.map("total")) if spec.has("total") else None
    identity = _bounded_rate(spec.map("identity"), total) if spec.has("identity") else None
    overrides = []
    for fields in spec.maps("overrides"):
        rate = _bounded_rate(fields, total)
        accounts = []
        for reference in fields.maps("clientRefs", required=True):
            reference.choice("kind", ("ServiceAccount",), required=True)
            if group_of(reference):
                reference.problem("group", "ServiceAccount is of the core group")
            namespace = check_namespace(reference, "namespace", meta.namespace)
            accounts.append(Account(namespace, check_name(reference, "name")))
        if rate is not None:
            overrides.append(RateOverride(rate, tuple(accounts)))
    return RateLimitPolicy(
        meta=meta,
        server=check_name(target, "name"),
        total=total,
        identity=identity,
        overrides=tuple(overrides),
        is_audit=parse_is_audit(body),
    )


def _rate(fields: Fields) -> int | None:
    return fields.integer("requestsPerSecond", 1, MAX_RATE, required=True)


def _bounded_rate(fields: Fields, total: int | None) -> int | None:
    rate = _rate(fields)
    if rate is not None and total is not None and rate > total:
        fields.problem("requestsPerSecond", f"{rate} is more than the total, {total}")
    return rate

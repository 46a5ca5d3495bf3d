"""Policies and explanations as plain data, for whoever writes JSON. Pure; off the hot path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from discovery.model import Metadata
from policy.check import Check
from policy.explain import Explanation
from policy.model import (
    Attempt,
    Authorization,
    Client,
    InboundRoute,
    Permit,
    RateLimit,
    Refusal,
    ServerPolicy,
)
from policy.words import describe_match, name_of

Data = None | bool | int | float | str | Sequence["Data"] | Mapping[str, "Data"]

MAX_LISTED: Final = 100
"""How many of a kind are listed; how many there are is always said."""


def explanation_data(
    client: Client, target: str, told: Explanation, status: int | None
) -> dict[str, Data]:
    """Return an explanation; ``status`` is what the caller is answered, None for a connection."""
    verdict = told.verdict
    return {
        "verdict": told.word,
        "status": status,
        "code": verdict.code if isinstance(verdict, Refusal) else None,
        "reason": told.headline,
        "client": {
            "ip": client.ip,
            "tls": client.tls.value,
            "identity": str(client.identity) if client.identity else None,
        },
        "to": target,
        "server": _named(verdict.server),
        "route": _named(verdict.route) if verdict.route is not None else None,
        "authorization": _named(verdict.authorization) if isinstance(verdict, Permit) else None,
        "steps": [
            {
                "label": each.label,
                "subject": each.subject,
                "said": each.said,
                "clause": each.clause or None,
            }
            for each in told.steps
        ],
        "try": [each.text for each in told.remedies],
    }


def policy_data(port: int, policy: ServerPolicy) -> dict[str, Data]:
    """Return what decides about one port."""
    localhost = () if policy.localhost is None else (policy.localhost,)
    return {
        "port": port,
        "server": _named(policy.metadata),
        "protocol": policy.protocol.value,
        "invalid": policy.invalid or None,
        **_rules((*policy.authorizations, *localhost), policy.denials, policy.void),
        "routes": [_route(each) for each in policy.routes[:MAX_LISTED]],
        "routes_in_all": len(policy.routes),
        "rate_limit": None if policy.rate_limit is None else _limit(policy.rate_limit),
    }


def _rules(
    allowed: tuple[Authorization, ...],
    denied: tuple[Authorization, ...],
    void: tuple[Attempt, ...],
) -> dict[str, Data]:
    return {
        "authorizations": [_authorization(each) for each in allowed[:MAX_LISTED]],
        "authorizations_in_all": len(allowed),
        "denials": [_authorization(each, is_denial=True) for each in denied[:MAX_LISTED]],
        "denials_in_all": len(denied),
        "broken": [
            {"name": name_of(each.authorization), "why": each.failed} for each in void[:MAX_LISTED]
        ],
    }


def _authorization(given: Authorization, *, is_denial: bool = False) -> Data:
    check = Check(given, is_denial=is_denial)
    wanted = [] if check.any_network else [check.bad_network.failed]
    if not check.any_tls:
        wanted.append((check.bad_identity if check.wants_identity else check.bad_tls).failed)
    return {
        **_named(given.metadata),
        "mode": "audit" if given.is_audit else "enforce",
        "wants": wanted,
    }


def _route(route: InboundRoute) -> Data:
    matches = [match for rule in route.rules for match in rule.matches]
    filters = [each for rule in route.rules for each in rule.filters]
    return {
        **_named(route.metadata),
        "hosts": [("*." if each.is_suffix else "") + each.name for each in route.hosts],
        "matches": [describe_match(each) for each in matches[:MAX_LISTED]],
        "filters": [type(each).__name__ for each in filters[:MAX_LISTED]],
        **_rules(route.authorizations, route.denials, route.void),
    }


def _limit(limit: RateLimit) -> Data:
    return {
        **_named(limit.metadata),
        "mode": "audit" if limit.is_audit else "enforce",
        "total": limit.total,
        "identity": limit.identity,
        "overrides": [
            {
                "requests_per_second": each.requests_per_second,
                "clients": sorted(str(client) for client in each.clients)[:MAX_LISTED],
            }
            for each in limit.overrides[:MAX_LISTED]
        ],
    }


def _named(metadata: Metadata) -> dict[str, Data]:
    return {
        "group": metadata.group,
        "kind": metadata.kind,
        "namespace": metadata.namespace,
        "name": metadata.name,
    }

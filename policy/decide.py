"""Whether a connection or a request may happen: pure functions of a policy and a client.

In this order (linkerd2-proxy, server-policy and inbound/policy, plus our denials):

1. a policy that cannot be used refuses everyone, the pod itself included;
2. a request must match a route, or it is not found; without routes all match ``default``;
3. the pod's own calls (``localhost``) and probes are never denied;
4. the first denial that matches refuses, the route's before the server's;
5. the first authorization that admits is the one named in labels: the route's, the server's,
   ``localhost`` last;
6. nothing admits: refused, with every authorization tried and the clause of it that failed.

Filters and rate limits come after, for what is permitted. Policies in audit mode are evaluated
beside this and never change the outcome. No I/O, no clock; this module is compiled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, final

from core.errors import ResourceError
from discovery.model import Metadata
from policy.check import Check, address_number
from policy.checklist import Checklist
from policy.match import Alternative, Precedence, Request, RouteTable
from policy.model import (
    AUDIT,
    DEFAULT_ROUTE,
    PROBE,
    Attempt,
    Audit,
    Authorization,
    Client,
    ClientTls,
    InboundRoute,
    InboundRule,
    Permit,
    Protocol,
    Refusal,
    ServerPolicy,
    Verdict,
)
from policy.words import title_of

MAX_PREPARED: Final = 256
"""How many policies are kept prepared at once; the oldest goes first."""

_CATCH_ALL: Final = (InboundRoute(metadata=DEFAULT_ROUTE, rules=(InboundRule(),)),)
_BYTES: Final = (Protocol.OPAQUE, Protocol.TLS)
_REPLACEABLE: Final = frozenset(
    {
        "all-unauthenticated",
        "all-authenticated",
        "cluster-unauthenticated",
        "cluster-authenticated",
        "audit",
    }
)


@final
class Rules:
    """The denials and authorizations of one server or route, ready to be tried."""

    __slots__ = ("allowed", "audited", "audited_denials", "denials", "void")

    def __init__(
        self,
        authorizations: tuple[Authorization, ...],
        denials: tuple[Authorization, ...],
        void: tuple[Attempt, ...],
    ) -> None:
        self.allowed: Final = [Check(each) for each in authorizations if not each.is_audit]
        self.audited: Final = [Check(each) for each in authorizations if each.is_audit]
        checks = [Check(each, is_denial=True) for each in denials]
        self.denials: Final = [each for each in checks if not each.authorization.is_audit]
        self.audited_denials: Final = [each for each in checks if each.authorization.is_audit]
        self.void: Final = void


@final
class Admissions:
    """Every verdict that one route, or a connection, can be given; most are made once."""

    __slots__ = (
        "_by_tls",
        "_is_looked_up",
        "allowed",
        "denied",
        "is_probe",
        "permits",
        "refusal",
        "refusals",
        "rules",
        "void",
    )

    def __init__(
        self, prepared: Prepared, route: InboundRoute | None, alternative: Alternative | None
    ) -> None:
        self.is_probe: Final = route is not None and route.metadata == PROBE
        self.rules: Final = [prepared.rules]
        if route is not None:
            self.rules.insert(0, Rules(route.authorizations, route.denials, route.void))
        checks = [check for rules in self.rules for check in rules.allowed]
        if prepared.localhost is not None:
            checks.append(prepared.localhost)
        self.allowed: Final = Checklist(checks)
        self.denied: Final = Checklist([each for rules in self.rules for each in rules.denials])
        self.void: Final = [each for rules in self.rules for each in rules.void]
        server = prepared.policy.metadata
        metadata = None if route is None else route.metadata
        rule = route.rules[alternative.rule] if route and alternative else InboundRule()
        self.permits: Final = [
            Permit(
                server=server,
                authorization=check.authorization.metadata,
                route=metadata,
                match=None if alternative is None else alternative.http or alternative.grpc,
                filters=rule.filters,
                is_audit=check.authorization.metadata == AUDIT,
            )
            for check in checks
        ]
        self.refusals: Final = [
            Refusal(
                code="unauthorized",
                server=server,
                route=metadata,
                reason=f"{title_of(check.authorization.metadata)} denies the caller",
                denial=check.authorization.metadata,
                hint=check.authorization.note,
            )
            for check in self.denied.checks
        ]
        where = server if metadata is None or metadata.kind == "default" else metadata
        self.refusal: Final = Refusal(
            code="unauthorized",
            server=server,
            route=metadata,
            reason=f"no authorization on {title_of(where)} admits the caller",
        )
        self._is_looked_up: Final = self.allowed.is_looked_up
        self._by_tls: Final[dict[ClientTls, Refusal]] = {}

    def refused(self, address: int, client: Client) -> Refusal:
        """Return the refusal of a client whom nothing admits, with what it failed."""
        if self._is_looked_up:
            known = self._by_tls.get(client.tls)
            if known is not None:
                return known
        attempts = (*self.allowed.attempts(address, client), *self.void)
        made = replace(self.refusal, attempts=attempts)
        if self._is_looked_up:
            self._by_tls[client.tls] = made
        return made


@final
class Prepared:
    """A policy with its checks and its routes, ready to decide."""

    __slots__ = (
        "by_alternative",
        "connection",
        "has_audits",
        "has_denials",
        "invalid",
        "localhost",
        "no_requests",
        "not_found",
        "policy",
        "routes",
        "rules",
        "table",
    )

    def __init__(self, policy: ServerPolicy) -> None:
        self.policy: Final = policy
        self.localhost: Final = None if policy.localhost is None else Check(policy.localhost)
        self.rules: Final = Rules(policy.authorizations, policy.denials, policy.void)
        self.connection: Final = Admissions(self, None, None)
        self.routes: Final = policy.routes or _CATCH_ALL
        self.by_alternative: Final[dict[int, Admissions]] = {}
        self.has_denials: Final = bool(policy.denials) or any(each.denials for each in self.routes)
        self.has_audits: Final = _has_audit(policy.authorizations, policy.denials) or any(
            _has_audit(each.authorizations, each.denials) for each in self.routes
        )
        invalid = policy.invalid
        table: RouteTable | None = None
        try:
            # Expressions are looked at even where no request will be.
            table = RouteTable(self.routes, Precedence.LINKERD)
        except ResourceError as error:
            invalid = invalid or str(error)
        self.table: Final = None if policy.protocol in _BYTES else table
        self.invalid: Final = _invalid(policy, invalid) if invalid else None
        self.not_found: Final = _not_found(policy)
        self.no_requests: Final = _no_requests(policy)

    def admissions(self, alternative: Alternative) -> Admissions:
        """Return what a matched alternative can be given, made at its first use."""
        found = self.by_alternative.get(alternative.order)
        if found is None:
            found = Admissions(self, self.routes[alternative.route], alternative)
            self.by_alternative[alternative.order] = found
        return found


_prepared: dict[int, Prepared] = {}


def prepare(policy: ServerPolicy) -> Prepared:
    """Return the policy's prepared form, made at its first use."""
    found = _prepared.get(id(policy))
    # The table holds the policy itself, so its id cannot come to mean another while it is there.
    if found is not None and found.policy is policy:
        return found
    if len(_prepared) >= MAX_PREPARED:
        del _prepared[next(iter(_prepared))]
    made = Prepared(policy)
    _prepared[id(policy)] = made
    return made


def decide_connection(policy: ServerPolicy, client: Client) -> Verdict:
    """Decide about one connection by the authorizations of its port."""
    prepared = prepare(policy)
    if prepared.invalid is not None:
        return prepared.invalid
    return _decide(prepared, prepared.connection, client)


def decide_request(policy: ServerPolicy, client: Client, request: Request) -> Verdict:
    """Decide about one HTTP request by the route it matches and that route's authorizations."""
    prepared = prepare(policy)
    if prepared.invalid is not None:
        return prepared.invalid
    table = prepared.table
    if table is None:
        return prepared.no_requests
    alternative = table.find(request)
    if alternative is None:
        return prepared.not_found
    return _decide(prepared, prepared.admissions(alternative), client)


def decide_any(policy: ServerPolicy, client: Client) -> Verdict | None:
    """Decide about all HTTP requests of a client at once; None: each is to be looked at."""
    prepared = prepare(policy)
    table = prepared.table
    if prepared.invalid is not None or table is None or table.only is None:
        return None
    return _decide(prepared, prepared.admissions(table.only), client)


def reads_headers(policy: ServerPolicy) -> bool:
    """Whether deciding about requests needs their headers at all."""
    table = prepare(policy).table
    return table is not None and table.reads_headers


def _decide(prepared: Prepared, admissions: Admissions, client: Client) -> Verdict:
    address = address_number(client.ip)
    verdict: Verdict | None = None
    if prepared.has_denials and not _is_exempt(prepared, admissions, address):
        index = admissions.denied.first(address, client)
        if index >= 0:
            verdict = admissions.refusals[index]
    if verdict is None:
        index = admissions.allowed.first(address, client)
        verdict = admissions.permits[index] if index >= 0 else admissions.refused(address, client)
    return _audited(prepared, admissions, client, verdict) if prepared.has_audits else verdict


def _is_exempt(prepared: Prepared, admissions: Admissions, address: int) -> bool:
    localhost = prepared.localhost
    return admissions.is_probe or (localhost is not None and localhost.holds(address))


def _audited(
    prepared: Prepared, admissions: Admissions, client: Client, verdict: Verdict
) -> Verdict:
    """Add what the policies in audit mode would have said.

    An audited allow is asked as if it stood in the place of the port's default policy: whom
    neither it nor another named authorization admits, it would keep out. An audited denial
    would keep out whom it matches.
    """
    address = address_number(client.ip)
    is_exempt = _is_exempt(prepared, admissions, address)
    is_kept = is_exempt or (
        isinstance(verdict, Permit) and not _is_replaceable(verdict.authorization)
    )
    audits: list[Audit] = []
    for rules in admissions.rules:
        for check in rules.audited:
            fits = check.failure(address, client) is None
            audits.append(Audit(check.authorization.metadata, would_allow=is_kept or fits))
        for check in rules.audited_denials:
            fits = check.failure(address, client) is None
            audits.append(Audit(check.authorization.metadata, would_allow=is_exempt or not fits))
    return replace(verdict, audits=tuple(audits)) if audits else verdict


def _is_replaceable(authorization: Metadata) -> bool:
    return authorization.kind == "default" and authorization.name in _REPLACEABLE


def _has_audit(
    authorizations: tuple[Authorization, ...], denials: tuple[Authorization, ...]
) -> bool:
    return any(each.is_audit for each in (*authorizations, *denials))


def _invalid(policy: ServerPolicy, why: str) -> Refusal:
    return Refusal(
        code="policy-invalid",
        server=policy.metadata,
        reason=f"the policy cannot be used: {why}",
        hint="mend the resource; until then nobody is admitted",
    )


def _not_found(policy: ServerPolicy) -> Refusal:
    return Refusal(
        code="route-not-found",
        server=policy.metadata,
        reason=f"no route on {title_of(policy.metadata)} matches the request",
        hint="where a route is attached, every request needs one: add a route that matches",
    )


def _no_requests(policy: ServerPolicy) -> Refusal:
    return Refusal(
        code="route-not-found",
        server=policy.metadata,
        reason=f"{title_of(policy.metadata)} takes {policy.protocol.value} connections, "
        "not requests",
    )

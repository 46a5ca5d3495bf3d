"""A decision, told: the answer first, then the evidence, at the end what would change it.

The decision is made by ``policy.decide`` in the same call and narrated from its own evidence, so
an explanation cannot say otherwise than what happens. The words are those of logs and of the
command line. Off the hot path; not compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, final

from core.record import dataclass
from discovery.model import Metadata
from policy.decide import decide_connection, decide_request
from policy.match import Precedence, Request, RouteTable
from policy.model import (
    Attempt,
    Client,
    InboundRoute,
    InboundRule,
    Permit,
    Protocol,
    Refusal,
    ServerPolicy,
    Verdict,
)
from policy.remedy import Remedy, remedies_for
from policy.route import GrpcMatch, HttpMatch, Redirect
from policy.words import describe_client, describe_match, name_of, title_of, verdict_word

MAX_MISSED: Final = 20
"""Routes of which it is said what a request lacked: it takes a table each, and anybody may ask."""

_BYTES: Final = (Protocol.OPAQUE, Protocol.TLS)


@final
@dataclass(frozen=True, slots=True)
class Step:
    """One line of an explanation: what sort of thing, its name, what is said of it."""

    label: str
    """server, route, tried, broken, denied, limit, audit."""
    subject: str
    said: str
    clause: str = ""
    """The clause that failed, where one did."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A verdict with its reasons."""

    verdict: Verdict
    headline: str
    steps: tuple[Step, ...]
    remedies: tuple[Remedy, ...] = ()

    @property
    def word(self) -> str:
        """The verdict in one word: allow, deny, not-found, rate-limited or invalid."""
        return verdict_word(self.verdict)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return the explanation as text, in columns."""
        code = f"   code: {self.verdict.code}" if isinstance(self.verdict, Refusal) else ""
        width = max((len(each.subject) for each in self.steps), default=0)
        found = [f"{_LOUD[self.word]}  {self.headline}{code}"]
        for each in self.steps:
            mark = f"   ✗ {each.clause}" if each.clause else ""
            said = f"  {each.label:<8} {each.subject:<{width}}   {each.said}".rstrip()
            found.append(said + mark)
        found += [f"  try      {each.text}" for each in self.remedies]
        return found


_LOUD: Final = {
    "allow": "ALLOWED",
    "deny": "DENIED",
    "not-found": "NOT FOUND",
    "rate-limited": "RATE LIMITED",
    "invalid": "INVALID",
}


def explain_connection(policy: ServerPolicy, client: Client) -> Explanation:
    """Decide about a connection, and say why."""
    return explain_verdict(policy, client, None, decide_connection(policy, client))


def explain_request(policy: ServerPolicy, client: Client, request: Request) -> Explanation:
    """Decide about a request, and say why; on a port of bytes the connection is decided."""
    if policy.protocol in _BYTES:
        return explain_connection(policy, client)
    return explain_verdict(policy, client, request, decide_request(policy, client, request))


def explain_verdict(
    policy: ServerPolicy, client: Client, request: Request | None, verdict: Verdict
) -> Explanation:
    """Say why a verdict that was made by this policy is as it is."""
    steps = [Step("server", name_of(verdict.server), _describe_server(policy))]
    if request is not None and verdict.route is not None:
        steps.append(Step("route", name_of(verdict.route), _describe_route(policy, verdict.route)))
    if isinstance(verdict, Permit):
        headline = f"{title_of(verdict.authorization)} admits {describe_client(client)}"
        steps += _filters(verdict)
    else:
        headline = f"{verdict.reason}{_about(verdict, client, request)}"
        steps += _refusal_steps(policy, request, verdict)
    steps += [
        Step(
            "audit",
            name_of(each.authorization),
            "would allow, if enforced" if each.would_allow else "would deny, if enforced",
        )
        for each in verdict.audits
    ]
    return Explanation(
        verdict=verdict,
        headline=headline,
        steps=tuple(steps),
        remedies=remedies_for(policy, client, verdict),
    )


def _about(refusal: Refusal, client: Client, request: Request | None) -> str:
    if refusal.code == "unauthorized":
        return f": {describe_client(client)}"
    if refusal.code == "route-not-found" and request is not None:
        return f": {request.method} {request.host}{request.path}"
    return ""


def _describe_server(policy: ServerPolicy) -> str:
    kind = "no Server selects this port" if policy.metadata.kind == "default" else "Server"
    return f"{kind}, {policy.protocol.value}"


def _describe_route(policy: ServerPolicy, route: Metadata) -> str:
    for each in policy.routes:
        if each.metadata == route:
            matches = [describe_match(match) for rule in each.rules for match in rule.matches]
            return "; ".join(matches[:3]) + (" …" if len(matches) > 3 else "")
    return "any request"


def _filters(permit: Permit) -> Iterator[Step]:
    for each in permit.filters:
        if isinstance(each, Redirect):
            yield Step("filter", "redirect", f"answers {each.status} {each.host}".rstrip())
        else:
            yield Step("filter", type(each).__name__, "is applied")


def _refusal_steps(
    policy: ServerPolicy, request: Request | None, refusal: Refusal
) -> Iterator[Step]:
    if refusal.denial is not None:
        yield Step("denied", name_of(refusal.denial), refusal.hint or "matches the caller")
    if refusal.limit is not None:
        yield Step(
            "limit",
            name_of(refusal.limit.metadata),
            f"{refusal.limit.requests_per_second} requests per second",
            refusal.limit.scope.value,
        )
    for each in refusal.attempts:
        yield _attempt_step(each)
    if refusal.code == "route-not-found" and request is not None:
        for route in policy.routes[:MAX_MISSED]:
            yield _missed(route, request)
        more = len(policy.routes) - MAX_MISSED
        if more > 0:
            yield Step("missed", f"{more} more", "and so were these")


def _attempt_step(attempt: Attempt) -> Step:
    label = "broken" if attempt.clause.value == "reference" else "tried"
    return Step(label, name_of(attempt.authorization), attempt.failed, attempt.clause.value)


def _missed(route: InboundRoute, request: Request) -> Step:
    """Say which part of a route a request first failed."""
    name = name_of(route.metadata)
    any_rule = replace(route, rules=(InboundRule(),))
    if not _matches(any_rule, request):
        hosts = ", ".join(("*." if each.is_suffix else "") + each.name for each in route.hosts)
        return Step("missed", name, f"is for {hosts}", "host")
    matches = [match for rule in route.rules for match in rule.matches]
    said = "; ".join(describe_match(each) for each in matches[:3])
    for part, kept in _PARTS.items():
        reduced = tuple(_reduced(each, kept) for each in matches)
        if not _matches(replace(route, rules=(InboundRule(matches=reduced),)), request):
            return Step("missed", name, f"wants {said}", part)
    return Step("missed", name, f"wants {said}", "headers and method together")


_PARTS: Final = {
    "path": frozenset({"path"}),
    "method": frozenset({"path", "method"}),
    "headers or query": frozenset({"path", "method", "headers"}),
}


def _reduced(match: HttpMatch | GrpcMatch, kept: frozenset[str]) -> HttpMatch | GrpcMatch:
    if isinstance(match, GrpcMatch):
        return match if "headers" in kept else replace(match, headers=())
    return replace(
        match,
        method=match.method if "method" in kept else "",
        headers=match.headers if "headers" in kept else (),
        query=match.query if "headers" in kept else (),
    )


def _matches(route: InboundRoute, request: Request) -> bool:
    table = RouteTable([replace(route, hosts=route.hosts)], Precedence.LINKERD)
    return table.find(request) is not None

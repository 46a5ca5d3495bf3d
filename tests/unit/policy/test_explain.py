"""Explanations: the words a person reads."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from discovery.model import Metadata, default_metadata
from identity.name import parse_identity
from policy.explain import MAX_MISSED, explain_connection, explain_request, explain_verdict
from policy.limit import refuse_rate
from policy.match import Request
from policy.model import (
    ALL_NETWORKS,
    Attempt,
    Authorization,
    Clause,
    Client,
    ClientTls,
    InboundRoute,
    InboundRule,
    LimitHit,
    LimitScope,
    NetworkMatch,
    Permit,
    Protocol,
    ServerPolicy,
    TlsAuthenticated,
    Unauthenticated,
)
from policy.route import (
    GrpcMatch,
    HeaderMatch,
    HostMatch,
    HttpMatch,
    PathMatch,
    PathMatchKind,
    QueryMatch,
    Redirect,
)

WEB = parse_identity("web.shop.serviceaccount.identity.linkerd.cluster.local")
CHECKOUT = parse_identity("checkout.shop.serviceaccount.identity.linkerd.cluster.local")
CLIENT = Client("10.9.3.4", ClientTls.MESH, WEB)
SERVER = Metadata(kind="server", name="api-http", namespace="shop", group="policy.linkerd.io")
EVERYWHERE = tuple(NetworkMatch(each) for each in ALL_NETWORKS)


def mk_policy(name: str) -> Metadata:
    """Name an AuthorizationPolicy of namespace shop."""
    return Metadata(kind="authorizationpolicy", name=name, namespace="shop")


ROUTE = InboundRoute(
    metadata=Metadata(kind="HTTPRoute", name="orders-write", namespace="shop"),
    authorizations=(
        Authorization(
            metadata=mk_policy("allow-checkout"),
            networks=EVERYWHERE,
            authentication=TlsAuthenticated(frozenset({CHECKOUT})),
        ),
        Authorization(
            metadata=mk_policy("allow-internal"),
            networks=(NetworkMatch(ip_network("10.8.0.0/16")),),
            authentication=Unauthenticated(),
        ),
    ),
    void=(
        Attempt(
            authorization=mk_policy("allow-web"),
            clause=Clause.REFERENCE,
            failed="it refers to MeshTLSAuthentication 'web-id', which does not exist"
            " (did you mean 'web-ids'?)",
        ),
    ),
    rules=(
        InboundRule(
            matches=(HttpMatch(path=PathMatch(PathMatchKind.PREFIX, "/orders"), method="POST"),)
        ),
    ),
)
POLICY = ServerPolicy(metadata=SERVER, protocol=Protocol.HTTP1, routes=(ROUTE,))


def test_a_denied_request_tells_the_whole_story() -> None:
    """The answer, the evidence in order, the nearest change."""
    told = explain_request(POLICY, CLIENT, Request("POST", "/orders"))
    assert told.word == "deny"
    assert told.lines() == [
        (
            "DENIED  no authorization on HTTPRoute shop/orders-write admits the caller:"
            f" {WEB} at 10.9.3.4   code: unauthorized"
        ),
        "  server   shop/api-http         Server, http/1",
        "  route    shop/orders-write     POST /orders*",
        f"  tried    shop/allow-checkout   the caller must be {CHECKOUT}   ✗ identity",
        "  tried    shop/allow-internal   the caller must come from 10.8.0.0/16   ✗ network",
        (
            "  tried    default:localhost     the caller must come from 127.0.0.1/32 or ::1/128"
            "   ✗ network"
        ),
        (
            "  broken   shop/allow-web        it refers to MeshTLSAuthentication 'web-id', which"
            " does not exist (did you mean 'web-ids'?)   ✗ reference"
        ),
        "  try      fix the reference in AuthorizationPolicy shop/allow-web",
        f"  try      add {WEB} to the identities of AuthorizationPolicy shop/allow-checkout",
    ]


def test_an_admitted_request_names_who_admits_it_and_what_is_done() -> None:
    """Filters are part of the story."""
    rule = replace(ROUTE.rules[0], filters=(Redirect(host="x.app"),))
    policy = replace(POLICY, routes=(replace(ROUTE, rules=(rule,), void=()),))
    caller = replace(CLIENT, identity=CHECKOUT)
    told = explain_request(policy, caller, Request("POST", "/orders/7"))
    assert told.word == "allow"
    assert told.lines()[0].startswith("ALLOWED  AuthorizationPolicy shop/allow-checkout admits")
    assert told.lines()[-1] == "  filter   redirect            answers 302 x.app"


def test_a_missing_route_says_what_each_route_wanted() -> None:
    """The first part of each that the request fails."""

    def mk_route(name: str, *matches: HttpMatch | GrpcMatch, host: str = "") -> InboundRoute:
        return InboundRoute(
            metadata=Metadata(kind="HTTPRoute", name=name),
            hosts=(HostMatch(host, is_suffix=True),) if host else (),
            rules=(InboundRule(matches=matches),),
        )

    exact = PathMatch(PathMatchKind.EXACT, "/a")
    some = PathMatch(PathMatchKind.REGEX, "/b")
    policy = replace(
        POLICY,
        routes=(
            mk_route("by-host", HttpMatch(), host="app"),
            mk_route("by-path", HttpMatch(path=exact)),
            mk_route("by-method", HttpMatch(path=some, method="PUT")),
            mk_route(
                "by-header",
                HttpMatch(headers=(HeaderMatch("x", "1"),), query=(QueryMatch("q", "2"),)),
            ),
            mk_route("by-call", GrpcMatch(service="svc.S")),
        ),
    )
    told = explain_request(policy, CLIENT, Request("GET", "/b"))
    assert [(each.subject, each.said, each.clause) for each in told.steps[1:]] == [
        ("by-host", "is for *.app", "host"),
        ("by-path", "wants any method /a", "path"),
        ("by-method", "wants PUT /b (expression)", "method"),
        ("by-header", "wants any method any path with x: 1 with ?q=2", "headers or query"),
        ("by-call", "wants gRPC svc.S/*", "path"),
    ]
    assert told.word == "not-found"


@pytest.mark.parametrize("count", [MAX_MISSED, MAX_MISSED + 1])
def test_of_many_routes_only_some_are_looked_at(count: int) -> None:
    """So that no question holds up the sidecar; of the others it says how many there are."""
    match = HttpMatch(path=PathMatch(PathMatchKind.EXACT, "/a"))
    route = InboundRoute(
        metadata=Metadata(kind="HTTPRoute", name="r"), rules=(InboundRule(matches=(match,)),)
    )
    told = explain_request(replace(POLICY, routes=(route,) * count), CLIENT, Request("GET", "/b"))
    missed = [each for each in told.steps if each.label == "missed"]
    assert [each.clause for each in missed[:MAX_MISSED]] == ["path"] * MAX_MISSED
    assert [each.subject for each in missed[MAX_MISSED:]] == ["1 more"] * (count - MAX_MISSED)


def test_the_other_ways_to_be_refused() -> None:
    """A denial, a rate limit, a policy that cannot be used, a port nobody opened."""
    everyone = Authorization(
        metadata=Metadata(kind="denypolicy", name="no-web", namespace="shop"),
        networks=EVERYWHERE,
        authentication=Unauthenticated(),
    )
    denied = explain_connection(replace(POLICY, denials=(everyone,)), CLIENT)
    assert denied.word == "deny"
    assert denied.headline.startswith("DenyPolicy shop/no-web denies")
    assert denied.remedies[0].text == "make DenyPolicy shop/no-web fit fewer callers, or remove it"
    permit = Permit(server=SERVER, authorization=everyone.metadata)
    hit = LimitHit(Metadata(kind="HTTPLocalRateLimitPolicy", name="rl"), LimitScope.TOTAL, 2)
    limited = explain_verdict(POLICY, CLIENT, Request("GET", "/"), refuse_rate(permit, hit))
    assert limited.word == "rate-limited"
    assert limited.lines()[2] == "  limit    rl              2 requests per second   ✗ total"
    invalid = explain_connection(replace(POLICY, invalid="it is broken"), CLIENT)
    assert invalid.word == "invalid"
    assert "it is broken" in str(invalid)
    closed = explain_connection(ServerPolicy(metadata=default_metadata("deny")), CLIENT)
    assert "add a Server that selects it" in closed.remedies[0].text


def test_who_has_no_sidecar_is_told_to_get_one() -> None:
    """Widening a policy would not help a caller without identity."""
    only = replace(ROUTE, authorizations=ROUTE.authorizations[:1])
    policy = replace(POLICY, routes=(only,))
    told = explain_request(policy, Client("10.9.3.4"), Request("POST", "/orders"))
    assert "let the caller have a sidecar and an identity" in [each.text for each in told.remedies]


def test_the_nearest_authorization_is_the_one_to_widen() -> None:
    """One clause to change before two, whatever their order."""
    far, near = (
        replace(ROUTE.authorizations[0], metadata=mk_policy(name), networks=networks)
        for name, networks in (
            ("far", (NetworkMatch(ip_network("192.0.2.0/24")),)),
            ("near", EVERYWHERE),
        )
    )
    for order in ((far, near), (near, far)):
        policy = replace(POLICY, routes=(replace(ROUTE, authorizations=order, void=()),))
        told = explain_request(policy, CLIENT, Request("POST", "/orders"))
        assert [each.text for each in told.remedies] == [
            f"add {WEB} to the identities of AuthorizationPolicy shop/near"
        ]
    both = replace(POLICY, routes=(replace(ROUTE, authorizations=(far,), void=()),))
    told = explain_request(both, CLIENT, Request("POST", "/orders"))
    name = "AuthorizationPolicy shop/far"
    assert [each.text for each in told.remedies] == [
        f"add {WEB} to the identities of {name} and add 10.9.3.4 to the networks of {name}"
    ]


def test_a_request_to_a_port_of_bytes_is_its_connection() -> None:
    """The connection is decided; there is no route to speak of."""
    policy = replace(POLICY, protocol=Protocol.OPAQUE, routes=())
    told = explain_request(policy, CLIENT, Request("GET", "/"))
    assert told.verdict.route is None
    assert told.word == "deny"

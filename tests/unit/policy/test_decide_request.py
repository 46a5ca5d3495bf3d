"""Decisions about requests: route, then denials and authorizations, with evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from discovery.model import Metadata, default_metadata
from identity.name import parse_identity
from policy.decide import decide_any, decide_connection, decide_request, reads_headers
from policy.match import Request
from policy.model import (
    ALL_NETWORKS,
    DEFAULT_ROUTE,
    PROBE,
    Attempt,
    Audit,
    Authorization,
    Clause,
    Client,
    ClientTls,
    InboundRoute,
    InboundRule,
    NetworkMatch,
    Permit,
    Protocol,
    Refusal,
    ServerPolicy,
    TlsAuthenticated,
    Unauthenticated,
)
from policy.route import HeaderMatch, HttpMatch, PathMatch, PathMatchKind, Redirect

CLI = parse_identity("cli.app.serviceaccount.identity.linkerd.cluster.local")
OTHER = parse_identity("other.ext.serviceaccount.identity.linkerd.cluster.local")
SERVER = Metadata(kind="server", name="srv", group="policy.linkerd.io", namespace="app")
EVERYWHERE = tuple(NetworkMatch(each) for each in ALL_NETWORKS)
MESHED = Client("10.1.1.1", ClientTls.MESH, CLI)
STRANGER = Client("10.1.1.1", ClientTls.MESH, OTHER)
PLAIN = Client("10.1.1.1")
INSIDE = Client("127.0.0.1")


def mk_authorization(name: str, *clients: Client, is_audit: bool = False) -> Authorization:
    """Build an authorization of these clients' identities; of anyone when there are none."""
    identities = frozenset(each.identity for each in clients if each.identity)
    return Authorization(
        metadata=Metadata(kind="authorizationpolicy", name=name, group="policy.linkerd.io"),
        networks=EVERYWHERE,
        authentication=TlsAuthenticated(identities) if identities else Unauthenticated(),
        is_audit=is_audit,
    )


def mk_route(
    name: str, path: str, *authorizations: Authorization, method: str = ""
) -> InboundRoute:
    """Build a route for an exact path."""
    match = HttpMatch(path=PathMatch(PathMatchKind.EXACT, path), method=method)
    return InboundRoute(
        metadata=Metadata(kind="HTTPRoute", name=name),
        authorizations=authorizations,
        rules=(InboundRule(matches=(match,)),),
    )


PROBE_ROUTE = replace(
    mk_route("x", "/live", method="GET"),
    metadata=PROBE,
    authorizations=(
        Authorization(metadata=PROBE, networks=EVERYWHERE, authentication=Unauthenticated()),
    ),
)

ROUTED = ServerPolicy(
    metadata=SERVER,
    authorizations=(mk_authorization("server-wide", STRANGER),),
    routes=(
        mk_route("r", "/a", mk_authorization("on-r", MESHED), method="GET"),
        mk_route("bare", "/bare"),
        mk_route("both", "/both", mk_authorization("open")),
    ),
)


@pytest.mark.parametrize(
    ("client", "method", "path", "expected"),
    [
        (MESHED, "GET", "/a", ("r", "on-r")),
        (STRANGER, "GET", "/a", ("r", "server-wide")),
        (PLAIN, "GET", "/a", ("r", "unauthorized")),
        (INSIDE, "GET", "/a", ("r", "localhost")),
        (MESHED, "GET", "/b", (None, "route-not-found")),
        (INSIDE, "GET", "/b", (None, "route-not-found")),
        (MESHED, "POST", "/a", (None, "route-not-found")),
        (MESHED, "GET", "/bare", ("bare", "unauthorized")),
        (STRANGER, "GET", "/bare", ("bare", "server-wide")),
        (STRANGER, "GET", "/both", ("both", "open")),
    ],
)
def test_route_then_authorization(
    client: Client, method: str, path: str, expected: tuple[str | None, str]
) -> None:
    """404 before 403; a route's own authorizations come before the server's."""
    verdict = decide_request(ROUTED, client, Request(method, path))
    route = verdict.route.name if verdict.route else None
    spoke = verdict.authorization.name if isinstance(verdict, Permit) else verdict.code
    assert (route, spoke) == expected


def test_without_routes_every_request_is_on_the_default_route() -> None:
    """The catch-all that linkerd2-proxy inserts."""
    policy = ServerPolicy(metadata=SERVER, authorizations=(mk_authorization("all"),))
    verdict = decide_request(policy, PLAIN, Request("PUT", "/any"))
    assert isinstance(verdict, Permit)
    assert (verdict.route, verdict.authorization.name) == (DEFAULT_ROUTE, "all")


@pytest.mark.parametrize("client", [MESHED, STRANGER, PLAIN, INSIDE])
@pytest.mark.parametrize("method", ["", "GET"])
def test_all_requests_are_decided_at_once_where_the_request_does_not_matter(
    client: Client, method: str
) -> None:
    """With a route for everything, or none; not with one that wants anything of a request."""
    route = InboundRoute(
        metadata=Metadata(kind="HTTPRoute", name="r"),
        authorizations=(mk_authorization("on-r", MESHED),),
        rules=(InboundRule(matches=(HttpMatch(method=method),)),),
    )
    denials = (mk_authorization("not-them", STRANGER),)
    bare = ServerPolicy(metadata=SERVER, authorizations=(mk_authorization("all"),), denials=denials)
    request = Request("GET", "/any?thing")
    assert decide_any(bare, client) == decide_request(bare, client, request)
    routed = replace(bare, authorizations=(), routes=(route,))
    wanted = None if method else decide_request(routed, client, request)
    assert decide_any(routed, client) == wanted
    assert decide_any(ROUTED, client) is None
    assert decide_any(replace(bare, invalid="x"), client) is None
    assert decide_any(replace(bare, protocol=Protocol.OPAQUE), client) is None


def test_a_permit_carries_what_the_rule_does() -> None:
    """Filters come after authorization: only a permit has them."""
    redirect = Redirect(host="else.where")
    match = HttpMatch(path=PathMatch(PathMatchKind.PREFIX, "/old"))
    route = InboundRoute(
        metadata=Metadata(kind="HTTPRoute", name="r"),
        rules=(
            InboundRule(matches=(HttpMatch(method="PUT"),)),
            InboundRule(matches=(match,), filters=(redirect,)),
        ),
        authorizations=(mk_authorization("cli", MESHED),),
    )
    policy = ServerPolicy(metadata=SERVER, routes=(route,))
    permit = decide_request(policy, MESHED, Request("GET", "/old/x"))
    assert isinstance(permit, Permit)
    assert (permit.filters, permit.match) == ((redirect,), match)
    assert isinstance(decide_request(policy, STRANGER, Request("GET", "/old/x")), Refusal)
    again = decide_request(policy, MESHED, Request("GET", "/old/y"))
    assert again is permit


def test_a_denial_spares_probes_and_the_pod_itself() -> None:
    """Deny beats all but localhost and probes; the route's denial is asked first."""
    policy = ServerPolicy(
        metadata=SERVER,
        authorizations=(mk_authorization("all"),),
        denials=(mk_authorization("nobody"),),
        routes=(
            PROBE_ROUTE,
            replace(mk_route("r", "/a"), denials=(mk_authorization("not-on-r"),)),
        ),
    )
    probe = decide_request(policy, PLAIN, Request("GET", "/live"))
    assert isinstance(probe, Permit)
    assert probe.authorization == PROBE
    assert isinstance(decide_request(policy, INSIDE, Request("GET", "/a")), Permit)
    refused = decide_request(policy, MESHED, Request("GET", "/a"))
    assert isinstance(refused, Refusal)
    assert refused.denial is not None
    assert refused.denial.name == "not-on-r"
    assert refused.route is not None


def test_a_denial_on_one_route_leaves_the_others() -> None:
    """A route's denial holds on that route alone."""
    policy = ServerPolicy(
        metadata=SERVER,
        authorizations=(mk_authorization("all"),),
        routes=(
            replace(mk_route("r", "/a"), denials=(mk_authorization("no", MESHED),)),
            mk_route("s", "/b"),
        ),
    )
    assert isinstance(decide_request(policy, MESHED, Request("GET", "/a")), Refusal)
    assert isinstance(decide_request(policy, STRANGER, Request("GET", "/a")), Permit)
    assert isinstance(decide_request(policy, MESHED, Request("GET", "/b")), Permit)


def test_a_refusal_lists_the_route_s_attempts_before_the_server_s() -> None:
    """And after them what of either could not be tried."""
    void = Attempt(
        authorization=Metadata(kind="authorizationpolicy", name="broken"),
        clause=Clause.REFERENCE,
        failed="it refers to nothing",
    )
    routes = (replace(ROUTED.routes[0], void=(void,)), *ROUTED.routes[1:])
    verdict = decide_request(replace(ROUTED, routes=routes), PLAIN, Request("GET", "/a"))
    assert isinstance(verdict, Refusal)
    assert [each.authorization.name for each in verdict.attempts] == [
        "on-r",
        "server-wide",
        "localhost",
        "broken",
    ]


def test_an_expression_that_cannot_be_used_makes_the_policy_invalid() -> None:
    """Fail closed: everyone is refused, connections and requests."""
    match = HttpMatch(path=PathMatch(PathMatchKind.REGEX, "["))
    route = InboundRoute(metadata=DEFAULT_ROUTE, rules=(InboundRule(matches=(match,)),))
    policy = ServerPolicy(
        metadata=SERVER, authorizations=(mk_authorization("all"),), routes=(route,)
    )
    for verdict in (
        decide_request(policy, INSIDE, Request("GET", "/")),
        decide_connection(policy, MESHED),
    ):
        assert isinstance(verdict, Refusal)
        assert verdict.code == "policy-invalid"


@pytest.mark.parametrize("protocol", [Protocol.OPAQUE, Protocol.TLS])
def test_a_port_of_bytes_knows_no_requests(protocol: Protocol) -> None:
    """A port that turned opaque answers open HTTP connections with 404, as linkerd2-proxy."""
    policy = ServerPolicy(
        metadata=SERVER, protocol=protocol, authorizations=(mk_authorization("all"),)
    )
    verdict = decide_request(policy, MESHED, Request("GET", "/"))
    assert isinstance(verdict, Refusal)
    assert verdict.code == "route-not-found"
    assert isinstance(decide_connection(policy, MESHED), Permit)


def test_audited_policies_of_route_and_server_speak() -> None:
    """A probe would stay; another caller would be kept out by what is tried."""
    tried = mk_authorization("tried", MESHED, is_audit=True)
    on_route = mk_authorization("tried-on-r", STRANGER, is_audit=True)
    default = replace(mk_authorization("d"), metadata=default_metadata("all-unauthenticated"))
    policy = ServerPolicy(
        metadata=SERVER,
        authorizations=(tried, default),
        routes=(PROBE_ROUTE, mk_route("r", "/a", on_route)),
    )
    on_r = decide_request(policy, MESHED, Request("GET", "/a"))
    probe = decide_request(policy, PLAIN, Request("GET", "/live"))
    assert isinstance(on_r, Permit)
    assert isinstance(probe, Permit)
    assert on_r.audits == (
        Audit(on_route.metadata, would_allow=False),
        Audit(tried.metadata, would_allow=True),
    )
    assert probe.audits == (Audit(tried.metadata, would_allow=True),)


def test_headers_are_wanted_only_where_a_match_looks_at_them() -> None:
    """The data plane may spare itself the reading."""
    match = HttpMatch(headers=(HeaderMatch("x", "1"),))
    route = InboundRoute(metadata=DEFAULT_ROUTE, rules=(InboundRule(matches=(match,)),))
    assert reads_headers(ServerPolicy(metadata=SERVER, routes=(route,)))
    assert not reads_headers(ROUTED)

"""The matcher: what matches, and which of several matches wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Metadata
from policy.match import MAX_QUERY_FIELDS, Precedence, Request, RouteTable
from policy.model import InboundRoute, InboundRule
from policy.route import (
    GrpcMatch,
    HeaderMatch,
    HostMatch,
    HttpMatch,
    PathMatch,
    PathMatchKind,
    QueryMatch,
)

LINKERD, GATEWAY_API = Precedence.LINKERD, Precedence.GATEWAY_API


def mk_exact(value: str, method: str = "", *headers: HeaderMatch) -> HttpMatch:
    """Build an exact path match."""
    return HttpMatch(path=PathMatch(PathMatchKind.EXACT, value), method=method, headers=headers)


def mk_prefix(value: str, method: str = "", *headers: HeaderMatch) -> HttpMatch:
    """Build a prefix match."""
    return HttpMatch(path=PathMatch(PathMatchKind.PREFIX, value), method=method, headers=headers)


def mk_regex(value: str, method: str = "") -> HttpMatch:
    """Build an expression match."""
    return HttpMatch(path=PathMatch(PathMatchKind.REGEX, value), method=method)


def mk_route(*matches: HttpMatch | GrpcMatch, hosts: tuple[HostMatch, ...] = ()) -> InboundRoute:
    """Build a route with one rule of these matches."""
    return InboundRoute(
        metadata=Metadata(kind="HTTPRoute", name="r"),
        hosts=hosts,
        rules=(InboundRule(matches=matches),),
    )


def find(
    routes: list[InboundRoute], request: Request, precedence: Precedence = LINKERD
) -> int | None:
    """Return the index of the route that a request means."""
    found = RouteTable(routes, precedence).find(request)
    return None if found is None else found.route


def get(target: str, host: str = "", *headers: tuple[bytes, bytes]) -> Request:
    """Build a GET request."""
    path, _, query = target.partition("?")
    return Request("GET", path, host, query, headers)


@pytest.mark.parametrize(
    ("match", "path", "is_match"),
    [
        (mk_exact("/a"), "/a", True),
        (mk_exact("/a"), "/a/", False),
        (mk_exact("/a"), "/A", False),
        (mk_exact("/a/"), "/a/", True),
        (mk_prefix("/api"), "/api", True),
        (mk_prefix("/api"), "/api/", True),
        (mk_prefix("/api"), "/api/x/y", True),
        (mk_prefix("/api"), "/apis", False),
        (mk_prefix("/api/"), "/api", True),
        (mk_prefix("/api/"), "/apis", False),
        (mk_prefix("/api"), "/api//x", True),
        (mk_prefix("/api"), "//api", False),
        (mk_prefix("/"), "/anything/at/all", True),
        (mk_prefix("/"), "/", True),
        (mk_prefix("/"), "*", True),
        (mk_prefix("/a/b"), "/a", False),
        (mk_prefix("/a/b"), "/a/b/c/d/e/f", True),
        (mk_regex("/a/[0-9]+"), "/a/12", True),
        (mk_regex("/a/[0-9]+"), "/a/12/x", False),
        (mk_regex("/a/[0-9]+"), "x/a/12", False),
        (mk_regex("/a|/b/c"), "/b/c", True),
        (mk_regex("(?i)/a"), "/A", True),
        (mk_regex(r"/v1\.0?/x"), "/v1./x", True),
        (mk_regex("/ab*"), "/a", True),
        (mk_regex("/ab+"), "/a", False),
        (mk_regex("^/ab+$"), "/abb", True),
        (mk_regex(".*"), "", True),
        (HttpMatch(), "/x", True),
    ],
)
def test_paths(match: HttpMatch, path: str, is_match: bool) -> None:
    """Exact by bytes, prefixes by whole segments, expressions by the whole path."""
    assert (find([mk_route(match)], get(path)) == 0) is is_match


HEADER = HeaderMatch("X-Tenant", "blue")
HEADER_REGEX = HeaderMatch("x-tenant", "b.*", is_regex=True)
QUERY = QueryMatch("q", "a b")


@pytest.mark.parametrize(
    ("match", "request_", "is_match"),
    [
        (HttpMatch(method="GET"), get("/"), True),
        (HttpMatch(method="POST"), get("/"), False),
        (HttpMatch(method="get"), get("/"), False),
        (HttpMatch(headers=(HEADER,)), get("/", "", (b"x-tenant", b"blue")), True),
        (HttpMatch(headers=(HEADER,)), get("/", "", (b"X-TENANT", b"blue")), True),
        (HttpMatch(headers=(HEADER,)), get("/", "", (b"x-tenant", b"blues")), False),
        (HttpMatch(headers=(HEADER,)), get("/"), False),
        (
            HttpMatch(headers=(HEADER,)),
            get("/", "", (b"x-tenant", b"red"), (b"x-tenant", b"blue")),
            True,
        ),
        (HttpMatch(headers=(HEADER_REGEX,)), get("/", "", (b"x-tenant", b"blues")), True),
        (HttpMatch(headers=(HEADER_REGEX,)), get("/", "", (b"x-tenant", b"a blue")), False),
        (HttpMatch(headers=(HEADER_REGEX,)), get("/", "", (b"x-tenant", b"b\xff")), False),
        (HttpMatch(query=(QUERY,)), get("/?q=a+b"), True),
        (HttpMatch(query=(QUERY,)), get("/?x=1&q=a%20b"), True),
        (HttpMatch(query=(QUERY,)), get("/?q=1&q=a+b"), True),
        (HttpMatch(query=(QUERY,)), get("/?Q=a+b"), False),
        (HttpMatch(query=(QueryMatch("q", ""),)), get("/?q"), True),
        (HttpMatch(query=(QueryMatch("q", "[0-9]+", is_regex=True),)), get("/?q=42"), True),
        (HttpMatch(query=(QueryMatch("q", "[0-9]+", is_regex=True),)), get("/?q=42a"), False),
    ],
)
def test_methods_headers_and_query(match: HttpMatch, request_: Request, is_match: bool) -> None:
    """All of a match's parts must hold; any occurrence of a header or parameter will do."""
    assert (find([mk_route(match)], request_) == 0) is is_match


@pytest.mark.parametrize(
    ("hosts", "host", "is_match"),
    [
        ((HostMatch("x.app"),), "x.app", True),
        ((HostMatch("x.app"),), "X.App:80", True),
        ((HostMatch("X.app"),), "x.app", True),
        ((HostMatch("x.app"),), "x.app.", True),
        ((HostMatch("x.app."),), "x.app", False),
        ((HostMatch("x.app"),), "y.x.app", False),
        ((HostMatch("x.app"),), "", False),
        ((HostMatch("x.app", is_suffix=True),), "y.x.app", True),
        ((HostMatch("x.app", is_suffix=True),), "z.y.x.app:8080", True),
        ((HostMatch("x.app", is_suffix=True),), "x.app", False),
        ((HostMatch("x.app", is_suffix=True),), "yx.app", False),
        ((HostMatch("0.0.1", is_suffix=True),), "127.0.0.1", False),
        ((HostMatch("[::1]"),), "[::1]:80", True),
        ((HostMatch("a"), HostMatch("b")), "b", True),
        ((HostMatch("x.app"),), "user@x.app", True),
        ((HostMatch("x", is_suffix=True),), "a." * 128 + "x", False),
    ],
)
def test_hosts(hosts: tuple[HostMatch, ...], host: str, is_match: bool) -> None:
    """Case and port do not count; a suffix wants a label in front; no host matches no name."""
    assert (find([mk_route(hosts=hosts)], get("/", host)) == 0) is is_match


CALL = Request("POST", "/svc.S/M")


@pytest.mark.parametrize(
    ("match", "request_", "is_match"),
    [
        (GrpcMatch(service="svc.S", method="M"), CALL, True),
        (GrpcMatch(service="svc.S"), CALL, True),
        (GrpcMatch(method="M"), CALL, True),
        (GrpcMatch(), CALL, True),
        (GrpcMatch(service="svc.S", method="Other"), CALL, False),
        (GrpcMatch(service="svc.S", method="M"), Request("GET", "/svc.S/M"), False),
        (GrpcMatch(), Request("POST", "/svc.S"), False),
        (GrpcMatch(), Request("POST", "/svc.S/"), False),
        (GrpcMatch(), Request("POST", "/svc.S/M/x"), False),
        (GrpcMatch(service="svc\\..*", is_regex=True), CALL, True),
        (GrpcMatch(service="svc", is_regex=True), CALL, False),
        (GrpcMatch(service="svc.S", method="[A-Z]", is_regex=True), CALL, True),
        (GrpcMatch(service="svc.S", method="[a-z]", is_regex=True), CALL, False),
        (
            GrpcMatch(headers=(HEADER,)),
            Request("POST", "/svc.S/M", headers=((b"x-tenant", b"blue"),)),
            True,
        ),
        (GrpcMatch(headers=(HEADER,)), CALL, False),
    ],
)
def test_calls(match: GrpcMatch, request_: Request, is_match: bool) -> None:
    """A call is a POST to /service/method; an empty part stands for any."""
    assert (find([mk_route(match)], request_) == 0) is is_match


TENANT = (b"x-tenant", b"blue")


@pytest.mark.parametrize(
    ("routes", "request_", "linkerd", "gateway_api"),
    [
        ([mk_route(mk_prefix("/")), mk_route(mk_prefix("/admin"))], get("/admin/x"), 1, 1),
        ([mk_route(mk_prefix("/abc")), mk_route(mk_exact("/abc"))], get("/abc"), 0, 1),
        ([mk_route(mk_exact("/abc")), mk_route(mk_prefix("/abc"))], get("/abc"), 0, 0),
        ([mk_route(mk_prefix("/")), mk_route(mk_exact("/"))], get("/"), 0, 1),
        ([mk_route(mk_exact("/abc")), mk_route(mk_prefix("/abc", "GET"))], get("/abc"), 1, 0),
        ([mk_route(mk_prefix("/abc")), mk_route(mk_regex("/a.*"))], get("/abc"), 0, 1),
        ([mk_route(mk_prefix("/abc")), mk_route(mk_regex("/a.*"))], get("/abc/d"), 1, 1),
        ([mk_route(mk_regex("/a.*")), mk_route(mk_exact("/abc"))], get("/abc"), 0, 1),
        ([mk_route(mk_regex("/.*")), mk_route(mk_regex("/abc|/x", "GET"))], get("/abc"), 1, 1),
        ([mk_route(mk_regex("/a.*")), mk_route(mk_regex("/abc"))], get("/abc"), 0, 0),
        (
            [mk_route(mk_prefix("/", "GET")), mk_route(mk_prefix("/", "", HEADER))],
            get("/", "", TENANT),
            1,
            0,
        ),
        (
            [
                mk_route(HttpMatch(query=(QUERY, QueryMatch("z", "1")))),
                mk_route(HttpMatch(headers=(HEADER,))),
            ],
            get("/?q=a+b&z=1", "", TENANT),
            1,
            1,
        ),
        ([mk_route(HttpMatch()), mk_route(mk_prefix("/"))], get("/x"), 1, 0),
        ([mk_route(mk_prefix("/")), mk_route(mk_prefix("/"))], get("/x"), 0, 0),
        (
            [
                mk_route(mk_exact("/long/path")),
                mk_route(mk_prefix("/"), hosts=(HostMatch("app", is_suffix=True),)),
                mk_route(mk_prefix("/"), hosts=(HostMatch("y.app", is_suffix=True),)),
                mk_route(mk_prefix("/l"), hosts=(HostMatch("x.y.app"),)),
            ],
            get("/long/path", "x.y.app"),
            2,
            2,
        ),
        (
            [mk_route(GrpcMatch(method="M")), mk_route(GrpcMatch(service="svc.S"))],
            CALL,
            1,
            1,
        ),
        (
            [
                mk_route(GrpcMatch(service="svc.S")),
                mk_route(GrpcMatch(service="svc.S", method="M")),
            ],
            CALL,
            1,
            1,
        ),
    ],
)
def test_two_precedences(
    routes: list[InboundRoute], request_: Request, linkerd: int, gateway_api: int
) -> None:
    """Linkerd counts matched characters; the Gateway API puts exact first, then method."""
    assert find(routes, request_, LINKERD) == linkerd
    assert find(routes, request_, GATEWAY_API) == gateway_api


def test_the_gateway_apis_own_path_order() -> None:
    """The HTTPRoutePathMatchOrder cases of the Gateway API's conformance suite."""
    routes = [
        mk_route(mk_exact("/match")),
        mk_route(mk_exact("/match/exact")),
        mk_route(mk_exact("/match/exact/one")),
        mk_route(mk_prefix("/match/")),
        mk_route(mk_prefix("/match/prefix/")),
        mk_route(mk_prefix("/match/prefix/one")),
    ]
    seen = {
        path: find(routes, get(path), GATEWAY_API)
        for path in (
            "/match/exact/one",
            "/match/exact",
            "/match",
            "/match/prefix/one/any",
            "/match/prefix/any",
            "/match/any",
        )
    }
    assert list(seen.values()) == [2, 1, 0, 5, 4, 3]


def test_a_rule_without_matches_takes_every_request() -> None:
    """No match list is a match of everything, POST or not."""
    assert find([mk_route()], Request("DELETE", "/x")) == 0
    assert find([], get("/")) is None


def test_rule_and_route_are_told() -> None:
    """What is found says which rule of which route."""
    route = InboundRoute(
        metadata=Metadata(kind="HTTPRoute", name="r"),
        rules=(
            InboundRule(matches=(mk_exact("/a"),)),
            InboundRule(matches=(mk_exact("/b"), mk_exact("/c"))),
        ),
    )
    found = RouteTable([mk_route(mk_exact("/z")), route], LINKERD).find(get("/c"))
    assert found is not None
    assert (found.route, found.rule, found.http) == (1, 1, mk_exact("/c"))


def test_query_parameters_are_seen_up_to_the_bound() -> None:
    """The last parameter within the bound counts, one past it does not."""
    routes = [mk_route(HttpMatch(query=(QueryMatch("q", "1"),)))]
    filler = "&".join(["a=1"] * (MAX_QUERY_FIELDS - 1))
    assert find(routes, get(f"/?{filler}&q=1")) == 0
    assert find(routes, get(f"/?{filler}&a=1&q=1")) is None


def test_it_says_whether_headers_are_looked_at() -> None:
    """A table without header matches lets its caller skip them."""
    assert not RouteTable([mk_route(mk_exact("/a"))], LINKERD).reads_headers
    assert RouteTable(
        [mk_route(mk_exact("/a"), HttpMatch(headers=(HEADER,)))], LINKERD
    ).reads_headers


_PATHS = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=4).map(
    lambda p: "/" + "/".join(p)
)
_MATCHES = st.builds(
    HttpMatch,
    path=st.none()
    | st.builds(PathMatch, st.sampled_from([PathMatchKind.EXACT, PathMatchKind.PREFIX]), _PATHS)
    | st.builds(
        PathMatch,
        st.just(PathMatchKind.REGEX),
        st.sampled_from(["/a.*", "/.*", "/a|/b", "/ab?/.*", "/(a|b)/a", ".*b"]),
    ),
    method=st.sampled_from(["", "GET", "PUT"]),
    headers=st.sampled_from([(), (HeaderMatch("h", "1"),)]),
)
_ROUTES = st.lists(st.lists(_MATCHES, max_size=3).map(lambda m: mk_route(*m)), max_size=6)


def _slow_find(routes: list[InboundRoute], request: Request, precedence: Precedence) -> int | None:
    """Find by trying everything: the rules of the module's docstring, word for word."""
    best: tuple[tuple[int, ...], int] | None = None
    for index, route in enumerate(routes):
        for rule in route.rules:
            for match in rule.matches or (HttpMatch(),):
                assert isinstance(match, HttpMatch)
                if find([mk_route(match)], request) is None:
                    continue
                rank = _slow_rank(match, request, precedence)
                if best is None or rank > best[0]:
                    best = rank, index
    return None if best is None else best[1]


def _slow_rank(match: HttpMatch, request: Request, precedence: Precedence) -> tuple[int, ...]:
    kind, length = 0, 0
    if match.path is not None:
        is_prefix = match.path.kind is PathMatchKind.PREFIX
        length = (len(match.path.value.rstrip("/")) or 1) if is_prefix else len(request.path)
        kind = {"Exact": 2, "RegularExpression": 1, "PathPrefix": 0}[match.path.kind.value]
    headers, query, method = len(match.headers), len(match.query), int(bool(match.method))
    if precedence is LINKERD:
        return length, headers, query, method
    return kind, (length or 1) if kind == 0 else 0, method, headers, query


@given(
    _ROUTES,
    _PATHS,
    st.sampled_from(["GET", "PUT", "POST"]),
    st.booleans(),
    st.sampled_from([LINKERD, GATEWAY_API]),
)
def test_the_table_finds_what_trying_everything_finds(
    routes: list[InboundRoute], path: str, method: str, has_header: bool, precedence: Precedence
) -> None:
    """Hashing is only faster: the outcome is that of the written order."""
    request = Request(method, path, headers=((b"h", b"1"),) if has_header else ())
    assert find(routes, request, precedence) == _slow_find(routes, request, precedence)


@pytest.mark.parametrize("precedence", [LINKERD, GATEWAY_API])
def test_the_only_alternative_needs_no_request(precedence: Precedence) -> None:
    """Whatever is asked for, it is found; with anything wanted or anything beside it, it is not."""
    for everything in (mk_route(), mk_route(HttpMatch()), mk_route(mk_prefix("/"))):
        table = RouteTable([everything], precedence)
        assert table.only is not None
        for request in (get("/"), get("/a/b?c", "host"), Request("OPTIONS", "*"), Request("X", "")):
            assert table.find(request) is table.only
    choosy: tuple[list[InboundRoute], ...] = (
        [],
        [mk_route(), mk_route()],
        [mk_route(HttpMatch(), HttpMatch())],
        [mk_route(hosts=(HostMatch("a"),))],
        [mk_route(mk_prefix("/a"))],
        [mk_route(HttpMatch(method="GET"))],
        [mk_route(HttpMatch(headers=(HeaderMatch("x", "1"),)))],
        [mk_route(GrpcMatch())],
    )
    for routes in choosy:
        assert RouteTable(routes, precedence).only is None

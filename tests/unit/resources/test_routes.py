"""Routes: HTTPRoute of both groups and GRPCRoute, by the Gateway API's rules."""

from __future__ import annotations

import pytest

from resources.document import Problem
from resources.manifest import parse_manifest
from resources.route import (
    ROOT_PREFIX,
    BackendRef,
    CallCondition,
    CorsFilter,
    HeaderEdit,
    HttpCondition,
    MirrorFilter,
    ParentRef,
    PathCondition,
    PathEdit,
    RedirectFilter,
    RewriteFilter,
    Route,
    RouteRetry,
    UnknownFilter,
    ValueCondition,
)

GATEWAY = "gateway.networking.k8s.io"


def read(
    kind: str, spec: str, version: str = f"{GATEWAY}/v1"
) -> tuple[Route | None, tuple[Problem, ...]]:
    """Parse one route of namespace app with this spec, in flow style."""
    text = (
        f"{{apiVersion: {version}, kind: {kind},"
        f" metadata: {{name: one, namespace: app}}, spec: {spec}}}"
    )
    (document,) = parse_manifest("r.yaml", text.encode()).documents
    assert document.resource is None or isinstance(document.resource, Route)
    return document.resource, document.problems


def good(kind: str, spec: str, version: str = f"{GATEWAY}/v1") -> Route:
    """Parse a route without mistakes."""
    route, problems = read(kind, spec, version)
    assert problems == ()
    assert route is not None
    return route


def paths(kind: str, spec: str) -> list[str]:
    """Return the fields of all mistakes, without ``spec.``."""
    _, problems = read(kind, spec)
    return [each.path.removeprefix("spec").removeprefix(".") for each in problems]


def rule(text: str) -> str:
    """Return a spec with one rule."""
    return f"{{rules: [{text}]}}"


@pytest.mark.parametrize(
    "version",
    [
        f"{GATEWAY}/v1",
        f"{GATEWAY}/v1beta1",
        "policy.linkerd.io/v1beta3",
        "policy.linkerd.io/v1alpha1",
    ],
)
def test_defaults(version: str) -> None:
    """Without rules one that takes everything; without matches the prefix /."""
    empty = good("HTTPRoute", "{}", version)
    assert [each.matches for each in empty.rules] == [(HttpCondition(path=ROOT_PREFIX),)]
    assert not empty.is_grpc
    bare = good("HTTPRoute", rule("{matches: [{method: GET}, {}]}"), version)
    assert bare.rules[0].matches == (HttpCondition(method="GET"), HttpCondition())


def test_an_http_route_with_everything() -> None:
    """Every field is read."""
    route = good(
        "HTTPRoute",
        """{parentRefs: [{group: policy.linkerd.io, kind: Server, name: srv},
          {group: '', kind: Service, name: web, namespace: shop, port: 80, sectionName: http}],
        hostnames: [x.app, '*.y.app'],
        rules: [{name: main, matches: [{path: {type: Exact, value: /a}, method: POST,
          headers: [{name: X-A, value: b}, {type: RegularExpression, name: c, value: 'd.*'}],
          queryParams: [{name: q, value: '1'}]},
          {path: {type: RegularExpression, value: '/v[0-9]+'}}],
        filters: [
          {type: RequestHeaderModifier, requestHeaderModifier:
            {set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}},
          {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}},
          {type: URLRewrite, urlRewrite:
            {hostname: in.side, path: {type: ReplaceFullPath, replaceFullPath: /z}}},
          {type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}, percent: 20}},
          {type: RequestMirror, requestMirror:
            {backendRef: {name: copy, port: 80}, fraction: {numerator: 1, denominator: 3}}},
          {type: CORS, cors: {allowOrigins: ['https://a.example'], allowCredentials: true,
            allowMethods: [GET], allowHeaders: [x], exposeHeaders: [y], maxAge: 60}},
          {type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}],
        backendRefs: [{name: v1, port: 8080, weight: 9}, {name: v2, namespace: other, port: 81,
          filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [e]}}]}],
        timeouts: {request: 1m30s, backendRequest: 500ms},
        retry: {codes: [500, 503], attempts: 3, backoff: 100ms}}]}""",
    )
    assert route.parents == (
        ParentRef(group="policy.linkerd.io", kind="Server", namespace="app", name="srv"),
        ParentRef(group="", kind="Service", namespace="shop", name="web", section="http", port=80),
    )
    assert route.hostnames == ("x.app", "*.y.app")
    (one,) = route.rules
    assert one.name == "main"
    assert one.matches == (
        HttpCondition(
            path=PathCondition("Exact", "/a"),
            method="POST",
            headers=(ValueCondition("X-A", "b"), ValueCondition("c", "d.*", is_regex=True)),
            query=(ValueCondition("q", "1"),),
        ),
        HttpCondition(path=PathCondition("RegularExpression", "/v[0-9]+")),
    )
    copy = BackendRef(namespace="app", name="copy", port=80)
    assert one.filters == (
        HeaderEdit(set=(("a", "b"),), add=(("c", "d"),), remove=("e",)),
        HeaderEdit(is_response=True, remove=("server",)),
        RewriteFilter(hostname="in.side", path=PathEdit("ReplaceFullPath", "/z")),
        MirrorFilter(backend=copy, numerator=20, denominator=100),
        MirrorFilter(backend=copy, numerator=1, denominator=3),
        CorsFilter(
            allow_origins=("https://a.example",),
            allow_credentials=True,
            allow_methods=("GET",),
            allow_headers=("x",),
            expose_headers=("y",),
            max_age_s=60,
        ),
        UnknownFilter("ExtensionRef"),
    )
    assert [(each.name, each.namespace, each.weight) for each in one.backends] == [
        ("v1", "app", 9),
        ("v2", "other", 1),
    ]
    assert one.backends[1].filters == (HeaderEdit(remove=("e",)),)
    assert (one.request_timeout_s, one.backend_timeout_s) == (90.0, 0.5)
    assert one.retry == RouteRetry(codes=(500, 503), attempts=3, backoff_s=0.1)


def test_a_redirect() -> None:
    """Its status is 302 when not given; prefix replacement with its one prefix match."""
    route = good(
        "HTTPRoute",
        rule("""{matches: [{path: {value: /old}}], filters: [{type: RequestRedirect,
        requestRedirect: {scheme: https, hostname: x.app, port: 8443,
        path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]}"""),
    )
    assert route.rules[0].filters == (
        RedirectFilter(
            scheme="https",
            hostname="x.app",
            port=8443,
            path=PathEdit("ReplacePrefixMatch", "/new"),
        ),
    )


def test_a_grpc_route() -> None:
    """Service, method and headers; a rule without matches takes every call; no default rule."""
    route = good(
        "GRPCRoute",
        """{rules: [{matches: [{method: {service: svc.S, method: M},
        headers: [{name: a, value: b}]}, {method: {type: RegularExpression, service: 'a.*'}}]},
        {}]}""",
    )
    assert route.is_grpc
    assert route.rules[0].matches == (
        CallCondition(service="svc.S", method="M", headers=(ValueCondition("a", "b"),)),
        CallCondition(service="a.*", is_regex=True),
    )
    assert route.rules[1].matches == (CallCondition(),)
    assert good("GRPCRoute", "{}").rules == ()


LONG = "x" * 1025
PREFIX_EDIT = (
    "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}"
)
REDIRECT = "{type: RequestRedirect, requestRedirect: {}}"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{parentRefs: [{}]}", ["parentRefs[0].name"]),
        ("{parentRefs: [{name: a, kind: A_B}]}", ["parentRefs[0].kind"]),
        ("{parentRefs: [{name: a, port: 0}]}", ["parentRefs[0].port"]),
        ("{parentRefs: [{name: a}, {name: a}]}", ["parentRefs[1]"]),
        ("{parentRefs: [{name: a, port: 1}, {name: a, port: 2}]}", []),
        (
            "{parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: a}]}",
            ["parentRefs[0].port"],
        ),
        (f"{{parentRefs: [{', '.join(f'{{name: a{n}}}' for n in range(33))}]}}", ["parentRefs"]),
        ("{hostnames: [10.0.0.1]}", ["hostnames"]),
        ("{hostnames: ['a.*.b', A.b, '*']}", ["hostnames", "hostnames", "hostnames"]),
        (f"{{hostnames: [{', '.join(f'a{n}' for n in range(17))}]}}", ["hostnames"]),
        (f"{{rules: [{', '.join(['{}'] * 17)}]}}", ["rules"]),
        (f"{{rules: [{{matches: [{', '.join(['{}'] * 65)}]}}]}}", ["rules[0].matches"]),
        (
            "{rules: [" + ", ".join(["{matches: [" + ", ".join(["{}"] * 43) + "]}"] * 3) + "]}",
            ["rules"],
        ),
        (rule("{matches: [{path: {type: Prefix}}]}"), ["rules[0].matches[0].path.type"]),
        (rule("{matches: [{path: {value: a}}]}"), ["rules[0].matches[0].path.value"]),
        (rule("{matches: [{path: {value: //a}}]}"), ["rules[0].matches[0].path.value"]),
        (rule("{matches: [{path: {value: /a/../b}}]}"), ["rules[0].matches[0].path.value"]),
        (rule("{matches: [{path: {value: /a/..}}]}"), ["rules[0].matches[0].path.value"]),
        (rule("{matches: [{path: {value: /a%2fb}}]}"), ["rules[0].matches[0].path.value"]),
        (rule("{matches: [{path: {value: '/a?b'}}]}"), ["rules[0].matches[0].path.value"]),
        (rule(f"{{matches: [{{path: {{value: /{LONG}}}}}]}}"), ["rules[0].matches[0].path.value"]),
        (
            rule("{matches: [{path: {type: RegularExpression, value: '['}}]}"),
            ["rules[0].matches[0].path.value"],
        ),
        (rule("{matches: [{method: get}]}"), ["rules[0].matches[0].method"]),
        (
            rule("{matches: [{headers: [{name: a b, value: c}]}]}"),
            ["rules[0].matches[0].headers[0].name"],
        ),
        (
            rule("{matches: [{headers: [{name: a, value: b}, {name: A, value: c}]}]}"),
            ["rules[0].matches[0].headers[1].name"],
        ),
        (
            rule("{matches: [{queryParams: [{name: a, type: RegularExpression, value: '('}]}]}"),
            ["rules[0].matches[0].queryParams[0].value"],
        ),
        (rule("{filters: [{type: Redirect}]}"), ["rules[0].filters[0].type"]),
        (rule("{filters: [{type: CORS}]}"), ["rules[0].filters[0].cors"]),
        (
            rule("{filters: [{type: RequestRedirect, requestRedirect: {}, urlRewrite: {}}]}"),
            ["rules[0].filters[0].urlRewrite"],
        ),
        (rule(f"{{filters: [{REDIRECT}, {REDIRECT}]}}"), ["rules[0].filters[1].type"]),
        (
            rule(f"{{filters: [{REDIRECT}, {{type: URLRewrite, urlRewrite: {{}}}}]}}"),
            ["rules[0].filters"],
        ),
        (
            rule(f"{{filters: [{REDIRECT}], backendRefs: [{{name: a, port: 1}}]}}"),
            ["rules[0].backendRefs"],
        ),
        (rule(f"{{filters: [{PREFIX_EDIT}]}}"), []),
        (
            rule(f"{{matches: [{{}}, {{}}], filters: [{PREFIX_EDIT}]}}"),
            ["rules[0].matches"],
        ),
        (
            rule(
                "{matches: [{path: {type: Exact, value: /}}],"
                f" backendRefs: [{{name: a, port: 1, filters: [{PREFIX_EDIT}]}}]}}"
            ),
            ["rules[0].matches"],
        ),
        (
            rule("{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]}"),
            ["rules[0].filters[0].requestRedirect.statusCode"],
        ),
        (
            rule("{filters: [{type: RequestRedirect, requestRedirect: {hostname: '*.a'}}]}"),
            ["rules[0].filters[0].requestRedirect.hostname"],
        ),
        (
            rule(
                "{filters: [{type: RequestRedirect, requestRedirect: {path: {type:"
                " ReplaceFullPath, replacePrefixMatch: /}}}]}"
            ),
            [
                "rules[0].filters[0].requestRedirect.path.replaceFullPath",
                "rules[0].filters[0].requestRedirect.path.replacePrefixMatch",
            ],
        ),
        (
            rule(
                "{filters: [{type: RequestHeaderModifier, requestHeaderModifier:"
                " {set: [{name: a, value: b}], remove: [A]}}]}"
            ),
            ["rules[0].filters[0].requestHeaderModifier"],
        ),
        (
            rule(
                "{filters: [{type: RequestHeaderModifier, requestHeaderModifier:"
                ' {set: [{name: a, value: "b\\nc"}]}}]}'
            ),
            ["rules[0].filters[0].requestHeaderModifier.set[0].value"],
        ),
        (
            rule("{filters: [{type: RequestMirror, requestMirror: {percent: 1, fraction: {}}}]}"),
            [
                "rules[0].filters[0].requestMirror.backendRef",
                "rules[0].filters[0].requestMirror.fraction",
                "rules[0].filters[0].requestMirror.port",
                "rules[0].filters[0].requestMirror.name",
            ],
        ),
        (
            rule("{filters: [{type: CORS, cors: {allowOrigins: ['*', 'https://a'], maxAge: 0}}]}"),
            ["rules[0].filters[0].cors.allowOrigins", "rules[0].filters[0].cors.maxAge"],
        ),
        (rule("{backendRefs: [{name: a}]}"), ["rules[0].backendRefs[0].port"]),
        (
            rule("{backendRefs: [{name: a, port: 1, weight: 1000001}]}"),
            ["rules[0].backendRefs[0].weight"],
        ),
        (rule("{timeouts: {request: 1.5s}}"), ["rules[0].timeouts.request"]),
        (rule("{timeouts: {request: -1s}}"), ["rules[0].timeouts.request"]),
        (
            rule("{timeouts: {request: 1s, backendRequest: 2s}}"),
            ["rules[0].timeouts.backendRequest"],
        ),
        (rule("{timeouts: {request: 0s, backendRequest: 2s}}"), []),
        (
            rule("{retry: {codes: [200, 500, 500], attempts: 0}}"),
            ["rules[0].retry.codes", "rules[0].retry.codes", "rules[0].retry.attempts"],
        ),
    ],
)
def test_mistakes_in_an_http_route(spec: str, expected: list[str]) -> None:
    """Each at its field; what the CRDs allow is no mistake."""
    found = [each.replace("requestMirror.backendRef.", "requestMirror.") for each in
             paths("HTTPRoute", spec)]  # fmt: skip
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (rule("{matches: [{method: {}}]}"), ["rules[0].matches[0].method"]),
        (rule("{matches: [{method: {type: Exact}}]}"), ["rules[0].matches[0].method"]),
        (rule("{matches: [{method: {service: a/b}}]}"), ["rules[0].matches[0].method.service"]),
        (rule("{matches: [{method: {method: a.b}}]}"), ["rules[0].matches[0].method.method"]),
        (
            rule("{matches: [{method: {type: RegularExpression, method: '('}}]}"),
            ["rules[0].matches[0].method.method"],
        ),
        (rule(f"{{filters: [{REDIRECT}]}}"), ["rules[0].filters[0].type"]),
        (rule("{backendRefs: [{name: a}]}"), ["rules[0].backendRefs[0].port"]),
    ],
)
def test_mistakes_in_a_grpc_route(spec: str, expected: list[str]) -> None:
    """Each at its field."""
    assert paths("GRPCRoute", spec) == expected

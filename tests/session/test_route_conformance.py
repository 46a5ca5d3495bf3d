"""The mesh tests of the Gateway API's conformance suite, with more looked at than it looks at.

Each request goes through the client's sidecar and the pod's over mutual TLS; asserted are the
status, who answered in which namespace, the path and headers it was sent, and a redirect's place.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Mesh
from tests.session.echo_pods import (
    CONSUMER_NS,
    MESH_NS,
    Answer,
    Client,
    EchoMesh,
    exact,
    header,
    prefix,
    query,
    route,
    rule,
    run_echo_mesh,
    to,
)


@pytest.fixture
async def echo(mesh: Mesh, tmp_path: Path) -> AsyncIterator[EchoMesh]:
    """Run the pods."""
    async with run_echo_mesh(mesh, tmp_path) as running:
        yield running


@pytest.fixture
async def client(echo: EchoMesh) -> Client:
    """Run a client in the pods' namespace."""
    return await echo.client()


def check(answer: Answer, pod: str, path: str = "") -> None:
    """Assert that a pod answered, and what path it saw."""
    assert answer.status == 200
    assert (answer.said["namespace"], answer.pod) == (MESH_NS, pod)
    if path:
        assert answer.said["path"] == path


async def test_mesh_basic(client: Client) -> None:
    """Without routes any pod of the Service answers."""
    pods = {(await client.get()).pod for _ in range(30)}
    assert pods == {"echo-v1", "echo-v2"}


async def test_mesh_traffic_split(echo: EchoMesh, client: Client) -> None:
    """By exact path; what no rule is for is 404, on every port of the parent."""
    rules = (
        rule(exact("/v1"), backends=[to("echo-v1", 80)]),
        rule(exact("/v2"), backends=[to("echo-v2", 80)]),
    )
    await echo.apply(route("mesh-split", *rules, port=None))
    for port in (80, 8080):
        for _ in range(5):
            check(await client.get("/v1", port=port), "echo-v1", "/v1")
            check(await client.get("/v2", port=port), "echo-v2", "/v2")
        assert (await client.get("/v3", port=port)).status == 404
        assert (await client.get("/v1/", port=port)).status == 404


async def test_simple_same_namespace(echo: EchoMesh, client: Client) -> None:
    """A rule without matches is for everything, always."""
    await echo.apply(route("gateway-conformance-mesh-test", rule(v=1)))
    for _ in range(20):
        check(await client.get("/"), "echo-v1", "/")


async def test_matching(echo: EchoMesh, client: Client) -> None:
    """Longer prefixes before shorter ones, headers where prefixes are as long."""
    await echo.apply(
        route(
            "mesh-matching",
            rule(prefix("/"), header("version", "one"), v=1),
            rule(prefix("/v2"), header("version", "two"), v=2),
        )
    )
    cases: list[tuple[str, dict[str, str], str]] = [
        ("/", {}, "echo-v1"),
        ("/example", {}, "echo-v1"),
        ("/", {"Version": "one"}, "echo-v1"),
        ("/v2", {}, "echo-v2"),
        ("/v2/example", {}, "echo-v2"),
        ("/", {"Version": "two"}, "echo-v2"),
        ("/v2/", {}, "echo-v2"),
        ("/v2example", {}, "echo-v1"),
        ("/foo/v2/example", {}, "echo-v1"),
    ]
    answers = await asyncio.gather(*(client.get(path, headers=h) for path, h, _ in cases))
    for answer, (path, _, pod) in zip(answers, cases, strict=True):
        check(answer, pod, path)


def modifier(**actions: Any) -> dict[str, Any]:
    """Return a RequestHeaderModifier."""
    edits = {
        action: given
        if action == "remove"
        else [{"name": name, "value": value} for name, value in given.items()]
        for action, given in actions.items()
    }
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": edits}


MODIFIERS = {
    "/set": modifier(set={"X-Header-Set": "set-overwrites-values"}),
    "/add": modifier(add={"X-Header-Add": "add-appends-values"}),
    "/remove": modifier(remove=["X-Header-Remove"]),
    "/multiple": modifier(
        set={"X-Header-Set-1": "header-set-1", "X-Header-Set-2": "header-set-2"},
        add={f"X-Header-Add-{n}": f"header-add-{n}" for n in (1, 2, 3)},
        remove=["X-Header-Remove-1", "X-Header-Remove-2"],
    ),
    "/case-insensitivity": modifier(
        set={"X-Header-Set": "header-set"},
        add={"X-Header-Add": "header-add"},
        remove=["X-Header-Remove"],
    ),
}
Named = dict[str, str]
MODIFIED: list[tuple[str, Named, Named, list[str]]] = [
    (
        "/set",
        {"Some-Other-Header": "val"},
        {"Some-Other-Header": "val", "X-Header-Set": "set-overwrites-values"},
        [],
    ),
    (
        "/set",
        {"Some-Other-Header": "val", "X-Header-Set": "some-other-value"},
        {"Some-Other-Header": "val", "X-Header-Set": "set-overwrites-values"},
        [],
    ),
    (
        "/add",
        {"Some-Other-Header": "val"},
        {"Some-Other-Header": "val", "X-Header-Add": "add-appends-values"},
        [],
    ),
    (
        "/add",
        {"Some-Other-Header": "val", "X-Header-Add": "some-other-value"},
        {"X-Header-Add": "some-other-value,add-appends-values", "Some-Other-Header": "val"},
        [],
    ),
    ("/remove", {"X-Header-Remove": "val"}, {}, ["X-Header-Remove"]),
    (
        "/multiple",
        {
            "X-Header-Set-2": "set-val-2",
            "X-Header-Add-2": "add-val-2",
            "X-Header-Remove-2": "remove-val-2",
            "Another-Header": "another-header-val",
        },
        {
            "X-Header-Set-1": "header-set-1",
            "X-Header-Set-2": "header-set-2",
            "X-Header-Add-1": "header-add-1",
            "X-Header-Add-2": "add-val-2,header-add-2",
            "X-Header-Add-3": "header-add-3",
            "Another-Header": "another-header-val",
        },
        ["X-Header-Remove-1", "X-Header-Remove-2"],
    ),
    (
        "/case-insensitivity",
        {
            "x-header-set": "original-val-set",
            "x-header-add": "original-val-add",
            "x-header-remove": "original-val-remove",
            "Another-Header": "another-header-val",
        },
        {
            "X-Header-Set": "header-set",
            "X-Header-Add": "original-val-add,header-add",
            "Another-Header": "another-header-val",
        },
        ["x-header-remove"],
    ),
]


@pytest.mark.parametrize("on_backend", [False, True], ids=["rule", "backend"])
async def test_request_header_modifier(echo: EchoMesh, client: Client, on_backend: bool) -> None:
    """On the rule, and on its backend."""
    rules = []
    for path, edit in MODIFIERS.items():
        if on_backend:
            rules.append(rule(prefix(path), backends=[to("echo-v1", filters=[edit])]))
        else:
            rules.append(rule(prefix(path), v=1, filters=[edit]))
    await echo.apply(route("mesh-request-header-modifier", *rules))
    for path, sent, wanted, absent in MODIFIED:
        answer = await client.get(path, headers=sent)
        check(answer, "echo-v1", path)
        assert {name: answer.seen(name) for name in wanted} == wanted
        assert [answer.seen(name) for name in absent] == [None] * len(absent)


def redirect(**fields: Any) -> dict[str, Any]:
    """Return a RequestRedirect."""
    return {"type": "RequestRedirect", "requestRedirect": fields}


def full(value: str) -> dict[str, str]:
    """Return a modifier of a whole path."""
    return {"type": "ReplaceFullPath", "replaceFullPath": value}


def instead(value: str) -> dict[str, str]:
    """Return a modifier of the prefix that was matched."""
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}


HOST = {"hostname": "example.org"}
REDIRECTS: list[tuple[str, dict[str, Any], str, int, str]] = [
    ("/hostname-redirect", HOST, "/hostname-redirect", 302, "http://example.org/hostname-redirect"),
    (
        "/host-and-status",
        {**HOST, "statusCode": 301},
        "/host-and-status",
        301,
        "http://example.org/host-and-status",
    ),
    (
        "/original-prefix",
        {"path": instead("/replacement-prefix")},
        "/original-prefix/lemon",
        302,
        "http://echo/replacement-prefix/lemon",
    ),
    (
        "/full",
        {"path": full("/full-path-replacement")},
        "/full/path/original",
        302,
        "http://echo/full-path-replacement",
    ),
    (
        "/path-and-host",
        {**HOST, "path": instead("/replacement-prefix")},
        "/path-and-host",
        302,
        "http://example.org/replacement-prefix",
    ),
    (
        "/path-and-status",
        {"statusCode": 301, "path": instead("/replacement-prefix")},
        "/path-and-status",
        301,
        "http://echo/replacement-prefix",
    ),
    (
        "/full-path-and-host",
        {**HOST, "path": full("/replacement-full")},
        "/full-path-and-host",
        302,
        "http://example.org/replacement-full",
    ),
    (
        "/full-path-and-status",
        {"statusCode": 301, "path": full("/replacement-full")},
        "/full-path-and-status",
        301,
        "http://echo/replacement-full",
    ),
    ("/port", {"port": 8083}, "/port", 302, "http://echo:8083/port"),
    (
        "/port-and-host",
        {"port": 8083, **HOST},
        "/port-and-host",
        302,
        "http://example.org:8083/port-and-host",
    ),
    (
        "/port-and-status",
        {"port": 8083, "statusCode": 301},
        "/port-and-status",
        301,
        "http://echo:8083/port-and-status",
    ),
    (
        "/port-and-host-and-status",
        {"port": 8083, "statusCode": 302, **HOST},
        "/port-and-host-and-status",
        302,
        "http://example.org:8083/port-and-host-and-status",
    ),
    ("/scheme", {"scheme": "https"}, "/scheme", 302, "https://echo/scheme"),
    (
        "/scheme-and-host",
        {"scheme": "https", **HOST},
        "/scheme-and-host",
        302,
        "https://example.org/scheme-and-host",
    ),
    (
        "/scheme-and-status",
        {"scheme": "https", "statusCode": 301},
        "/scheme-and-status",
        301,
        "https://echo/scheme-and-status",
    ),
    (
        "/scheme-and-host-and-status",
        {"scheme": "https", "statusCode": 302, **HOST},
        "/scheme-and-host-and-status",
        302,
        "https://example.org/scheme-and-host-and-status",
    ),
    ("/redirect", {"statusCode": 303}, "/redirect", 303, "http://echo/redirect"),
    ("/temporary", {"statusCode": 307}, "/temporary", 307, "http://echo/temporary"),
    ("/permanent", {"statusCode": 308}, "/permanent", 308, "http://echo/permanent"),
    ("/query", HOST, "/query?a=b", 302, "http://example.org/query?a=b"),
]


@pytest.mark.parametrize("start", range(0, len(REDIRECTS), 10))
async def test_redirects(echo: EchoMesh, client: Client, start: int) -> None:
    """Host, status, path, port and scheme, alone and together; no pod is asked."""
    cases = REDIRECTS[start : start + 10]
    rules = [rule(prefix(path), filters=[redirect(**fields)]) for path, fields, *_ in cases]
    await echo.apply(route("mesh-redirect", *rules))
    for _, _, path, status, location in cases:
        answer = await client.get(path)
        assert (answer.status, answer.header("location")) == (status, location), path
    assert not any(pod.seen for pod in echo.pods.values())


def rewrite(**fields: Any) -> dict[str, Any]:
    """Return a URLRewrite."""
    return {"type": "URLRewrite", "urlRewrite": fields}


async def test_rewrite_path(echo: EchoMesh, client: Client) -> None:
    """The path that the pod sees, and headers beside."""
    headers = modifier(
        set={"X-Header-Set": "set-overwrites-values"},
        add={"X-Header-Add": "header-val-1", "X-Header-Add-Append": "header-val-2"},
        remove=["X-Header-Remove"],
    )
    v1 = [to("echo-v1", 80)]
    full_edit, prefix_edit = (
        f"/{each}/rewrite-path-and-modify-headers" for each in ("full", "prefix")
    )
    test, replaced = rewrite(path=full("/test")), rewrite(path=instead("/prefix"))
    await echo.apply(
        route(
            "mesh-rewrite-path",
            rule(prefix("/prefix/one"), filters=[rewrite(path=instead("/one"))], backends=v1),
            rule(prefix("/strip-prefix"), filters=[rewrite(path=instead("/"))], backends=v1),
            rule(prefix("/full/one"), filters=[rewrite(path=full("/one"))], backends=v1),
            rule(prefix(full_edit), filters=[test, headers], backends=v1),
            rule(prefix(prefix_edit), filters=[replaced, headers], backends=v1),
        )
    )
    plain = [
        ("/prefix/one/two", "/one/two"),
        ("/strip-prefix/three", "/three"),
        ("/strip-prefix", "/"),
        ("/full/one/two", "/one"),
        ("/prefix/one/two?a=b&c", "/one/two?a=b&c"),
    ]
    for path, seen in plain:
        check(await client.get(path), "echo-v1", seen)
    sent = {
        "X-Header-Remove": "remove-val",
        "X-Header-Add-Append": "append-val-1",
        "X-Header-Set": "set-val",
    }
    for path, seen in ((f"{full_edit}/test", "/test"), (f"{prefix_edit}/one", "/prefix/one")):
        answer = await client.get(path, headers=sent)
        check(answer, "echo-v1", seen)
        assert answer.seen("X-Header-Add") == "header-val-1"
        assert answer.seen("X-Header-Add-Append") == "append-val-1,header-val-2"
        assert answer.seen("X-Header-Set") == "set-overwrites-values"
        assert answer.seen("X-Header-Remove") is None


async def test_query_param_matching(echo: EchoMesh, client: Client) -> None:
    """Whole values; a longer path and a header count for more."""
    await echo.apply(
        route(
            "mesh-query-param-matching",
            rule(query("whale"), v=1),
            rule(query("dolphin"), v=2),
            rule({**prefix("/path1"), **query("whale")}, v=1),
            rule({**header("version", "one"), **query("whale")}, v=2),
            rule(
                {**prefix("/path3"), **query("shark")},
                {**prefix("/path4"), **header("version", "three"), **query("kraken")},
                v=1,
            ),
            rule(prefix("/path5"), v=1),
            rule(query("hydra"), v=2),
        )
    )
    cases: list[tuple[str, Named, str]] = [
        ("/?animal=whale", {}, "echo-v1"),
        ("/?animal=dolphin", {}, "echo-v2"),
        ("/?animal=whale&otherparam=irrelevant", {}, "echo-v1"),
        ("/?animal=dolphin&color=yellow", {}, "echo-v2"),
        ("/?color=blue", {}, ""),
        ("/?animal=dog", {}, ""),
        ("/?animal=whaledolphin", {}, ""),
        ("/", {}, ""),
        ("/path1?animal=whale", {}, "echo-v1"),
        ("/?animal=whale", {"version": "one"}, "echo-v2"),
        ("/path3?animal=shark", {}, "echo-v1"),
        ("/path4?animal=kraken", {"version": "three"}, "echo-v1"),
        ("/?animal=shark", {}, ""),
        ("/path4?animal=kraken", {}, ""),
        ("/path5?animal=hydra", {}, "echo-v1"),
    ]
    answers = await asyncio.gather(*(client.get(path, headers=h) for path, h, _ in cases))
    for answer, (path, _, pod) in zip(answers, cases, strict=True):
        if pod:
            check(answer, pod, path)
        else:
            assert answer.status == 404, path


async def test_named_rule(echo: EchoMesh, client: Client) -> None:
    """A name changes nothing."""
    await echo.apply(
        route(
            "mesh-http-named-rules",
            rule(prefix("/named"), v=1, name="named-rule"),
            rule(prefix("/unnamed"), v=2),
        )
    )
    check(await client.get("/named"), "echo-v1", "/named")
    check(await client.get("/unnamed"), "echo-v2", "/unnamed")


async def test_weight(echo: EchoMesh, client: Client) -> None:
    """Seventy to thirty over 500 requests, 20 at once, each on a connection of its own."""
    await echo.apply(
        route(
            "mesh-weighted-backends",
            rule(backends=[to("echo-v1", weight=70), to("echo-v2", weight=30)]),
        )
    )
    counted: Counter[str] = Counter()
    room = asyncio.Semaphore(20)

    async def one() -> None:
        async with room:
            counted[(await client.get()).pod] += 1

    await asyncio.gather(*(one() for _ in range(500)))
    assert set(counted) == {"echo-v1", "echo-v2"}
    assert sum(counted.values()) == 500
    assert abs(counted["echo-v1"] / 500 - 0.7) <= 0.05


def response_set(value: str) -> dict[str, Any]:
    """Return a ResponseHeaderModifier."""
    edit = {"set": [{"name": "X-Header-Set", "value": value}]}
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": edit}


async def test_frontend(echo: EchoMesh, client: Client) -> None:
    """A route is met on the Service's address, and not on a pod's."""
    marked = rule(filters=[response_set("set")], backends=[to("echo-v2", 80)])
    await echo.apply(route("mesh-split-v1", marked, parent="echo-v2", port=None))
    answer = await client.get(to="echo-v2")
    check(answer, "echo-v2")
    assert answer.header("X-Header-Set") == "set"
    pod = echo.addresses["echo-v2"]
    answer = await client.get(to=pod.ip, port=pod.port)
    check(answer, "echo-v2")
    assert answer.header("X-Header-Set") is None


async def test_frontend_hostname(echo: EchoMesh, client: Client) -> None:
    """Where a connection goes decides; what Host says does not."""
    marked = rule(filters=[response_set("set")], backends=[to("echo-v2", 80)])
    await echo.apply(route("mesh-split-v1", marked, parent="echo-v2", port=None))
    answer = await client.get(to="echo-v2", host="echo-v1")
    check(answer, "echo-v2")
    assert answer.header("X-Header-Set") == "set"
    assert answer.seen("host") == "echo-v1"
    answer = await client.get(to="echo-v1", host="echo-v2")
    check(answer, "echo-v1")
    assert answer.header("X-Header-Set") is None


async def test_ports(echo: EchoMesh, client: Client) -> None:
    """A parent reference with a port is for that port alone."""
    await echo.apply(
        route(
            "mesh-split-v1",
            rule(filters=[response_set("v1")], backends=[to("echo-v1", 80)]),
            parent="echo-v1",
        ),
        route(
            "mesh-split-v2",
            rule(filters=[response_set("v2")], backends=[to("echo-v2", 80)]),
            parent="echo-v2",
            port=None,
        ),
    )
    for service, port, marked in (
        ("echo-v1", 80, "v1"),
        ("echo-v1", 8080, None),
        ("echo-v2", 80, "v2"),
        ("echo-v2", 8080, "v2"),
    ):
        answer = await client.get(to=service, port=port)
        check(answer, service)
        assert answer.header("X-Header-Set") == marked


async def test_consumer_route(echo: EchoMesh, client: Client) -> None:
    """For the clients of its own namespace alone."""
    consumer = await echo.client(CONSUMER_NS)
    backend = to("echo-v1", 80, namespace=MESH_NS)
    await echo.apply(
        route(
            "mesh-echo-add-header",
            rule(filters=[response_set("set")], backends=[backend]),
            parent="echo-v1",
            port=None,
            namespace=CONSUMER_NS,
        )
    )
    host = f"echo-v1.{MESH_NS}"
    for who, marked in ((consumer, "set"), (client, None)):
        answer = await who.get(to="echo-v1", host=host)
        check(answer, "echo-v1")
        assert answer.header("X-Header-Set") == marked

"""What the Gateway API's conformance suite asks of gateways, asked of routes on Services."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.authority import Mesh
from tests.session.echo_pods import (
    Client,
    EchoMesh,
    exact,
    header,
    prefix,
    route,
    rule,
    run_echo_mesh,
    to,
)
from tests.session.test_balance import metric
from tests.support import manifests

POLICY = "policy.linkerd.io/v1beta3"


@pytest.fixture
async def echo(mesh: Mesh, tmp_path: Path) -> AsyncIterator[EchoMesh]:
    """Run the pods."""
    async with run_echo_mesh(mesh, tmp_path) as running:
        yield running


@pytest.fixture
async def client(echo: EchoMesh) -> Client:
    """Run a client in the pods' namespace."""
    return await echo.client()


async def statuses(client: Client, path: str, count: int) -> Counter[int]:
    """Send requests one after the other; count what comes back."""
    return Counter([(await client.get(path)).status for _ in range(count)])


async def test_backends_that_cannot_be_used(echo: EchoMesh, client: Client) -> None:
    """500 for the share of each, and of nobody else's; 500 for a rule without any."""
    await echo.apply(
        route(
            "broken",
            rule(exact("/kind"), backends=[to("echo-v1", kind="Thing", group="example.org")]),
            rule(exact("/missing"), backends=[to("nobody")]),
            rule(exact("/port"), backends=[to("echo-v1", 81)]),
            rule(exact("/omitted")),
            rule(exact("/empty"), backends=[]),
            rule(exact("/weightless"), backends=[to("echo-v1", weight=0)]),
            rule(exact("/share"), backends=[to("echo-v1"), to("nobody")]),
            rule(exact("/zero"), backends=[to("echo-v1"), to("nobody", weight=0)]),
            rule(
                exact("/filter"),
                v=1,
                filters=[
                    {
                        "type": "ExtensionRef",
                        "extensionRef": {"group": "x.org", "kind": "X", "name": "x"},
                    },
                ],
            ),
            rule(prefix("/fine"), v=2),
        )
    )
    for path in ("/kind", "/missing", "/port", "/omitted", "/empty", "/weightless", "/filter"):
        answer = await client.get(path)
        assert answer.status == 500, path
        assert "HTTPRoute gateway-conformance-mesh/broken" in str(answer.header("l5d-proxy-error"))
    shares = await statuses(client, "/share", 20)
    assert set(shares) == {200, 500}
    assert 9 <= shares[500] <= 11
    assert await statuses(client, "/zero", 10) == {200: 10}
    assert await statuses(client, "/fine", 3) == {200: 3}


async def test_a_backend_without_endpoints_is_503(echo: EchoMesh, client: Client) -> None:
    """For its share; the client is not kept waiting for long."""
    empty = manifests.service(
        "empty", "10.96.1.9", {"port": 80}, namespace="gateway-conformance-mesh"
    )
    await echo.apply(empty, route("empty", rule(backends=[to("echo-v1"), to("empty", 80)])))
    answers = await asyncio.gather(*(client.get("/") for _ in range(20)))
    counted = Counter(each.status for each in answers)
    assert set(counted) == {200, 503}
    assert 9 <= counted[503] <= 11


async def test_a_linkerd_route_without_backends_is_the_service_s(
    echo: EchoMesh, client: Client
) -> None:
    """As in Linkerd, whose routes may only add a timeout."""
    await echo.apply(route("timed", rule(prefix("/")), group=POLICY))
    pods = {(await client.get()).pod for _ in range(30)}
    assert pods == {"echo-v1", "echo-v2"}


async def test_path_order(echo: EchoMesh, client: Client) -> None:
    """Exact before prefix, longer before shorter, an expression in between."""
    await echo.apply(
        route(
            "order",
            rule(prefix("/match/"), v=1),
            rule(exact("/match"), v=1),
            rule(exact("/match/exact"), v=2),
            rule(exact("/match/exact/one"), v=1),
            rule(prefix("/match/prefix/"), v=1),
            rule(prefix("/match/prefix/one"), v=2),
            rule({"path": {"type": "RegularExpression", "value": "/match/r[0-9]+"}}, v=2),
        )
    )
    for path, pod in (
        ("/match/exact/one", "echo-v1"),
        ("/match/exact", "echo-v2"),
        ("/match", "echo-v1"),
        ("/match/prefix/one/any", "echo-v2"),
        ("/match/prefix/any", "echo-v1"),
        ("/match/any", "echo-v1"),
        ("/match/r42", "echo-v2"),
        ("/match/r42/x", "echo-v1"),
    ):
        assert (await client.get(path)).pod == pod, path


async def test_methods(echo: EchoMesh, client: Client) -> None:
    """Path length before method before headers; no method fits by chance.

    The third backend is the Service over both: a request that it gets is not asserted on by pod.
    """
    v3 = [to("echo")]
    get, post, patch = ({"method": each} for each in ("GET", "POST", "PATCH"))
    await echo.apply(
        route(
            "methods",
            rule(post, v=1),
            rule(get, v=2),
            rule({**prefix("/path1"), **get}, v=1),
            rule({**header("version", "one"), "method": "PUT"}, v=2),
            rule({**prefix("/path2"), **header("version", "two"), **post}, backends=v3),
            rule(
                {**prefix("/path3"), **patch},
                {**prefix("/path4"), **header("version", "three"), "method": "DELETE"},
                v=1,
            ),
            rule(prefix("/path5"), v=1),
            rule(patch, v=2),
            rule(header("version", "four"), backends=v3),
        )
    )
    cases: list[tuple[str, str, str, str | None]] = [
        ("POST", "/", "", "echo-v1"),
        ("GET", "/", "", "echo-v2"),
        ("HEAD", "/", "", None),
        ("GET", "/path1", "", "echo-v1"),
        ("PUT", "/", "one", "echo-v2"),
        ("POST", "/path2", "two", "either"),
        ("PATCH", "/path3", "", "echo-v1"),
        ("DELETE", "/path4", "three", "echo-v1"),
        ("PUT", "/", "", None),
        ("DELETE", "/path4", "", None),
        ("PATCH", "/path5", "", "echo-v1"),
        ("PATCH", "/", "four", "echo-v2"),
    ]
    for method, path, version, pod in cases:
        headers = {"version": version} if version else {}
        answer = await client.get(path, method=method, headers=headers)
        assert answer.status == (404 if pod is None else 200), (method, path)
        assert pod in (None, "either", answer.pod), (method, path)


async def test_two_routes_on_one_parent(echo: EchoMesh, client: Client) -> None:
    """Are one table."""
    await echo.apply(
        route("part1", rule(prefix("/"), header("version", "one"), v=1)),
        route("part2", rule(prefix("/v2"), header("version", "two"), v=2)),
    )
    for path, version, pod in (
        ("/", "", "echo-v1"),
        ("/v2", "", "echo-v2"),
        ("/", "two", "echo-v2"),
        ("/", "one", "echo-v1"),
    ):
        answer = await client.get(path, headers={"version": version} if version else {})
        assert answer.pod == pod, (path, version)


async def test_the_older_route_wins_a_tie_then_the_first_name(
    echo: EchoMesh, client: Client
) -> None:
    """And a route made later, or with a later name, changes nothing."""
    old = "2025-01-01T00:00:00Z"
    await echo.apply(route("a", rule(prefix("/"), v=1)), route("b", rule(prefix("/"), v=2)))
    assert {(await client.get()).pod for _ in range(5)} == {"echo-v1"}
    await echo.apply(
        route("a", rule(prefix("/"), v=1)), route("b", rule(prefix("/"), v=2), created=old)
    )
    assert {(await client.get()).pod for _ in range(5)} == {"echo-v2"}


@pytest.mark.parametrize("name", ["request", "backendRequest"])
async def test_timeouts(echo: EchoMesh, client: Client, name: str) -> None:
    """504 at the limit; 0s is none."""
    await echo.apply(
        route(
            "timeouts",
            rule(prefix("/short"), v=1, timeouts={name: "200ms"}),
            rule(prefix("/none"), v=1, timeouts={name: "0s"}),
        )
    )
    began = time.monotonic()
    assert (await client.get("/short?delay=5")).status == 504
    assert time.monotonic() - began < 2
    assert (await client.get("/short")).status == 200
    assert (await client.get("/none?delay=0.4")).status == 200


async def fails(client: Client, path: str, times: int, status: int | str, delay: float = 0) -> int:
    """Ask for something that fails so often, then succeeds; return what the client got."""
    slow = f"&delay={delay}" if delay else ""
    asked = f"{path}?key={uuid4()}&fails={times}&status={status}{slow}"
    return (await client.get(asked, method="POST")).status


async def test_retries(echo: EchoMesh, client: Client) -> None:
    """By status, so often, and only those that are named; a connection that breaks is one too."""
    quick = {"backoff": "10ms"}
    many = [500, 502, 503, 504]
    await echo.apply(
        route(
            "retries",
            rule(prefix("/one"), v=1, retry={"codes": [500], "attempts": 3, **quick}),
            rule(prefix("/four"), v=1, retry={"codes": many, "attempts": 2, **quick}),
            rule(
                prefix("/slow"),
                v=1,
                retry={"codes": [500], "attempts": 2, **quick},
                timeouts={"backendRequest": "200ms"},
            ),
            rule(
                prefix("/budget"),
                v=1,
                retry={"codes": [500], "attempts": 5, "backoff": "1ms"},
                timeouts={"backendRequest": "300ms", "request": "600ms"},
            ),
        )
    )
    assert await fails(client, "/one", 2, 500) == 200
    assert await fails(client, "/one", 4, 500) == 500
    assert await fails(client, "/one", 1, 503) == 503
    for code in many:
        assert await fails(client, "/four", 1, code) == 200
        assert await fails(client, "/four", 3, code) == code
    assert await fails(client, "/slow", 2, 500, 0.6) == 200
    assert await fails(client, "/slow", 3, 500, 0.6) == 504
    assert await fails(client, "/budget", 1, 500) == 200
    assert await fails(client, "/budget", 6, 500, 0.2) == 504
    assert await fails(client, "/one", 2, "reset") == 200
    assert await fails(client, "/one", 4, "reset") == 503


async def test_annotations_of_a_route_go_before_its_rules(echo: EchoMesh, client: Client) -> None:
    """As in Linkerd."""
    slow = rule(prefix("/"), v=1, timeouts={"request": "5s"})
    notes = {
        "timeout.linkerd.io/request": "200ms",
        "retry.linkerd.io/http": "5xx",
        "retry.linkerd.io/limit": "2",
    }
    await echo.apply(route("noted", slow, annotations=notes))
    assert (await client.get("/?delay=3")).status == 504
    assert await fails(client, "/", 2, 503) == 200
    assert await fails(client, "/", 3, 503) == 503


def edit(**actions: Any) -> dict[str, Any]:
    """Return a ResponseHeaderModifier."""
    edits = {
        action: given
        if action == "remove"
        else [{"name": name, "value": value} for name, value in given.items()]
        for action, given in actions.items()
    }
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": edits}


@pytest.mark.parametrize("on_backend", [False, True], ids=["rule", "backend"])
async def test_response_headers(echo: EchoMesh, client: Client, on_backend: bool) -> None:
    """Set, added and removed, over what the pod says."""
    edits = edit(set={"X-Set": "set-overwrites"}, add={"X-Add": "added"}, remove=["X-Remove"])
    backend = to("echo-v1", filters=[edits]) if on_backend else to("echo-v1")
    filters = None if on_backend else [edits]
    await echo.apply(route("response", rule(filters=filters, backends=[backend])))
    answer = await client.get("/?say=x-set:%20old|x-add:%20old|x-remove:%20old|x-stays:%20old")
    named = ("x-set", "x-add", "x-remove", "x-stays")
    assert [answer.header(each) for each in named] == ["set-overwrites", "old,added", None, "old"]
    answer = await client.get("/")
    assert [answer.header(each) for each in named] == ["set-overwrites", "added", None, None]


async def test_rewrites_and_redirects_of_backends(echo: EchoMesh, client: Client) -> None:
    """A host and path on the rule or its backend: the pod sees it, or the client is sent there."""

    def path(kind: str, value: str) -> dict[str, str]:
        return {"type": kind, kind[0].lower() + kind[1:]: value}

    full = path("ReplaceFullPath", "/redirected-full")
    part = path("ReplacePrefixMatch", "/redirected-prefix")

    def rewritten(edits: dict[str, Any]) -> list[dict[str, Any]]:
        return [to("echo-v1", filters=[{"type": "URLRewrite", "urlRewrite": edits}])]

    def redirected(edits: dict[str, Any]) -> list[dict[str, Any]]:
        return [to("echo-v1", filters=[{"type": "RequestRedirect", "requestRedirect": edits}])]

    host = {"type": "URLRewrite", "urlRewrite": {"hostname": "one.example.org"}}
    await echo.apply(
        route(
            "rewrite",
            rule(prefix("/host"), filters=[host], v=1),
            rule(prefix("/backend-host"), backends=rewritten({"hostname": "two.example.org"})),
            rule(prefix("/backend-full"), backends=rewritten({"path": full})),
            rule(prefix("/backend-prefix"), backends=rewritten({"path": part})),
            rule(prefix("/full"), backends=redirected({"path": full})),
            rule(prefix("/prefix"), backends=redirected({"path": part})),
        )
    )
    answer = await client.get("/host")
    assert (answer.seen("host"), answer.said["path"]) == ("one.example.org", "/host")
    assert (await client.get("/backend-host")).seen("host") == "two.example.org"
    assert (await client.get("/backend-full/x")).said["path"] == "/redirected-full"
    assert (await client.get("/backend-prefix/x")).said["path"] == "/redirected-prefix/x"
    for asked, wanted in (
        ("/full/x", "/redirected-full"),
        ("/prefix/original", "/redirected-prefix/original"),
    ):
        answer = await client.get(asked)
        assert (answer.status, answer.header("location")) == (302, f"http://echo{wanted}")


def mirror(name: str, **more: Any) -> dict[str, Any]:
    """Return a RequestMirror."""
    return {"type": "RequestMirror", "requestMirror": {"backendRef": to(name), **more}}


async def until(pod_seen: list[Any], count: int) -> None:
    """Wait for so many requests."""
    async with asyncio.timeout(10):
        while len(pod_seen) < count:
            await asyncio.sleep(0.01)


async def test_a_mirror_gets_what_the_backend_gets(echo: EchoMesh, client: Client) -> None:
    """Headers as modified, content whole; the client hears the backend alone."""
    modified = {
        "type": "RequestHeaderModifier",
        "requestHeaderModifier": {"set": [{"name": "X-Set", "value": "set"}], "remove": ["X-No"]},
    }
    await echo.apply(route("mirror", rule(filters=[modified, mirror("echo-v2")], v=1)))
    body = b"0123456789" * 2_000
    answer = await client.get("/a?b", method="POST", headers={"X-No": "no"}, body=body)
    assert (answer.pod, answer.status) == ("echo-v1", 200)
    assert answer.said["body"] == body.decode()
    copies = echo.pods["echo-v2"].seen
    await until(copies, 1)
    (copy,) = copies
    assert (copy["method"], copy["path"], copy["body"]) == ("POST", "/a?b", body.decode())
    names = {name.lower(): value for name, value in copy["headers"]}
    assert names["x-set"] == "set"
    assert names["host"] == "echo"
    assert "x-no" not in names
    assert len(echo.pods["echo-v1"].seen) == 1


@pytest.mark.parametrize(
    ("how", "share"),
    [({"percent": 20}, 0.2), ({"fraction": {"numerator": 1, "denominator": 2}}, 0.5)],
    ids=["percent", "fraction"],
)
async def test_a_mirror_gets_its_share(
    echo: EchoMesh, client: Client, how: dict[str, Any], share: float
) -> None:
    """Of 500 requests, within three standard deviations and one more."""
    await echo.apply(route("mirror", rule(filters=[mirror("echo-v2", **how)], v=1)))
    room = asyncio.Semaphore(20)

    async def one() -> int:
        async with room:
            return (await client.get()).status

    assert await asyncio.gather(*(one() for _ in range(500))) == [200] * 500
    assert len(echo.pods["echo-v1"].seen) == 500
    await asyncio.sleep(0.2)
    copies = len(echo.pods["echo-v2"].seen)
    bound = 4 * (500 * share * (1 - share)) ** 0.5
    assert abs(copies - 500 * share) <= bound


async def test_a_mirror_that_hangs_or_is_not_there_slows_nobody(
    echo: EchoMesh, client: Client
) -> None:
    """Past the bound copies are dropped and counted; a bad reference is left out."""
    nowhere = {"type": "RequestMirror", "requestMirror": {"backendRef": to("nobody")}}
    await echo.apply(
        route(
            "mirror",
            rule(prefix("/lost"), filters=[nowhere], v=1),
            rule(prefix("/"), filters=[mirror("echo-v2")], v=1),
        )
    )
    assert (await client.get("/lost")).status == 200
    hanging = echo.pods["echo-v2"]
    began = time.monotonic()
    room = asyncio.Semaphore(20)

    async def one() -> int:
        async with room:
            return (await client.get("/?delay=30&only=echo-v2")).status

    assert await asyncio.gather(*(one() for _ in range(300))) == [200] * 300
    assert time.monotonic() - began < 20
    assert len(hanging.seen) <= 256
    name = "pillion_outbound_http_mirror_total"
    assert metric(client.running, name, result="dropped") == 300 - 256
    assert metric(client.running, name, result="answered") == 0


CORS = {
    "type": "CORS",
    "cors": {
        "allowOrigins": ["https://www.foo.com", "https://*.bar.com", "http://plain.com:8080"],
        "allowMethods": ["GET", "OPTIONS", "PUT"],
        "allowHeaders": ["x-header-1", "x-header-2"],
        "exposeHeaders": ["x-header-3"],
        "allowCredentials": True,
        "maxAge": 3600,
    },
}
ANY = {
    "type": "CORS",
    "cors": {"allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"]},
}
TRUSTING = {
    "type": "CORS",
    "cors": {**ANY["cors"], "allowCredentials": True},  # type: ignore[dict-item]
}


async def preflight(client: Client, path: str, origin: str, **asked: str) -> dict[str, str | None]:
    """Ask whether a page of an origin may send a PUT; return what the answer allows."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    if asked:
        headers["Access-Control-Request-Headers"] = ", ".join(asked)
    answer = await client.get(path, method="OPTIONS", headers=headers)
    assert answer.status == 200
    assert not answer.body
    names = ("origin", "methods", "headers", "credentials")
    found = {each: answer.header(f"access-control-allow-{each}") for each in names}
    return {**found, "age": answer.header("access-control-max-age")}


async def test_cors(echo: EchoMesh, client: Client) -> None:
    """Preflight requests are answered here, other answers say who may read them."""
    await echo.apply(
        route(
            "cors",
            rule(prefix("/some"), filters=[CORS], v=1),
            rule(prefix("/any"), filters=[ANY], v=1),
            rule(prefix("/trusting"), filters=[TRUSTING], v=1),
        )
    )
    wanted = {
        "methods": "GET, OPTIONS, PUT",
        "headers": "x-header-1, x-header-2",
        "credentials": "true",
        "age": "3600",
    }
    allowed = ("https://www.foo.com", "https://www.foo.com:443", "https://www.bar.com",
               "https://a.b.bar.com", "http://plain.com:8080")  # fmt: skip
    for origin in allowed:
        assert await preflight(client, "/some", origin) == {"origin": origin, **wanted}
    nothing = dict.fromkeys(("origin", "methods", "headers", "credentials", "age"))
    refused = ("https://foo.com", "http://www.foo.com", "https://bar.com", "https://xbar.com",
               "https://www.foo.com:8443", "http://plain.com", "null",
               "https://www.foo.com.evil.org")  # fmt: skip
    for origin in refused:
        assert await preflight(client, "/some", origin) == nothing, origin
    found = await preflight(client, "/any", "https://x.org", a="")
    assert found == {"origin": "*", "methods": "*", "headers": "*", "credentials": None, "age": "5"}
    found = await preflight(client, "/trusting", "https://x.org", **{"x-a": "", "x-b": ""})
    assert found == {"origin": "https://x.org", "methods": "PUT", "headers": "x-a, x-b",
                     "credentials": "true", "age": "5"}  # fmt: skip
    assert (await preflight(client, "/trusting", "https://x.org"))["headers"] is None
    assert not echo.pods["echo-v1"].seen
    answer = await client.get("/some", headers={"Origin": "https://www.bar.com"})
    assert answer.pod == "echo-v1"
    names = ("allow-origin", "allow-credentials", "expose-headers")
    said = [answer.header(f"access-control-{each}") for each in names]
    assert said == ["https://www.bar.com", "true", "x-header-3"]
    for headers in ({"Origin": "https://evil.org"}, {}):
        answer = await client.get("/some", headers=headers)
        assert answer.pod == "echo-v1"
        assert answer.header("access-control-allow-origin") is None
    answer = await client.get("/any", headers={"Origin": "https://x.org"})
    assert answer.header("access-control-allow-origin") == "*"
    assert answer.header("access-control-allow-credentials") is None


async def test_a_change_under_load_drops_no_request(echo: EchoMesh, client: Client) -> None:
    """Routes come, change and go while twenty clients ask; each gets an answer of a pod."""
    asked = Counter[int]()
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            asked[(await client.get()).status] += 1

    tasks = [asyncio.ensure_future(ask()) for _ in range(20)]
    for turn in range(15):
        weights = [to("echo-v1", weight=turn), to("echo-v2", weight=15 - turn)]
        await echo.apply(*([] if turn % 5 == 4 else [route("turning", rule(backends=weights))]))
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*tasks)
    assert set(asked) == {200}
    assert asked[200] > 200


async def test_a_route_that_goes_takes_effect_at_once(echo: EchoMesh, client: Client) -> None:
    """On the next connection, and on the next request of one that is open."""
    await echo.apply(route("one", rule(v=1)))
    assert {(await client.get()).pod for _ in range(6)} == {"echo-v1"}
    await echo.apply(route("one", rule(v=2)))
    assert {(await client.get()).pod for _ in range(6)} == {"echo-v2"}
    await echo.apply()
    assert {(await client.get()).pod for _ in range(30)} == {"echo-v1", "echo-v2"}

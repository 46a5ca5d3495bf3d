"""/policy and /explain: what the sidecar decides by, told by the sidecar."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from click.testing import CliRunner

from cli.main import pillion
from cli.policy.case import Case, read_cases
from control.offline import OfflineMesh
from core.watch import Watch
from discovery.model import Metadata
from identity.generation import Generation
from policy.describe import MAX_LISTED
from policy.model import ClientTls, InboundRoute, InboundRule, RateLimit, ServerPolicy
from policy.route import HttpMatch, PathMatch, PathMatchKind, Redirect
from proxy.admin.policies import MAX_PARAMETERS, MAX_PORTS
from proxy.net.capture import FixedCapture
from resources.kind import ObjectKey
from tests.session.admin import ask
from tests.session.apps import serve
from tests.session.http_apps import hello
from tests.sidecars import OPEN, Control, Running, free_address, run_sidecar

POLICY = Path(__file__).parent.parent / "policy"
SETUPS = sorted(path.stem for path in (POLICY / "cases").glob("*.yaml"))
ACCOUNT = "web.shop.serviceaccount.identity.linkerd.cluster.local"


@asynccontextmanager
async def sidecar(api: Generation, **policies: ServerPolicy) -> AsyncIterator[Running]:
    """Run a sidecar with policies by port, as p8080."""
    control = Control(Watch(api))
    for name, policy in policies.items():
        control.policies[int(name[1:])] = Watch(policy)
    capture = FixedCapture(free_address("127.0.0.2"))
    async with run_sidecar(api, capture, ip="127.0.0.2", control=control) as running:
        yield running


async def explain(running: Running, **asked: str) -> tuple[int, str]:
    """Ask /explain; a trailing underscore is left out of a parameter's name."""
    query = urlencode({name.rstrip("_"): value for name, value in asked.items()})
    reply = await ask(running, f"/explain?{query}")
    return reply.status, reply.body.decode()


def question(case: Case) -> dict[str, str]:
    """Return a case as parameters of /explain."""
    client = case.client
    tls = "none" if client.tls is ClientTls.NONE else "mesh" if client.identity else "no-identity"
    asked = {
        "from_": str(client.identity) if client.identity else client.ip,
        "ip": client.ip,
        "tls": tls,
        "to": str(case.target.port),
        "form": "json",
    }
    if case.request is not None:
        query = f"?{case.request.query}" if case.request.query else ""
        asked |= {"method": case.request.method, "path": case.request.path + query}
        asked["grpc"] = "true" if case.is_grpc else "false"
        for name, value in case.request.headers:
            asked["header"] = f"{bytes(name).decode()}:{bytes(value).decode()}"
    return asked


async def test_every_case_is_explained_as_the_command_explains_it(api: Generation) -> None:
    """The decision table by /explain of a sidecar: verdict, status and names."""
    asked = 0
    async with sidecar(api) as running:
        for setup in SETUPS:
            mesh = OfflineMesh(str(POLICY / "meshes" / setup), datetime(2026, 1, 1, tzinfo=UTC))
            for case in read_cases(str(POLICY / "cases" / f"{setup}.yaml")):
                many = case.request is not None and len(case.request.headers) > 1
                if case.repeat > 1 or many:
                    continue
                key = ObjectKey("", "Pod", case.target.namespace, case.target.pod)
                policy = mesh.policy(key, case.target.port)
                running.control.policies[case.target.port] = Watch(policy)
                status, body = await explain(running, **question(case))
                assert status == 200, body
                told = json.loads(body)
                got = {
                    **{name: told[name] for name in ("verdict", "status")},
                    **{
                        name: told[name]["name"] if told[name] else None
                        for name in ("server", "route", "authorization")
                    },
                }
                assert {name: got[name] for name in case.expect} == case.expect, case.name
                asked += 1
    assert asked > 100


async def test_the_command_s_words(api: Generation) -> None:
    """/explain answers what ``pillion policy explain`` prints over the same objects."""
    directory = str(POLICY / "meshes" / "route")
    mesh = OfflineMesh(directory, datetime(2026, 1, 1, tzinfo=UTC))
    policy = mesh.policy(ObjectKey("", "Pod", "app", "web"), 80)
    caller = "other.ext.serviceaccount.identity.linkerd.cluster.local"
    async with sidecar(api, p80=policy) as running:
        status, said = await explain(running, from_=caller, to="80", method="GET", path="/a")
    arguments = ("--mesh", directory, "--from", caller, "--to", "app/web:80", "GET", "/a")
    printed = CliRunner().invoke(pillion, ["policy", "explain", *arguments])
    assert (status, said) == (200, printed.stdout)
    assert said.startswith("DENIED  no authorization on HTTPRoute app/r admits the caller: other.")


async def test_callers_by_account_address_and_identity(api: Generation) -> None:
    """An account is one of our own mesh; an address has plaintext unless more is said."""
    async with sidecar(api, p8080=OPEN) as running:
        for source, told in (
            ("shop/web", f"{ACCOUNT} at 10.0.0.1"),
            (ACCOUNT, f"{ACCOUNT} at 10.0.0.1"),
            ("203.0.113.7", "203.0.113.7 without mesh TLS"),
            ("fd00::7", "fd00::7 without mesh TLS"),
        ):
            status, said = await explain(running, from_=source, to="shop/web-0:8080")
            assert (status, said.splitlines()[0]) == (
                200,
                f"ALLOWED  default:all-unauthenticated admits {told}",
            )
        _, said = await explain(running, from_="1.2.3.4", tls="no-identity", to="8080")
        assert "1.2.3.4 with mesh TLS but no identity" in said


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "wanted /explain?from="),
        ("from=shop/web", "wanted /explain?from="),
        ("from=shop/web&to=0", "'0' is no port"),
        ("from=shop/web&to=65536", "'65536' is no port"),
        ("from=shop/web&to=" + "9" * 5000, "is no port"),
        ("from=shop/web&to=%D9%A1", "is no port"),
        ("from=shop/web&to=shop/api-0:80", "this is the sidecar of shop/web-0, not 'shop/api-0'"),
        ("from=Not_A_Name!&to=80", "is no caller"),
        ("from=a/B!&to=80", "is no caller"),
        ("from=1.2.3.4&to=80&ip=1.2.3", "is no IP address"),
        ("from=1.2.3.4&to=80&tls=mesh", "has no identity"),
        ("from=1.2.3.4&to=80&tls=what", "is no kind of TLS"),
        ("from=1.2.3.4&to=80&method=GET&header=x", "is no header"),
        ("from=1.2.3.4&to=80&path=/a", "give METHOD and PATH"),
        ("from=1.2.3.4&to=80&who=me", "'who' is no parameter"),
        ("&".join(f"header=a:{n}" for n in range(MAX_PARAMETERS + 1)), "more than 64"),
    ],
)
async def test_what_cannot_be_asked_is_said(api: Generation, query: str, said: str) -> None:
    """400, with what was seen and what was wanted; the next question is answered."""
    async with sidecar(api, p80=OPEN) as running:
        reply = await ask(running, f"/explain?{query}")
        assert (reply.status, said in reply.body.decode()) == (400, True), reply.body
        assert (await ask(running, "/explain?from=1.2.3.4&to=80")).status == 200


async def test_as_many_parameters_as_may_be(api: Generation) -> None:
    """At the bound all count."""
    headers = "&".join(f"header=a{n}:b" for n in range(MAX_PARAMETERS - 4))
    async with sidecar(api, p80=OPEN) as running:
        reply = await ask(running, f"/explain?from=1.2.3.4&to=80&method=GET&path=/&{headers}")
        assert reply.status == 200


async def test_asking_uses_up_nothing(api: Generation) -> None:
    """A rate limit is not counted by questions, nor are decisions."""
    limit = RateLimit(metadata=Metadata(kind="HTTPLocalRateLimitPolicy", name="l"), total=1)
    policy = replace(OPEN, rate_limit=limit)
    async with serve(hello) as app:
        control = Control(Watch(api), policy=policy)
        async with run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running:
            for _ in range(3):
                asked = {"from_": "1.2.3.4", "to": str(app.port), "method": "GET"}
                assert (await explain(running, **asked))[1].startswith("ALLOWED")
            inbound = running.config.inbound_listen
            reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert b" 200 " in await reader.readline()
            writer.transport.abort()


async def test_policy_lists_what_decides(api: Generation) -> None:
    """Every port asked for, or one; what each authorization wants, in words; changes at once."""
    match = HttpMatch(path=PathMatch(PathMatchKind.PREFIX, "/a"), method="GET")
    route = InboundRoute(
        metadata=Metadata(group="g", kind="HTTPRoute", namespace="shop", name="r"),
        rules=(InboundRule(matches=(match,), filters=(Redirect(),)),),
    )
    async with sidecar(api, p8080=OPEN, p9090=replace(OPEN, routes=(route,))) as running:
        shown = json.loads((await ask(running, "/policy")).body)["ports"]
        assert [each["port"] for each in shown] == [8080, 9090]
        assert shown[0]["server"]["name"] == "all-unauthenticated"
        (authorization,) = shown[0]["authorizations"]
        assert (authorization["wants"], authorization["mode"]) == ([], "enforce")
        (told,) = shown[1]["routes"]
        assert (told["name"], told["matches"], told["filters"]) == ("r", ["GET /a*"], ["Redirect"])
        running.control.policies[8080].publish(replace(OPEN, invalid="it cannot be read"))
        (one,) = json.loads((await ask(running, "/policy?port=8080")).body)["ports"]
        assert one["invalid"] == "it cannot be read"
        for query in ("port=x", "port=0", "what=1"):
            assert (await ask(running, f"/policy?{query}")).status == 400


async def test_long_lists_are_cut_and_counted(api: Generation) -> None:
    """So many of a kind and so many ports, and how many there are."""
    most = (MAX_LISTED, MAX_LISTED + 1)
    one, two = (replace(OPEN, authorizations=OPEN.authorizations * n) for n in most)
    async with sidecar(api, p1=one, p2=two) as running:
        shown = json.loads((await ask(running, "/policy")).body)
        for each, count in zip(shown["ports"], most, strict=True):
            assert len(each["authorizations"]) == MAX_LISTED
            assert each["authorizations_in_all"] == count
        for number in range(3, MAX_PORTS + 2):
            running.control.inbound(number)
            shown = json.loads((await ask(running, "/policy")).body)
            assert (len(shown["ports"]), shown["ports_in_all"]) == (min(number, MAX_PORTS), number)
        (asked,) = json.loads((await ask(running, f"/policy?port={MAX_PORTS + 1}")).body)["ports"]
        assert asked["port"] == MAX_PORTS + 1


async def test_both_are_read_only(api: Generation) -> None:
    """GET alone; names from outside cannot break the answer."""
    async with sidecar(api, p80=OPEN) as running:
        for page in ("/policy", "/explain?from=1.2.3.4&to=80"):
            assert (await ask(running, page, "POST")).status == 405
        path = quote("/\r\nx: y\x00ü", safe="")
        reply = await ask(running, f"/explain?from=1.2.3.4&to=80&method=GET&path={path}")
        assert reply.status == 200

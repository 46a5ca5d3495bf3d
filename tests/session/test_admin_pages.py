"""The admin server's pages: who is connected, and what may be changed by whom."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from core.watch import Watch
from discovery.model import Address, Endpoint
from identity.generation import Generation
from policy.model import Client
from proxy.admin import pages
from proxy.admin.pages import AdminPages
from proxy.net.capture import FixedCapture
from tests.session.apps import echo, exchange, serve
from tests.session.client import run_client
from tests.sidecars import OPEN, Control, Running, run_pair, run_sidecar

FAR = "10.9.9.9"


async def ask(
    running: Running, path: str, method: str = "GET", body: bytes = b""
) -> tuple[int, str]:
    """Return status and body of one request to the admin server."""
    page = await exchange(
        running.config.admin_listen,
        b"%s %s HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
        % (method.encode(), path.encode(), len(body), body),
    )
    head, _, content = page.partition(b"\r\n\r\n")
    assert (b"content-length" in head) == (b" 204 " not in head)
    return int(head.split()[1]), content.decode()


async def connections(running: Running) -> dict[str, Any]:
    """Return /connections."""
    status, body = await ask(running, "/connections")
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


def mk_pages(running: Running) -> AdminPages:
    """Return pages of a running sidecar, that may be asked on anyone's behalf."""
    return AdminPages(
        running.sidecar.runtime,
        {},
        unready=str,
        warnings=tuple,
        refresh=lambda: None,
        stop=running.sidecar.stop,
    )


async def test_open_connections_are_listed_with_who_and_why(
    web: Generation, api: Generation
) -> None:
    """Both peers, identities, server, authorization, bytes, age; nothing once they are closed."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        writer.write(b"12345")
        assert await reader.readexactly(5) == b"12345"
        near, far = await connections(pair.client), await connections(pair.server)
        assert (near["open"], near["shown"], far["open"], far["shown"]) == (1, 1, 1, 1)
        (out,), (into,) = near["connections"], far["connections"]
        assert out["direction"] == "outbound"
        assert out["server_identity"] == api.identity.name
        assert out["endpoint"] == str(app)
        assert out["client_address"].startswith("127.0.0.1:")
        assert out["server_address"] == str(pair.server.config.inbound_listen)
        assert into["direction"] == "inbound"
        assert into["client_identity"] == web.identity.name
        assert into["target"] == str(app)
        assert into["server"] == "default:all-unauthenticated"
        assert into["authorization"] == "default:all-unauthenticated"
        assert into["server_address"] == str(app)
        for each in (out, into):
            assert (each["bytes_from_client"], each["bytes_to_client"]) == (5, 5)
            assert 0 <= each["age_s"] < 60
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        async with asyncio.timeout(10):
            while (await connections(pair.server))["open"]:
                await asyncio.sleep(0.01)


async def test_the_list_of_connections_has_a_bound(
    web: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the bound all are shown; one past it the oldest are, and how many there are."""
    monkeypatch.setattr(pages, "MAX_SHOWN", 2)
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(serve(echo))
        client = await stack.enter_async_context(run_client(web, destination=app))
        ports = []
        for wanted in (1, 2, 3):
            entry = client.config.outbound_listen
            reader, writer = await asyncio.open_connection(entry.ip, entry.port)
            stack.callback(writer.close)
            writer.write(b"1")
            assert await reader.readexactly(1) == b"1"
            ports.append(writer.get_extra_info("sockname")[1])
            found = await connections(client)
            assert (found["open"], found["shown"]) == (wanted, min(wanted, 2))
            shown = [each["client_address"] for each in found["connections"]]
            assert shown == [f"127.0.0.1:{port}" for port in ports[:2]]


async def test_an_authorization_that_takes_another_s_place_is_shown(
    web: Generation, api: Generation
) -> None:
    """Policy is decided again at each change; the list says what lets a connection live now."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        writer.write(b"1")
        assert await reader.readexactly(1) == b"1"
        (rule,) = OPEN.authorizations
        renamed = type(rule.metadata)(kind="AuthorizationPolicy", name="anyone", group="policy")
        changed = type(rule)(
            metadata=renamed, networks=rule.networks, authentication=rule.authentication
        )
        policy = type(OPEN)(metadata=OPEN.metadata, authorizations=(changed,), localhost=None)
        pair.server.control.inbound(app.port).publish(policy)
        (into,) = (await connections(pair.server))["connections"]
        assert into["authorization"] == "policy/AuthorizationPolicy/anyone"
        writer.close()


async def test_the_log_level_is_read_and_set_while_it_runs(web: Generation) -> None:
    """In our words or Linkerd's; what is no level changes nothing."""
    async with run_client(web) as client:
        assert await ask(client, "/proxy-log-level") == (200, "debug\n")
        assert await ask(client, "/proxy-log-level", "PUT", b"warn\n") == (204, "")
        assert await ask(client, "/proxy-log-level") == (200, "warn\n")
        changed = client.events("log level changes")
        assert [(each["before"], each["after"]) for each in changed] == [("debug", "warn")]
        assert await ask(client, "/proxy-log-level", "PUT", b"warn,linkerd=info") == (204, "")
        for nonsense in (b"", b"loud", b"\xff\xfe", b"info," * 200):
            status, said = await ask(client, "/proxy-log-level", "PUT", nonsense)
            assert status == 400, said
        assert await ask(client, "/proxy-log-level") == (200, "info\n")


@pytest.mark.parametrize(("enabled", "status"), [("false", 404), ("true", 200)])
async def test_shutdown_drains_where_it_is_enabled(
    web: Generation, enabled: str, status: int
) -> None:
    """As SIGTERM does, with status 0; elsewhere the page does not exist."""
    async with run_client(web, SHUTDOWN_ENDPOINT_ENABLED=enabled) as client:
        assert (await ask(client, "/shutdown"))[0] == 405
        answered, said = await ask(client, "/shutdown", "POST")
        assert answered == status
        if status == 200:
            assert said == "shutdown\n"
            async with asyncio.timeout(10):
                assert await asyncio.shield(client.task) == 0


@pytest.mark.parametrize(
    ("ip", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.0.0.9", True),
        ("::1", True),
        ("192.0.2.7", True),
        (FAR, False),
        ("192.0.2.8", False),
        ("fe80::1", False),
    ],
)
async def test_only_local_peers_change_anything(web: Generation, ip: str, is_local: bool) -> None:
    """Loopback, or the pod's own address; whoever else reaches the port may look."""
    async with run_client(web) as client:
        client.sidecar.runtime.own_ips = frozenset({"192.0.2.7"})
        answer = mk_pages(client).answer
        peer = Client(ip)
        assert answer("PUT", "/proxy-log-level", "", b"info", peer)[0] == (204 if is_local else 403)
        assert client.sidecar.runtime.log.level == ("info" if is_local else "debug")
        assert answer("POST", "/shutdown", "", b"", peer)[0] == (200 if is_local else 403)
        for path in ("/live", "/metrics", "/config", "/connections", "/proxy-log-level"):
            assert answer("GET", path, "", b"", peer)[0] == 200


async def test_nothing_changes_by_looking(web: Generation) -> None:
    """A GET that did something could be a link on a web page."""
    async with run_client(web) as client:
        answer = mk_pages(client).answer
        for method, path in (
            ("GET", "/shutdown"),
            ("HEAD", "/shutdown"),
            ("PUT", "/shutdown"),
            ("POST", "/proxy-log-level"),
            ("DELETE", "/connections"),
            ("OPTIONS", "/metrics"),
        ):
            status, _, said = answer(method, path, "", b"off", Client("127.0.0.1"))
            assert status == 405
            assert said.startswith(f"{path} takes ".encode())
        status, _, said = answer("GET", "/nonsense", "", b"", Client(FAR))
        assert status == 404
        assert b"/connections" in said


async def test_nobody_becomes_a_local_peer_by_way_of_the_sidecar(
    web: Generation, api: Generation
) -> None:
    """The admin port is no port of the application's: not by the direct port, nor redirected."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        server = pair.server.config
        admin = Address(app.ip, server.admin_listen.port)
        pair.client.control.route(
            app,
            Endpoint(address=admin, identity=api.identity, direct_port=server.inbound_listen.port),
        )
        assert await exchange(pair.entry, b"GET /live HTTP/1.0\r\n\r\n") == b""
        failed = await pair.server.until_event("connection failed")
        assert failed["code"] == "loop"
        assert str(admin.port) in failed["reason"]


async def test_pages_are_served_before_there_is_an_identity() -> None:
    """Probes and people are answered while the first certificate is awaited."""
    control = Control(Watch(None))
    async with run_sidecar(None, FixedCapture(Address("10.0.0.1", 1)), control=control) as early:
        status, said = await ask(early, "/ready")
        assert (status, said) == (
            503,
            "not ready: no certificate has been issued to us yet\n",
        )
        assert (await ask(early, "/live"))[0] == 200
        assert (await connections(early))["open"] == 0

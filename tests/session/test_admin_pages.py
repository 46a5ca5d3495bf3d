"""The admin server's pages: who is connected, and what may be changed by whom."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from core.clock import utc_text
from core.watch import Watch
from discovery.model import Address, Endpoint
from identity.anchors import Anchors
from identity.describe import describe
from identity.generation import Generation
from policy.model import Client
from proxy.admin import certificates, pages
from proxy.admin.certificates import describe_certificates
from proxy.admin.pages import AdminPages
from proxy.admin.policies import PolicyPages
from proxy.net.capture import FixedCapture
from proxy.telemetry.exposition import LINES, expose
from proxy.telemetry.slot import Table
from tests.authority import Mesh, mk_mesh
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
        PolicyPages(running.sidecar.runtime, running.control, "shop/web-0"),
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
        assert (await answer("PUT", "/proxy-log-level", "", b"info", peer))[0] == (
            204 if is_local else 403
        )
        assert client.sidecar.runtime.log.level == ("info" if is_local else "debug")
        assert (await answer("POST", "/shutdown", "", b"", peer))[0] == (200 if is_local else 403)
        for path in ("/live", "/metrics", "/config", "/connections", "/proxy-log-level"):
            assert (await answer("GET", path, "", b"", peer))[0] == 200


async def test_connections_have_their_turn_while_metrics_are_written(
    web: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time so many lines are; whoever else asks waits, so that one page at a time is held."""
    writing = 0

    def watched(families: Iterable[Table[Any]]) -> Iterator[bytes]:
        nonlocal writing
        writing += 1
        assert writing == 1
        yield from expose(families)
        writing -= 1

    monkeypatch.setattr(pages, "expose", watched)
    async with run_client(web) as client:
        metrics = client.sidecar.runtime.metrics
        answer = mk_pages(client).answer
        asked = [
            asyncio.create_task(answer("GET", "/metrics", "", b"", Client(FAR))) for _ in range(3)
        ]
        turns = 0
        while not asked[-1].done():
            await asyncio.sleep(0)
            turns += 1
            # What comes in between is written the next time.
            metrics.tcp_open.child((("authority", str(turns)),)).value += 1
        sizes = [(await each)[2].count(b"\n") for each in asked]
        assert turns >= sum(sizes) // LINES
        assert sizes == sorted(sizes)


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
            status, _, said = await answer(method, path, "", b"off", Client("127.0.0.1"))
            assert status == 405
            assert said.startswith(f"{path} takes ".encode())
        status, _, said = await answer("GET", "/nonsense", "", b"", Client(FAR))
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
        assert await exchange(pair.entry, b"\0 GET /live HTTP/1.0\r\n\r\n") == b""
        assert (await exchange(pair.entry, b"GET /live HTTP/1.0\r\n\r\n"))[9:10] == b"5"
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


async def test_our_certificates_are_shown_and_never_a_key(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """Leaf, intermediates and anchors: names, validity, fingerprint; as JSON and as PEM."""
    async with run_client(web) as client:
        status, body = await ask(client, "/certs")
        found = json.loads(body)
        assert status == 200
        assert found["identity"] == web.identity.name
        assert found["trouble"] == ""
        leaf = found["leaf"]
        assert leaf["names"] == [f"DNS:{web.identity.name}"]
        assert leaf["fingerprint"] == web.fingerprint
        assert leaf["not_after"] == utc_text(web.not_after)
        assert leaf["not_before"] == utc_text(web.not_before)
        assert leaf["issuer"] == found["intermediates"][0]["subject"]
        (anchor,) = found["anchors"]
        assert anchor["trust_domain"] == "cluster.local"
        assert ssl.PEM_cert_to_DER_cert(anchor["pem"]) == mesh.root
        assert anchor["subject"] == found["intermediates"][0]["issuer"]
        assert found["anchors_in_all"] == 1

        status, bundle = await ask(client, "/certs?form=pem")
        (tmp_path / "bundle.pem").write_text(bundle)
        described, problems = describe(tmp_path / "bundle.pem")
        assert problems == []
        assert [each.fingerprint for each in described] == [
            *(found[each]["fingerprint"] for each in ("leaf",)),
            *(each["fingerprint"] for each in (*found["intermediates"], *found["anchors"])),
        ]
        assert [each.subject for each in described] == [
            each["subject"] for each in (leaf, *found["intermediates"], *found["anchors"])
        ]
        for page in (body, bundle):
            assert "PRIVATE" not in page


async def test_a_leaf_that_our_anchors_no_longer_vouch_for_is_shown_with_its_trouble(
    web: Generation, tmp_path: Path
) -> None:
    """In the middle of a rotation that went wrong, this page is what one looks at."""
    other = mk_mesh(tmp_path / "other")
    async with run_client(web) as client:
        client.control.generation.publish(web.under(other.anchors))
        _, body = await ask(client, "/certs")
        found = json.loads(body)
        assert "does not verify" in found["trouble"]
        assert found["leaf"]["fingerprint"] == web.fingerprint
        assert found["leaf"]["names"] == [f"DNS:{web.identity.name}"]
        assert ssl.PEM_cert_to_DER_cert(found["anchors"][0]["pem"]) == other.root


async def test_the_list_of_anchors_has_a_bound(
    web: Generation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One past it, the first are shown, ours before all, and how many there are."""
    west = mk_mesh(tmp_path / "west", "west.example")
    roots = {"cluster.local": web.anchors.roots["cluster.local"], **west.anchors.roots}
    async with run_client(web) as client:
        client.control.generation.publish(web.under(Anchors("cluster.local", roots)))
        for bound, shown in ((2, ["cluster.local", "west.example"]), (1, ["cluster.local"])):
            monkeypatch.setattr(certificates, "MAX_ANCHORS", bound)
            found = describe_certificates(client.sidecar.runtime.generation.current or web)
            anchors = found["anchors"]
            assert isinstance(anchors, list)
            assert [each["trust_domain"] for each in anchors] == shown
            assert found["anchors_in_all"] == 2


async def test_certificates_before_there_are_any() -> None:
    """A 503, not an empty page."""
    control = Control(Watch(None))
    async with run_sidecar(None, FixedCapture(Address("10.0.0.1", 1)), control=control) as early:
        assert (await ask(early, "/certs"))[0] == 503

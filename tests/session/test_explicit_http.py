"""A sidecar without capture rules as an HTTP proxy: CONNECT, and requests with whole URLs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from discovery.model import Address, Endpoint
from identity.generation import Generation
from proxy.explicit import Explicit
from proxy.net.capture import FixedCapture
from tests.session.apps import echo, exchange, serve
from tests.session.http_apps import hello
from tests.session.http_wire import failures, statuses_of, talk
from tests.sidecars import Running, free_address, run_pair, run_sidecar

CLUSTER_IP = "10.96.0.1"


@dataclass(frozen=True)
class Names:
    """What the mesh knows."""

    known: dict[str, tuple[Address, ...]]

    def addresses(self, host: str, port: int) -> tuple[Address, ...] | None:
        """Return where a Service's name leads; None for a name that is none."""
        found = self.known.get(host)
        return None if found is None else tuple(Address(each.ip, port) for each in found)


@contextlib.asynccontextmanager
async def proxied(
    web: Generation, api: Generation, app: Address, ip: str = "127.0.0.1"
) -> AsyncIterator[tuple[Running, Address]]:
    """Run the application's sidecar, and a client's that is told destinations."""
    names = Names({"api.shop": (Address(CLUSTER_IP, 0),), "none.shop": ()})
    async with (
        run_pair(web, api, app) as pair,
        run_sidecar(
            web,
            FixedCapture(app),
            ip=ip,
            explicit=Explicit((ip,), {}),
            names=names,
        ) as running,
    ):
        inbound = pair.server.config.inbound_listen
        endpoint = Endpoint(address=app, identity=api.identity, direct_port=inbound.port)
        running.control.route(Address(CLUSTER_IP, 80), endpoint)
        yield running, running.config.outbound_listen


async def test_requests_go_where_they_say(web: Generation, api: Generation) -> None:
    """Each of a connection for itself: into the mesh, and to a stranger; as a server is sent it."""
    async with (
        serve(hello) as app,
        serve(hello, "127.0.0.3") as other,
        proxied(web, api, app) as (_, entry),
    ):
        got = await exchange(
            entry,
            b"GET http://api.shop/a?b HTTP/1.1\r\nHost: api.shop\r\nProxy-Authorization: x\r\n"
            b"Proxy-Connection: keep-alive\r\n\r\n"
            b"POST http://%b/c HTTP/1.1\r\nHost: %b\r\nContent-Length: 2\r\n\r\nhi"
            b"GET http://localhost:%d/d HTTP/1.1\r\nHost: localhost:%d\r\n\r\n"
            % (str(other).encode(), str(other).encode(), 1, 1),
        )
    assert statuses_of(got.replace(b" HTTP/1.1\r\n", b" \r\n")) == [200, 200, 502]
    first, second = got.split(b"HTTP/1.1 200")[1:3]
    assert b"\r\n\r\nGET /a?b HTTP/1.1\r\n" in first
    assert b"l5d-client-id: " + web.identity.name.encode() in first
    assert b"proxy-" not in first.lower().partition(b"\r\n\r\n")[2]
    assert b"\r\n\r\nPOST /c HTTP/1.1\r\n" in second
    assert b"l5d-client-id" not in second


async def test_connect_leads_like_any_connection(web: Generation, api: Generation) -> None:
    """What follows is looked at: HTTP goes into the mesh as such, other bytes as bytes."""
    async with (
        serve(hello) as app,
        serve(echo, "127.0.0.3") as other,
        proxied(web, api, app) as (_, entry),
    ):
        got = await exchange(
            entry,
            b"CONNECT api.shop:80 HTTP/1.1\r\nHost: api.shop:80\r\n\r\n"
            b"GET /x HTTP/1.1\r\nHost: api.shop\r\n\r\n",
        )
        tunnel, _, rest = got.partition(b"\r\n\r\n")
        assert tunnel == b"HTTP/1.1 200 Connection established"
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"l5d-client-id: " + web.identity.name.encode() in rest
        there = str(other).encode()
        got = await exchange(
            entry, b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n\0\1\2" % (there, there)
        )
        assert got == b"HTTP/1.1 200 Connection established\r\n\r\n\0\1\2"


REFUSED = {
    "origin form": (b"GET /x HTTP/1.1\r\nHost: api.shop\r\n\r\n", 400, "no-destination"),
    "https": (b"GET https://api.shop/ HTTP/1.1\r\nHost: api.shop\r\n\r\n", 400, "no-destination"),
    "port 0": (
        b"GET http://api.shop:0/ HTTP/1.1\r\nHost: api.shop:0\r\n\r\n",
        400,
        "no-destination",
    ),
    "no pods": (b"GET http://none.shop/ HTTP/1.1\r\nHost: none.shop\r\n\r\n", 502, "name-unknown"),
    "no name": (b"GET http://x.invalid/ HTTP/1.1\r\nHost: x.invalid\r\n\r\n", 502, "name-unknown"),
    "CONNECT to no name": (
        b"CONNECT x.invalid:1 HTTP/1.1\r\nHost: x.invalid:1\r\n\r\n",
        502,
        "name-unknown",
    ),
    "CONNECT that is broken": (b"CONNECT api.shop HTTP/1.1\r\n\r\n", 400, "http1-target"),
    "CONNECT in 1.0": (b"CONNECT api.shop:1 HTTP/1.0\r\n\r\n", 400, "http1-connect"),
    "another protocol": (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, "http1-control"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http1-version"),
}


@pytest.mark.parametrize("row", REFUSED)
async def test_what_cannot_be_is_answered(web: Generation, api: Generation, row: str) -> None:
    """With a status, the reason where it helps, and counted."""
    data, status, code = REFUSED[row]
    async with serve(hello) as app, proxied(web, api, app) as (running, entry):
        got = await talk(entry, data)
        assert statuses_of(got) == [status]
        assert b"connection: close" in got
        if code == "no-destination":
            assert b"l5d-proxy-error: " in got
        if row == "CONNECT to no name":
            assert (await running.until_event("connection failed"))["code"] == code
        else:
            assert await failures(running, "outbound") == {code: 1}


@pytest.mark.parametrize("how", ["CONNECT", "GET"])
async def test_our_own_listeners_are_no_destination(
    web: Generation, api: Generation, how: str
) -> None:
    """Neither way: it would go round for ever."""
    async with serve(hello) as app, proxied(web, api, app) as (_, entry):
        at = str(entry).encode()
        target = at if how == "CONNECT" else b"http://" + at + b"/"
        got = await talk(entry, b"%b %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (how.encode(), target, at))
        assert statuses_of(got) == [508]


async def test_strangers_are_not_served(web: Generation, api: Generation) -> None:
    """Only the pod's own programs: whoever else comes is closed without a word."""
    async with (
        serve(hello) as app,
        proxied(web, api, app, ip="127.0.0.9") as (running, entry),
    ):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(
                entry.ip, entry.port, local_addr=("127.0.0.7", 0)
            )
            writer.write(b"GET http://api.shop/ HTTP/1.1\r\nHost: api.shop\r\n\r\n")
            try:
                assert await reader.read() == b""
            finally:
                writer.close()
        assert (await running.until_event("connection failed"))["code"] == "not-local"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("tunnel", [(), ("-p",)], ids=["whole URL", "CONNECT"])
async def test_curl_by_its_proxy_setting(
    web: Generation, api: Generation, tunnel: tuple[str, ...]
) -> None:
    """``curl -x http://POD_IP:4140``."""
    async with serve(hello) as app, proxied(web, api, app) as (_, entry):
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "-m", "10", *tunnel, "-x", f"http://{entry}", "http://api.shop/page"),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await curl.communicate()
        assert curl.returncode == 0
        assert out.startswith(b"GET /page HTTP/1.1\r\n")
        assert b"l5d-client-id: " in out


async def test_an_unused_port(web: Generation) -> None:
    """Silence is given ten seconds, by a shorter clock; then the connection ends."""
    async with run_sidecar(
        web,
        FixedCapture(free_address()),
        explicit=Explicit(("127.0.0.1",), {}),
        settings={"PILLION_INBOUND_DETECT_TIMEOUT": "200ms"},
    ) as running:
        assert await talk(running.config.outbound_listen, b"CONN") == b""
        assert (await running.until_event("connection failed"))["code"] == "detect-timeout"

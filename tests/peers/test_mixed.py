"""Clients and servers with and without a sidecar, in every version of HTTP; Python's own server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from discovery.model import Address, Endpoint
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from tests.peers.http_ways import WAYS, run_way
from tests.session.apps import serve
from tests.session.http1_app import Http1App
from tests.sidecars import free_address, run_sidecar
from tests.support.programs import Said, run_program, serving

pytestmark = pytest.mark.needs("curl", "nghttpd")

KNOWN = ("--http2-prior-knowledge",)


async def curl(*options: str) -> Said:
    """Run curl; it must find nothing wrong."""
    said = await run_program(
        "curl", "--silent", "--show-error", "--noproxy", "", "--max-time", "15", *options
    )
    print(said.status, said.out[:2_000], said.err.decode()[:2_000])
    assert said.status == 0, said.err
    return said


def nghttpd(app: Address, directory: Path) -> tuple[str, ...]:
    """Return the command of a server of HTTP/2, with a file."""
    (directory / "small").write_bytes(b"small")
    return (
        *("nghttpd", "--no-tls", "--address", app.ip, "--htdocs", str(directory)),
        *("--echo-upload", str(app.port)),
    )


async def test_a_meshed_client_calls_a_server_without_a_sidecar(
    web: Generation, tmp_path: Path
) -> None:
    """In plaintext, HTTP/1 as HTTP/1 and HTTP/2 as HTTP/2."""
    app = Http1App()
    async with serve(app.serve) as address, run_sidecar(web, FixedCapture(address)) as near:
        near.control.route(address, Endpoint(address=address))
        said = await curl(f"http://{near.config.outbound_listen}/seen")
        assert not dict(json.loads(said.out)["fields"]).keys() & {"l5d-client-id", "l5d-orig-proto"}
    http2 = free_address("127.0.0.2")
    async with (
        serving(http2, *nghttpd(http2, tmp_path)),
        run_sidecar(web, FixedCapture(http2)) as near,
    ):
        near.control.route(http2, Endpoint(address=http2))
        said = await curl(*KNOWN, f"http://{near.config.outbound_listen}/small")
        assert said.out == b"small"


async def test_a_client_without_a_sidecar_calls_a_meshed_server(
    api: Generation, tmp_path: Path
) -> None:
    """What it says of its identity does not reach the application."""
    app = Http1App()
    async with (
        serve(app.serve) as address,
        run_sidecar(api, FixedCapture(address), ip=address.ip) as far,
    ):
        said = await curl("-H", "l5d-client-id: me", f"http://{far.config.inbound_listen}/seen")
        assert "l5d-client-id" not in dict(json.loads(said.out)["fields"])
    http2 = free_address("127.0.0.2")
    async with (
        serving(http2, *nghttpd(http2, tmp_path)),
        run_sidecar(api, FixedCapture(http2), ip=http2.ip) as far,
    ):
        url = f"http://{far.config.inbound_listen}"
        assert (await curl(*KNOWN, f"{url}/small")).out == b"small"
        assert (await curl(*KNOWN, "--data", "up", f"{url}/echo")).out == b"up"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_python_s_own_server(
    web: Generation, api: Generation, tmp_path: Path, way: str, version: str
) -> None:
    """A server that ends each connection, and answers in HTTP/1.0 whatever it is asked in."""
    content = bytes(range(256)) * 4_000
    (tmp_path / "file").write_bytes(content)
    app = free_address("127.0.0.2")
    program = (sys.executable, "-m", "http.server", "--bind", app.ip, "--directory", str(tmp_path))
    async with serving(app, *program, str(app.port)), run_way(way, web, api, app) as pair:
        url = f"http://{pair.entry}"
        said = await curl(f"--http{version}", "--verbose", *[f"{url}/file"] * 3)
        assert said.out == content * 3
        if version == "1.1":
            assert said.err.count(b"Re-using existing connection") == 2
        said = await curl(f"--http{version}", "--head", f"{url}/file")
        assert b"content-length: %d\r\n" % len(content) in said.out.lower()
        said = await curl(f"--http{version}", "--write-out", "%{http_code}", f"{url}/none")
        assert said.out.endswith(b"404")
        said = await curl(f"--http{version}", "--write-out", "%{http_code}", "-d", "a", f"{url}/")
        assert said.out.endswith(b"501")

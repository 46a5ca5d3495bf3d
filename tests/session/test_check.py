"""``pillion check`` asks a sidecar: ready, not ready, in trouble, or not a sidecar at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cli.check.finding import Finding, Result
from cli.check.sidecar import SidecarChecks
from core.watch import Watch
from discovery.model import Address
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from tests.authority import mk_mesh
from tests.session.apps import serve
from tests.session.client import run_client
from tests.sidecars import Control, free_address, run_sidecar


async def look(admin: Address) -> dict[str, Finding]:
    """Run the checks beside the loop that the sidecar runs in."""

    def run() -> dict[str, Finding]:
        return {check.name: check.run() for check in SidecarChecks(admin)}

    return await asyncio.to_thread(run)


async def test_a_sidecar_that_serves(web: Generation) -> None:
    """It answers, is ready, and has a certificate that is believed."""
    async with run_client(web) as client:
        found = await look(client.config.admin_listen)
    assert {each.result for each in found.values()} == {Result.GOOD}
    assert web.identity.name in found["sidecar-certificate"].seen[0]


async def test_a_sidecar_that_is_not_ready_says_why() -> None:
    """Its own words."""
    control = Control(Watch(None))
    async with run_sidecar(None, FixedCapture(Address("10.0.0.1", 1)), control=control) as early:
        found = await look(early.config.admin_listen)
    assert found["sidecar-answers"].result is Result.GOOD
    assert found["sidecar-ready"].result is Result.BAD
    assert found["sidecar-ready"].seen == ("not ready: no certificate has been issued to us yet",)
    assert found["sidecar-certificate"].result is Result.BAD


async def test_a_certificate_that_peers_refuse_is_told(web: Generation, tmp_path: Path) -> None:
    """The anchors were exchanged before the leaf was."""
    async with run_client(web) as client:
        client.control.generation.publish(web.under(mk_mesh(tmp_path / "other").anchors))
        found = await look(client.config.admin_listen)
    assert found["sidecar-certificate"].result is Result.BAD
    assert "does not verify" in found["sidecar-certificate"].seen[0]


async def test_nobody_answers() -> None:
    """Nothing else is asked then."""
    found = await look(free_address())
    assert list(found) == ["sidecar-answers"]
    assert found["sidecar-answers"].result is Result.BAD
    assert "pillion proxy" in found["sidecar-answers"].remedy


async def test_whoever_else_answers_is_not_taken_for_a_sidecar() -> None:
    """Another server, and one that speaks no HTTP."""

    async def web_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n<html>")
        writer.close()

    async def greeter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        writer.close()

    async with serve(web_server) as address:
        found = await look(address)
        assert found["sidecar-answers"].result is Result.BAD
        assert found["sidecar-certificate"].result is Result.BAD
        assert "no answer of a sidecar" in found["sidecar-certificate"].seen[0]
    async with serve(greeter) as address:
        assert list(await look(address)) == ["sidecar-answers"]

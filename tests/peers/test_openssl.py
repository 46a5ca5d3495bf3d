"""``openssl s_client`` and ``s_server`` as peers: TLS as another library understands it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from core.watch import Watch
from discovery.model import Address, Endpoint
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from proxy.wire.transport_header import TransportHeader, encode_header
from tests.authority import Mesh, mk_mesh
from tests.session.apps import exchange, serve
from tests.session.client import CLUSTER_IP, run_client
from tests.session.peers import DIRECT, mk_files
from tests.sidecars import Control, Running, free_address, run_sidecar

pytestmark = pytest.mark.needs("openssl")

_PATIENCE_S: Final = 15


@dataclass(frozen=True)
class Said:
    """What a program said before it ended."""

    status: int
    out: bytes
    err: bytes


def mk_root(mesh: Mesh, directory: Path) -> Path:
    """Write the mesh's anchor as PEM."""
    path = directory / "root.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(mesh.root))
    return path


def credentials(files: tuple[Path, Path]) -> list[str]:
    """Return the options that present a chain and its key."""
    chain, key = (str(path) for path in files)
    return ["-cert", chain, "-cert_chain", chain, "-key", key]


async def s_client(
    address: Address, server_name: str, data: bytes, *options: str, quiet: bool = True
) -> Said:
    """Connect, send ``data``, and wait until the server ends."""
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *("openssl", "s_client", "-connect", str(address), "-servername", server_name),
            *(("-quiet", "-verify_quiet") if quiet else ("-ign_eof",)),
            *options,
        ],
        input=data,
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer four bytes with themselves and end."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        writer.write(await reader.readexactly(4))
        await writer.drain()
    writer.close()


@dataclass
class Inbound:
    """A server's sidecar before an application that answers."""

    running: Running
    app: Address
    name: str
    direct: bool

    @property
    def address(self) -> Address:
        """Where it takes inbound connections."""
        return self.running.config.inbound_listen

    @property
    def request(self) -> bytes:
        """What a sidecar would send to the direct port."""
        return encode_header(TransportHeader(self.app.port)) + b"ping"


@asynccontextmanager
async def run_inbound(generation: Generation, *, direct: bool) -> AsyncIterator[Inbound]:
    """Run a sidecar whose inbound port is dialled as such, or redirected to."""
    inbound = free_address("127.0.0.2")
    async with (
        serve(answer) as app,
        run_sidecar(
            generation, FixedCapture(inbound if direct else app), ip=app.ip, inbound=inbound
        ) as running,
    ):
        yield Inbound(running, app, generation.server_name, direct)


# Towards the workload


async def test_a_client_speaks_the_direct_protocol(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """Mutual TLS with ALPN, the header, and the application answers."""
    files = mk_files(mesh, "shop/web", tmp_path)
    root = str(mk_root(mesh, tmp_path))
    async with run_inbound(api, direct=True) as server:
        said = await s_client(
            server.address,
            server.name,
            server.request,
            *("-alpn", DIRECT, "-CAfile", root, "-verify_return_error"),
            *("-verify_hostname", server.name, *credentials(files)),
        )
        assert said.out == b"ping"
        assert said.status == 0
        seen = await server.running.until_event("connection")
        assert seen["client_identity"] == str(mesh.identity("shop/web"))


async def test_without_a_certificate_only_the_direct_port_is_closed(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """Refused there without a byte; elsewhere TLS without an identity."""
    root = str(mk_root(mesh, tmp_path))
    async with run_inbound(api, direct=True) as server:
        said = await s_client(
            server.address, server.name, server.request, "-alpn", DIRECT, "-CAfile", root
        )
        assert said.out == b""
        failed = await server.running.until_event("connection failed")
        assert failed["code"] == "direct-not-mutual"
    async with run_inbound(api, direct=False) as server:
        said = await s_client(server.address, server.name, b"ping", "-CAfile", root)
        assert said.out == b"ping"
        seen = await server.running.until_event("connection")
        assert (seen["tls"], seen["client_identity"]) == ("mesh", "")


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "redirected"])
async def test_tls_1_2_is_refused_to_a_client(
    mesh: Mesh, api: Generation, tmp_path: Path, direct: bool
) -> None:
    """By an alert that says so."""
    files = mk_files(mesh, "shop/web", tmp_path)
    async with run_inbound(api, direct=direct) as server:
        said = await s_client(
            server.address, server.name, server.request, "-tls1_2", *credentials(files)
        )
        assert said.out == b""
        assert said.status != 0
        assert b"alert protocol version" in said.err
        failed = await server.running.until_event("connection failed")
        assert failed["code"] == "handshake"


@pytest.mark.parametrize(
    ("times", "reason", "alert"),
    [
        ({"starts_s": -10, "lifetime_s": 1, "skew_s": 0}, "expired", b"expired"),
        ({"starts_s": 600, "skew_s": 0}, "not yet valid", b"bad certificate"),
    ],
    ids=["expired", "not yet valid"],
)
async def test_a_client_s_dates_are_looked_at(
    mesh: Mesh,
    api: Generation,
    tmp_path: Path,
    times: dict[str, float],
    reason: str,
    alert: bytes,
) -> None:
    """Wherever TLS is ours: a certificate that is shown has to be good."""
    files = mk_files(mesh, "shop/web", tmp_path, **times)
    for direct in (True, False):
        async with run_inbound(api, direct=direct) as server:
            said = await s_client(
                server.address,
                server.name,
                server.request,
                *("-alpn", DIRECT, *credentials(files)),
            )
            assert said.out == b""
            assert alert in said.err
            failed = await server.running.until_event("connection failed")
            assert failed["code"] == "handshake"
            assert reason in failed["reason"]


async def test_a_client_of_another_authority_is_refused(api: Generation, tmp_path: Path) -> None:
    """The alert says that its authority is unknown."""
    files = mk_files(mk_mesh(tmp_path / "stranger"), "shop/web", tmp_path / "leaf")
    async with run_inbound(api, direct=True) as server:
        said = await s_client(
            server.address, server.name, server.request, "-alpn", DIRECT, *credentials(files)
        )
        assert said.out == b""
        assert b"unknown ca" in said.err
        failed = await server.running.until_event("connection failed")
        assert "does not verify" in failed["reason"]


async def test_a_client_that_does_not_trust_us_sends_nothing(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """Our chain hangs on our root, and on no other; our name is ours, and no other."""
    stranger = str(mk_root(mk_mesh(tmp_path / "stranger"), tmp_path))
    own = str(mk_root(mesh, tmp_path / "stranger"))
    async with run_inbound(api, direct=False) as server:
        for options, alert in (
            (("-CAfile", stranger), "unknown ca"),
            (("-CAfile", own, "-verify_hostname", "db.example"), "bad certificate"),
        ):
            said = await s_client(
                server.address, server.name, b"ping", "-verify_return_error", *options
            )
            assert said.out == b""
            assert said.status != 0
            failed = server.running.events("connection failed")[-1]
            assert alert in failed["reason"]


async def test_alpn_without_overlap_is_refused_on_the_direct_port_alone(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """Elsewhere ALPN is ignored, and none selected."""
    files = mk_files(mesh, "shop/web", tmp_path)
    async with run_inbound(api, direct=True) as server:
        for alpn in ((), ("-alpn", "h2"), ("-alpn", "transport.l5d.io/v2,h2")):
            said = await s_client(
                server.address, server.name, server.request, *alpn, *credentials(files)
            )
            assert said.out == b""
        codes = [each["code"] for each in server.running.events("connection failed")]
        assert codes == ["direct-no-alpn"] * 3
        said = await s_client(
            server.address,
            server.name,
            server.request,
            *("-alpn", f"h2,{DIRECT}", *credentials(files)),
        )
        assert said.out == b"ping"
    async with run_inbound(api, direct=False) as server:
        said = await s_client(
            server.address,
            server.name,
            b"ping",
            *("-alpn", DIRECT, *credentials(files)),
            quiet=False,
        )
        assert b"No ALPN negotiated" in said.out
        assert b"ping" in said.out


# Resumption


async def resume(server: Inbound, ticket: Path, files: tuple[Path, Path] | None) -> Said:
    """Connect with the session kept in ``ticket``, if there is one, and keep the newest there."""
    known = ("-sess_in", str(ticket)) if ticket.exists() else ()
    alpn = ("-alpn", DIRECT) if server.direct else ()
    return await s_client(
        server.address,
        server.name,
        server.request if server.direct else b"ping",
        *(*alpn, *known, "-sess_out", str(ticket)),
        *(credentials(files) if files is not None else ()),
        quiet=False,
    )


def is_resumed(said: Said) -> bool:
    """Whether a session was taken up, and the answer came."""
    assert b"ping" in said.out
    resumed, new = b"Reused, TLSv1.3" in said.out, b"New, TLSv1.3" in said.out
    assert resumed != new
    return resumed


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "redirected"])
async def test_a_known_client_is_resumed(
    mesh: Mesh, api: Generation, tmp_path: Path, direct: bool
) -> None:
    """And is who it was; in full after a renewal, and resumed again."""
    files = mk_files(mesh, "shop/web", tmp_path)
    ticket = tmp_path / "session.pem"
    async with run_inbound(api, direct=direct) as server:
        answers = [await resume(server, ticket, files) for _ in range(3)]
        assert [is_resumed(said) for said in answers] == [False, True, True]
        server.running.control.generation.publish(mesh.generation("shop/api"))
        answers = [await resume(server, ticket, files) for _ in range(2)]
        assert [is_resumed(said) for said in answers] == [False, True]
        callers = {each["client_identity"] for each in server.running.events("connection")}
        assert callers == {str(mesh.identity("shop/web"))}


@pytest.mark.parametrize("how", ["forgotten", "ended"])
async def test_a_resumed_client_that_cannot_be_believed_is_let_go(
    mesh: Mesh, api: Generation, tmp_path: Path, how: str
) -> None:
    """Not in the cache, or past its end: closed without a byte; a full handshake helps."""
    files = mk_files(mesh, "shop/web", tmp_path)
    ticket = tmp_path / "session.pem"
    async with run_inbound(api, direct=True) as server:
        assert not is_resumed(await resume(server, ticket, files))
        known = api.peers._peers
        if how == "forgotten":
            known.clear()
        else:
            known.update({leaf: replace(peer, not_after=1.0) for leaf, peer in known.items()})
        said = await resume(server, ticket, files)
        assert b"ping" not in said.out
        failed = await server.running.until_event("connection failed")
        assert failed["code"] == "resumed-unknown"
        ticket.unlink()
        answers = [await resume(server, ticket, files) for _ in range(2)]
        assert [is_resumed(said) for said in answers] == [False, True]


async def test_a_session_without_a_certificate_gains_none(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """Nobody becomes somebody by resuming, with a certificate at hand or without."""
    ticket = tmp_path / "session.pem"
    files = mk_files(mesh, "shop/web", tmp_path)
    async with run_inbound(api, direct=False) as server:
        assert not is_resumed(await resume(server, ticket, None))
        assert is_resumed(await resume(server, ticket, None))
        assert is_resumed(await resume(server, ticket, files))
        callers = {each["client_identity"] for each in server.running.events("connection")}
        assert callers == {""}


async def test_a_session_of_another_port_is_not_taken_up_on_the_direct_one(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """What was made without ALPN must not stand where ALPN is asked for."""
    ticket = tmp_path / "session.pem"
    files = mk_files(mesh, "shop/web", tmp_path)
    async with run_inbound(api, direct=False) as server:
        assert not is_resumed(await resume(server, ticket, files))
    async with run_inbound(api, direct=True) as server:
        assert not is_resumed(await resume(server, ticket, files))


# From the workload


@asynccontextmanager
async def s_server(*options: str) -> AsyncIterator[tuple[Address, asyncio.subprocess.Process]]:
    """Run a server on a port of its choice; TLS 1.3 and mutual unless the options say otherwise."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", "127.0.0.3:0", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            line = b""
            while not line.startswith(b"ACCEPT"):
                line = await process.stdout.readline()
                assert line, "s_server ended before it listened"
        yield Address("127.0.0.3", int(line.rpartition(b":")[2])), process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def printed(process: asyncio.subprocess.Process, text: bytes) -> bytes:
    """Wait until the program has printed ``text``; return all that it has printed by then."""
    assert process.stdout is not None
    seen = b""
    async with asyncio.timeout(_PATIENCE_S):
        while text not in seen:
            more = await process.stdout.read(4096)
            assert more, seen
            seen += more
    return seen


def demands(mesh: Mesh, directory: Path) -> list[str]:
    """Return the options that insist on a client of ``mesh``."""
    return ["-CAfile", str(mk_root(mesh, directory)), "-Verify", "3", "-verify_return_error"]


async def test_a_server_gets_our_certificate_and_the_bytes(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """It insists on a client certificate, and takes ours; without ALPN there is no header."""
    files = mk_files(mesh, "shop/api", tmp_path)
    control = Control(Watch(web))
    async with (
        s_server(*credentials(files), *demands(mesh, tmp_path), "-tls1_3", "-rev") as (
            address,
            _,
        ),
        run_client(web, control) as client,
    ):
        identity = mesh.identity("shop/api")
        control.route(CLUSTER_IP, Endpoint(address=address, identity=identity))
        reader, writer = await asyncio.open_connection(
            client.config.outbound_listen.ip, client.config.outbound_listen.port
        )
        async with asyncio.timeout(_PATIENCE_S):
            for word in (b"abc", b"level", b"xyz"):
                writer.write(word + b"\n")
                assert await reader.readline() == word[::-1] + b"\n"
        writer.close()
        assert (await client.until_event("connection"))["server_identity"] == str(identity)


async def test_a_server_with_our_alpn_gets_the_header_first(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """Byte by byte as the protocol has it."""
    files = mk_files(mesh, "shop/api", tmp_path)
    control = Control(Watch(web))
    async with (
        s_server(*credentials(files), *demands(mesh, tmp_path), "-alpn", DIRECT) as (
            address,
            process,
        ),
        run_client(web, control) as client,
    ):
        control.route(
            CLUSTER_IP,
            Endpoint(
                address=Address(address.ip, 8080),
                identity=mesh.identity("shop/api"),
                direct_port=address.port,
            ),
        )
        entry = client.config.outbound_listen
        _, writer = await asyncio.open_connection(entry.ip, entry.port)
        writer.write(b"payload")
        seen = await printed(process, b"payload")
        assert encode_header(TransportHeader(8080)) + b"payload" in seen
        assert str(web.identity).encode() in seen
        writer.transport.abort()


async def test_a_server_that_refuses_our_authority_resets_the_client(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """Its alert comes after our handshake, and is no orderly end."""
    files = mk_files(mesh, "shop/api", tmp_path / "leaf")
    stranger = mk_mesh(tmp_path / "stranger")
    control = Control(Watch(web))
    async with (
        s_server(*credentials(files), *demands(stranger, tmp_path)) as (address, _),
        run_client(web, control) as client,
    ):
        control.route(CLUSTER_IP, Endpoint(address=address, identity=mesh.identity("shop/api")))
        assert await exchange(client.config.outbound_listen, b"ping", end=False) == b""
        assert (await client.until_event("connection closed"))["error"] == "handshake"


@pytest.mark.parametrize(
    ("who", "times", "options", "code"),
    [
        ("shop/db", {}, (), "identity-mismatch"),
        ("shop/api", {"starts_s": -10, "lifetime_s": 1, "skew_s": 0}, (), "handshake"),
        ("shop/api", {"starts_s": 600, "skew_s": 0}, (), "handshake"),
        ("shop/api", {}, ("-tls1_2",), "handshake"),
    ],
    ids=["another identity", "expired", "not yet valid", "TLS 1.2"],
)
async def test_a_server_that_proves_nothing_gets_nothing(
    mesh: Mesh,
    web: Generation,
    tmp_path: Path,
    who: str,
    times: dict[str, float],
    options: tuple[str, ...],
    code: str,
) -> None:
    """Neither our certificate nor a byte of the client's."""
    files = mk_files(mesh, who, tmp_path, **times)
    control = Control(Watch(web))
    async with (
        s_server(*credentials(files), *demands(mesh, tmp_path), *options) as (address, process),
        run_client(web, control) as client,
    ):
        control.route(CLUSTER_IP, Endpoint(address=address, identity=mesh.identity("shop/api")))
        assert await exchange(client.config.outbound_listen, b"secret", end=False) == b""
        assert (await client.until_event("connection failed"))["code"] == code
        seen = await printed(process, b"ERROR")
        assert b"secret" not in seen
        assert str(web.identity).encode() not in seen


async def test_a_server_of_another_authority_gets_nothing(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """Even under the right name."""
    stranger = mk_mesh(tmp_path / "stranger")
    files = mk_files(stranger, "shop/api", tmp_path / "leaf")
    control = Control(Watch(web))
    async with (
        s_server(*credentials(files), *demands(mesh, tmp_path)) as (address, process),
        run_client(web, control) as client,
    ):
        control.route(CLUSTER_IP, Endpoint(address=address, identity=mesh.identity("shop/api")))
        assert await exchange(client.config.outbound_listen, b"secret", end=False) == b""
        failed = await client.until_event("connection failed")
        assert "does not verify" in failed["reason"]
        seen = await printed(process, b"unknown ca")
        assert b"secret" not in seen


async def test_sessions_of_a_server_are_taken_up(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """By its tickets; a server that knows them no more is met with a full handshake."""
    files = mk_files(mesh, "shop/api", tmp_path)
    control = Control(Watch(web))
    async with run_client(web, control) as client:
        identity = mesh.identity("shop/api")
        for expected in ([False, True, True], [False, True]):
            async with s_server(*credentials(files), *demands(mesh, tmp_path), "-rev") as (
                address,
                _,
            ):
                control.route(CLUSTER_IP, Endpoint(address=address, identity=identity))
                assert [await is_resumed_by(client) for _ in expected] == expected


async def is_resumed_by(client: Running) -> bool:
    """Make a connection through the client's sidecar; whether it resumed a session."""
    entry = client.config.outbound_listen
    reader, writer = await asyncio.open_connection(entry.ip, entry.port)
    async with asyncio.timeout(_PATIENCE_S):
        writer.write(b"abc\n")
        assert await reader.readline() == b"cba\n"
        (connection,) = client.relayed
        engine = connection.relay.far.engine
        assert engine is not None
        resumed = engine.resumed
        writer.close()
        while client.sidecar.runtime.connections:
            await asyncio.sleep(0.001)
    return resumed

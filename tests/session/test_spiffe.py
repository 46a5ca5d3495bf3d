"""SPIFFE identities from end to end: leaf, server name, endpoint, policy, and the first SAN.

The names and rules are linkerd2-proxy's for workloads outside of a cluster: the identity is a
URI, the SNI a DNS name of its own, and an endpoint of a URI without one is dialled in plaintext.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cli.identity import command
from control.identity import LeafFiles
from core.clock import SystemClock
from core.watch import Watch
from discovery.model import Endpoint, default_metadata
from identity.anchors import load_anchors
from identity.generation import Generation
from identity.issuer import read_chain
from identity.key import create_key, encode_key, read_key
from identity.material import Material
from identity.name import Identity, parse_identity
from policy.model import (
    ALL_NETWORKS,
    Authorization,
    NetworkMatch,
    ServerPolicy,
    TlsAuthenticated,
)
from proxy.net.capture import FixedCapture
from proxy.wire.transport_header import TransportHeader, encode_header
from tests.authority import Mesh
from tests.session.apps import echo, exchange, serve
from tests.session.client import run_client
from tests.session.peers import mk_context
from tests.session.test_direct import talk
from tests.sidecars import Control, free_address, run_sidecar

WEB: Final = "spiffe://cluster.local/ns/shop/sa/web"
API: Final = "spiffe://cluster.local/ns/shop/sa/api"
SERVER_NAME: Final = "api.shop.example"

pytestmark = pytest.mark.usefixtures("tls_engine")


def mk_policy(*identities: str) -> ServerPolicy:
    """Return a policy that admits exactly these identities."""
    return ServerPolicy(
        metadata=default_metadata("spiffe"),
        authorizations=(
            Authorization(
                metadata=default_metadata("spiffe"),
                networks=tuple(NetworkMatch(each) for each in ALL_NETWORKS),
                authentication=TlsAuthenticated(frozenset(map(parse_identity, identities))),
            ),
        ),
        localhost=None,
    )


def mk_files(mesh: Mesh, directory: Path, *sans: x509.GeneralName) -> tuple[Path, Path]:
    """Write a leaf with any SANs, as another authority's tools might issue it."""
    authority, key = mesh.authority, create_key()
    (issuer,) = read_chain(authority.issuer_certificate)
    now = datetime.now(UTC)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=20))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(sans), critical=True)
        .sign(read_key(authority.issuer_key), hashes.SHA256())
    )
    chain, key_file = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(leaf.public_bytes(Encoding.PEM) + issuer.public_bytes(Encoding.PEM))
    key_file.write_bytes(encode_key(key))
    return chain, key_file


@pytest.fixture
def api(mesh: Mesh) -> Generation:
    """Return the server's generation."""
    return mesh.generation(API, server_name=SERVER_NAME)


@pytest.mark.parametrize("direct", [True, False], ids=["direct port", "application's port"])
@pytest.mark.parametrize(("client", "answer"), [(WEB, b"ping"), (f"{WEB}2", b"")])
async def test_a_client_is_admitted_by_its_exact_uri(
    mesh: Mesh, api: Generation, client: str, answer: bytes, *, direct: bool
) -> None:
    """With the endpoint's server name for SNI; another path is another workload."""
    web = mesh.generation(client, server_name="web.shop.example")
    inbound = free_address("127.0.0.2")
    far_control, near_control = Control(Watch(api)), Control(Watch(web))
    async with serve(echo) as app:
        far_control.policies[app.port] = Watch(mk_policy(WEB))
        near_control.route(
            app,
            Endpoint(
                address=app if direct else inbound,
                identity=parse_identity(API),
                server_name=SERVER_NAME,
                direct_port=inbound.port if direct else None,
            ),
        )
        async with (
            run_sidecar(
                api,
                FixedCapture(inbound if direct else app),
                ip="127.0.0.2",
                inbound=inbound,
                control=far_control,
            ) as server,
            run_client(web, near_control, destination=app) as running,
        ):
            assert await exchange(running.config.outbound_listen, b"ping") == answer
            event = "connection" if answer else "connection denied"
            assert (await server.until_event(event))["client_identity"] == client
            assert (await running.until_event("connection"))["server_identity"] == API


@pytest.mark.parametrize("expected", [f"{API}2", "spiffe://cluster.local/ns/shop/sa"])
async def test_a_server_of_another_uri_is_not_used(
    mesh: Mesh, api: Generation, expected: str
) -> None:
    """Full equality, neither prefix nor suffix."""
    inbound = free_address("127.0.0.2")
    web = mesh.generation(WEB, server_name="web.example")
    control = Control(Watch(web))
    async with serve(echo) as app:
        endpoint = Endpoint(
            address=app,
            identity=parse_identity(expected),
            server_name=SERVER_NAME,
            direct_port=inbound.port,
        )
        control.route(app, endpoint)
        async with (
            run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound),
            run_client(web, control, destination=app) as running,
        ):
            assert await exchange(running.config.outbound_listen, b"ping") == b""
            failed = await running.until_event("connect failed")
            assert failed["code"] == "identity-mismatch"
            assert API in failed["reason"]


async def test_an_endpoint_of_a_uri_without_server_name_is_dialled_in_plaintext(
    mesh: Mesh,
) -> None:
    """As Linkerd does: there is no SNI to send; the log says so."""
    web = mesh.generation(WEB, server_name="web.example")
    control = Control(Watch(web))
    async with serve(echo) as app:
        control.route(app, Endpoint(address=app, identity=parse_identity(API)))
        async with run_client(web, control, destination=app) as running:
            assert await exchange(running.config.outbound_listen, b"ping") == b"ping"
            event = await running.until_event("connection")
            assert event["no_tls_reason"] == "not_provided_by_service_discovery"


async def test_a_uri_is_never_taken_for_a_server_name(mesh: Mesh, api: Generation) -> None:
    """TLS for another name passes through to the application, which is not ours to answer."""
    inbound = free_address("127.0.0.2")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", inbound=inbound) as server,
    ):
        found = await talk(server, context, "cluster.local", b"x")
        assert isinstance(found, Exception)
        assert (await server.until_event("connection"))["tls"] == "foreign"


_URI, _DNS = x509.UniformResourceIdentifier(WEB), x509.DNSName("web.example")
_MAIL = x509.RFC822Name("a@b.test")


@pytest.mark.parametrize(
    ("sans", "identity"),
    [
        ((_URI, _DNS), WEB),
        ((_DNS, _URI), "web.example"),
        ((_MAIL, _URI), WEB),
        ((x509.DNSName("dot.example."), _URI), WEB),
        ((x509.UniformResourceIdentifier("https://cluster.local/web"), _DNS), "web.example"),
        ((x509.UniformResourceIdentifier("spiffe://cluster.local/a/../b"), _URI), WEB),
        ((_MAIL,), ""),
    ],
)
async def test_the_first_name_that_can_be_read_is_the_client_s(
    mesh: Mesh,
    api: Generation,
    tmp_path: Path,
    sans: tuple[x509.GeneralName, ...],
    identity: str,
) -> None:
    """In the certificate's order, DNS names and URIs alike; the others name nobody."""
    context = mk_context(mesh, mk_files(mesh, tmp_path, *sans))
    inbound = free_address("127.0.0.2")
    control = Control(Watch(api), policy=mk_policy(identity or WEB))
    async with (
        serve(echo) as app,
        run_sidecar(
            api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound, control=control
        ) as server,
    ):
        data = encode_header(TransportHeader(app.port)) + b"ping"
        answer = await talk(server, context, SERVER_NAME, data)
        if identity:
            assert answer == b"ping"
            assert (await server.until_event("connection"))["client_identity"] == identity
        else:
            assert (await server.until_event("connection failed"))["code"] == "direct-not-mutual"


async def test_a_root_speaks_for_uris_of_its_own_domain_only(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """A URI's domain is its authority: ours may not vouch for a linked cluster's workload."""
    foreign = x509.UniformResourceIdentifier("spiffe://west.example/ns/shop/sa/web")
    context = mk_context(mesh, mk_files(mesh, tmp_path, foreign))
    inbound = free_address("127.0.0.2")
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound) as server,
    ):
        data = encode_header(TransportHeader(app.port)) + b"ping"
        await talk(server, context, SERVER_NAME, data)
        failed = await server.until_event("connection failed")
        assert failed["code"] == "identity-root"
        assert "no anchor of west.example" in failed["reason"]


def test_a_uri_s_leaf_goes_from_the_command_to_a_sidecar_s_files(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``identity issue`` writes is what a sidecar with files takes, server name and all."""
    monkeypatch.setenv("PILLION_DEV_ISSUER", "1")
    out = tmp_path / "api"
    done = CliRunner().invoke(
        command,
        ["issue", API, "--out", str(out), "--authority", str(mesh.authority.directory)],
    )
    assert done.exit_code == 0, done.output
    identity: Identity = parse_identity(API)
    files = LeafFiles(
        out,
        identity,
        load_anchors=lambda before: load_anchors(
            Material(out).anchors, identity.trust_domain, before
        ),
        clock=SystemClock(),
        log=lambda level, message: None,
        server_name=SERVER_NAME,
    )
    assert files.load()
    generation = files.generation.current
    assert generation is not None
    assert (generation.identity, generation.server_name) == (identity, SERVER_NAME)

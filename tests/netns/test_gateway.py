"""Two clusters whose pods cannot reach each other: a gateway is the only way across.

Nodes hide their pods behind their own address, as a cloud's NAT does; each cluster has an issuer
and roots of its own.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.host import Host
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import find_runtime
from proxy.wire.transport_header import ALPN, TransportHeader, encode_header
from redirect.options import PROXY_UID
from tests.netns.talk import ask, closed, echo, served
from tests.support.clusters import BY_GATEWAY, admit, bytes_carried, identity, link_of, mesh_of
from tests.support.processes import wait_until
from tests.support.sockets import connect_in

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

PORT = 9000
API = "10.97.0.20"
PRIVATE = "10.97.0.21"
API_WEST = "10.97.0.30"
GATEWAY = identity("gateway", "west")


@dataclass(frozen=True)
class Scene:
    """Both clusters, the gateway, and all sidecars by pod."""

    east: Mesh
    west: Mesh
    node: Host
    """The east's."""
    address: str
    """Where the east reaches the gateway."""
    sidecars: dict[str, Sidecar]
    place: Path

    @property
    def web(self) -> Pod:
        """The client's pod."""
        return self.east.pods["web-0"]

    @property
    def api(self) -> Pod:
        """The server's."""
        return self.west.pods["api-0"]

    @property
    def gateway(self) -> Sidecar:
        """The gateway."""
        return self.sidecars["west/gateway-0"]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Two linked clusters and the west's gateway, run as a user runs it."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        runtime = find_runtime(PROXY_UID, place)
        clusters = rig.cluster("east"), rig.cluster("west", "10.12.0.0/24")
        host, address = rig.join_by_gateway(*clusters)
        east, west = (mesh_of(rig, each, runtime, place) for each in clusters)
        for pod, account in (("web-0", "web"), ("cron-0", "cron")):
            east.workload(pod, account)
        west.workload("api-0", "api")
        west.workload(
            "gateway-0",
            "gateway",
            annotations={"config.linkerd.io/default-inbound-policy": "all-authenticated"},
            pod=Pod(host, (address,)),
        )
        west.service("api", "api", [API], {PORT: PORT}, BY_GATEWAY)
        west.service("private", "api", [PRIVATE], {PORT: PORT})
        # Written down for their addresses alone: clients of this test have no DNS.
        east.service("api-west", "", [API_WEST], {PORT: PORT})
        link_of(east, west, address)
        west.trust(east)
        # Only what comes through the gateway is let in, and only one account through that.
        admit(west, "api", PORT, [GATEWAY])
        admit(west, "gateway", 4143, [identity("web", "east")])
        for mesh in (east, west):
            mesh.start_issuer()
            mesh.write()
        sidecars = {"west/gateway-0": west.start_gateway("gateway-0")}
        for mesh, pods in ((east, ("web-0", "cron-0")), (west, ("api-0",))):
            for pod in pods:
                mesh.capture(pod)
                sidecars[f"{mesh.cluster.name}/{pod}"] = mesh.start_sidecar(pod)
        for sidecar in sidecars.values():
            sidecar.await_ready()
        yield Scene(east, west, clusters[0].node, address, sidecars, place)


def test_the_service_answers(scene: Scene) -> None:
    """The target sees the gateway, the gateway the caller; both ends are mutual TLS."""
    with served(scene.api, PORT, echo):
        assert ask(scene.web, API_WEST, PORT, b"hello") == b"you said: hello"
    seen = scene.sidecars["west/api-0"].find(10, event="connection", direction="inbound")
    assert seen is not None
    assert (seen["client_identity"], seen["tls"]) == (GATEWAY, "mesh")
    carried = scene.gateway.find(10, event="connection", direction="gateway")
    assert carried is not None
    assert carried["client_identity"] == identity("web", "east")
    assert (carried["tls"], carried["server_identity"]) == ("mesh", identity("api", "west"))
    told = scene.sidecars["east/web-0"].find(10, event="connection", direction="outbound")
    assert told is not None
    assert (told["path"], told["server_identity"]) == ("gateway", GATEWAY)
    assert bytes_carried(scene.gateway) > 0


def test_policy_at_the_gateway_says_who_enters(scene: Scene) -> None:
    """One service account of the other cluster, and not its neighbour."""
    assert closed(scene.east.pods["cron-0"], API_WEST, PORT) < 10
    denied = scene.gateway.find(10, event="connection denied")
    assert denied is not None
    assert denied["client_identity"] == identity("cron", "east")


@pytest.mark.parametrize(
    "header",
    [
        TransportHeader(PORT, "private.shop.svc.cluster.local"),
        TransportHeader(PORT, "api-0.shop.svc.cluster.local"),
        TransportHeader(4191, "api.shop.svc.cluster.local"),
        TransportHeader(4143, "api.shop.svc.cluster.local"),
        TransportHeader(PORT, "10.12.0.11"),
        TransportHeader(PORT, "kubernetes.default.svc.cluster.local"),
        TransportHeader(PORT),
        TransportHeader(4191),
    ],
    ids=str,
)
def test_what_is_not_exported_is_not_reached(scene: Scene, header: TransportHeader) -> None:
    """By no header, from a client whose identity is good and who is let in."""
    context = peer_context(scene)
    with served(scene.api, PORT, echo):
        with (
            connect_in(scene.node, scene.address, 4143) as raw,
            context.wrap_socket(raw, server_hostname=GATEWAY) as near,
        ):
            near.sendall(encode_header(header) + b"hi")
            with suppress(ssl.SSLError, ConnectionError):
                assert near.recv(64) == b""
        # The one connection that the app serves is one that may come.
        assert ask(scene.web, API_WEST, PORT, b"me") == b"you said: me"


def peer_context(scene: Scene) -> ssl.SSLContext:
    """Return what a client needs that has the eastern ``web``'s identity and is no sidecar."""
    home = scene.place / "leaf"
    if not home.exists():
        issuer = scene.place / "east" / "issuer"
        socket = scene.place / "east" / "run" / "issuer.sock"
        where = ("--authority", str(issuer), "--socket", str(socket), "--out", str(home))
        scene.east.pillion("identity", "issue", "shop/web", *where)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(scene.west.anchors)
    context.load_cert_chain(home / "chain.pem", home / "key.pem")
    context.set_alpn_protocols([ALPN])
    return context


def test_a_gateway_that_dies_and_comes_back(scene: Scene) -> None:
    """Its clients are refused at once rather than left waiting, and served again after it."""
    web = scene.sidecars["east/web-0"]
    assert web.find(10, event="gateway", liveness="alive") is not None
    program = scene.gateway.program
    program.terminate()
    program.wait(20)
    assert web.find(20, event="gateway", liveness="dead") is not None
    assert closed(scene.web, API_WEST, PORT) < 10
    failed = web.find(10, event="connection failed", code="no-endpoints")
    assert failed is not None
    before = len([each for each in web.events() if each.get("event") == "gateway"])
    again = scene.sidecars["west/gateway-0"] = scene.west.start_gateway("gateway-0")
    again.await_ready()

    def is_back() -> bool:
        events = [each for each in web.events() if each.get("event") == "gateway"]
        return len(events) > before and events[-1]["liveness"] == "alive"

    wait_until(is_back, seconds=20, what="the gateway is found alive")
    with served(scene.api, PORT, echo):
        assert ask(scene.web, API_WEST, PORT, b"again") == b"you said: again"

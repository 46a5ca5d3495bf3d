"""Two clusters whose pods cannot reach each other: a gateway is the only way across.

Nodes hide their pods behind their own address, as a cloud's NAT does; each cluster has an issuer
and roots of its own.
"""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from cli.demo.host import Host
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import find_runtime
from proxy.wire.transport_header import ALPN, SessionProtocol, TransportHeader, encode_header
from redirect.options import PROXY_UID
from tests.netns.polyglot import PORTS
from tests.netns.talk import ask, closed, echo, served
from tests.netns.three_clusters import await_polyglot, start_polyglot
from tests.support.clusters import BY_GATEWAY, admit, bytes_carried, identity, link_of, mesh_of
from tests.support.processes import wait_until
from tests.support.sockets import connect_in, listener_in

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

PORT = 9000
API = "10.97.0.20"
PRIVATE = "10.97.0.21"
BARE = "10.97.0.22"
SKIPPING = "10.97.0.23"
API_WEST = "10.97.0.30"
GATEWAY = identity("gateway", "west")
HTTP1, HTTP2 = PORTS["HTTP/1"], PORTS["HTTP/2"]
HIDDEN_PORT = 9099
"""What ``private`` leads to."""
HIDDEN = "private.shop.svc.cluster.local"
SKIPS = {"config.linkerd.io/skip-inbound-ports": str(PORT)}
NAME = "api.shop.svc.cluster.local"


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
        # Said to be meshed, with no sidecar there: one has to be proved, the other is said to skip.
        west.workload("bare-0", "bare")
        west.workload("skips-0", "skips", annotations=SKIPS)
        west.workload(
            "gateway-0",
            "gateway",
            annotations={"config.linkerd.io/default-inbound-policy": "all-authenticated"},
            pod=Pod(host, (address,)),
        )
        ports = {port: port for port in (PORT, *PORTS.values())}
        west.service("api", "api", [API], ports, BY_GATEWAY)
        west.service("bare", "bare", [BARE], {PORT: PORT}, BY_GATEWAY)
        west.service("skips", "skips", [SKIPPING], {PORT: PORT}, BY_GATEWAY)
        west.service("private", "api", [PRIVATE], {80: HIDDEN_PORT, PORT: HIDDEN_PORT})
        # Written down for their addresses alone: clients of this test have no DNS.
        east.service("api-west", "", [API_WEST], ports)
        link_of(east, west, address)
        west.trust(east)
        # Only what comes through the gateway is let in, and only one account through that.
        admit(west, "api", PORT, [GATEWAY])
        admit(west, "gateway", 4143, [identity("web", "east")])
        for mesh in (east, west):
            mesh.start_issuer()
            mesh.write()
        start_polyglot(west.pods["api-0"])
        sidecars = {"west/gateway-0": west.start_gateway("gateway-0")}
        for mesh, pods in ((east, ("web-0", "cron-0")), (west, ("api-0",))):
            for pod in pods:
                mesh.capture(pod)
                sidecars[f"{mesh.cluster.name}/{pod}"] = mesh.start_sidecar(pod)
        for sidecar in sidecars.values():
            sidecar.await_ready()
        await_polyglot(west.pods["api-0"])
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


@pytest.mark.parametrize("name", ["bare", "skips"])
@pytest.mark.parametrize("session", [None, SessionProtocol.HTTP1], ids=["bytes", "HTTP/1"])
def test_a_meshed_pod_is_sent_no_plaintext(
    scene: Scene, name: str, session: SessionProtocol | None
) -> None:
    """Not even one that listens and has no sidecar to prove itself."""
    header = TransportHeader(PORT, f"{name}.shop.svc.cluster.local", session)
    with hidden(scene.west.pods[f"{name}-0"], PORT) as heard:
        answer = b""
        # It may have hung up before it is spoken to.
        with let_in(scene, header) as near, suppress(OSError):
            near.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = first_line(near)[9:12]
        assert answer in {b"", b"502", b"503", b"504"}
        assert heard == []
        # It would have been heard.
        with connect_in(scene.gateway.pod.host, scene.west.pods[f"{name}-0"].ip, PORT) as near:
            near.sendall(b"me")
            assert near.recv(12) == b"HTTP/1.1 299"


@contextmanager
def hidden(pod: Pod, port: int = HIDDEN_PORT) -> Iterator[list[bytes]]:
    """Serve what nothing may come to; what does is kept, and is the test's failure."""
    heard: list[bytes] = []

    def run(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5)
                    heard.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 299 Hidden\r\ncontent-length: 0\r\n\r\n")

    with listener_in(pod.host, "::", port) as listener:
        listener.settimeout(None)
        thread = threading.Thread(target=run, args=(listener,))
        thread.start()
        try:
            yield heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


TRICKS = {
    "host": f"GET /seen HTTP/1.1\r\nHost: {HIDDEN}\r\n",
    "host and port": f"GET /seen HTTP/1.1\r\nHost: {HIDDEN}:{PORT}\r\n",
    "short host": "GET /seen HTTP/1.1\r\nHost: private\r\n",
    "host is an address": f"GET /seen HTTP/1.1\r\nHost: {PRIVATE}\r\n",
    "two hosts": f"GET /seen HTTP/1.1\r\nHost: api\r\nHost: {HIDDEN}\r\n",
    "no host": f"GET /seen HTTP/1.0\r\nl5d-dst-canonical: {HIDDEN}:80\r\n",
    "absolute form": f"GET http://{HIDDEN}/seen HTTP/1.1\r\nHost: api\r\n",
    "absolute form and port": f"GET http://{HIDDEN}:{PORT}/seen HTTP/1.1\r\nHost: {HIDDEN}\r\n",
    "override": f"GET /seen HTTP/1.1\r\nHost: api\r\nl5d-dst-override: {HIDDEN}:{PORT}\r\n",
    "canonical": f"GET /seen HTTP/1.1\r\nHost: api\r\nl5d-dst-canonical: {HIDDEN}:{PORT}\r\n",
    "x-forwarded-host": f"GET /seen HTTP/1.1\r\nHost: api\r\nX-Forwarded-Host: {HIDDEN}\r\n",
    "x-original-host": f"GET /seen HTTP/1.1\r\nHost: api\r\nX-Original-Host: {HIDDEN}\r\n",
    "forwarded": f"GET /seen HTTP/1.1\r\nHost: api\r\nForwarded: host={HIDDEN};proto=http\r\n",
    "original proto": f"GET /seen HTTP/1.1\r\nHost: {HIDDEN}\r\nl5d-orig-proto: HTTP/1.1\r\n",
    "connect": f"CONNECT {HIDDEN}:{PORT} HTTP/1.1\r\nHost: {HIDDEN}:{PORT}\r\n",
    "connect by address": f"CONNECT 10.12.0.11:{HIDDEN_PORT} HTTP/1.1\r\nHost: api\r\n",
}
"""Heads that name what is not exported, in every place where somebody may look for a name."""


def first_line(near: socket.socket) -> bytes:
    """Return what is answered until its head is there, or nothing."""
    heard = b""
    with suppress(OSError):
        while b"\r\n\r\n" not in heard and (part := near.recv(65_536)):
            heard += part
    return heard.partition(b"\r\n")[0]


@pytest.mark.parametrize("trick", TRICKS)
def test_no_head_leads_elsewhere(scene: Scene, trick: str) -> None:
    """From an app, and from somebody with a good identity who writes to the gateway himself."""
    head = f"{TRICKS[trick]}\r\n".encode()
    wanted = {b"200", b"400", b"404", b"405", b"501"}
    with hidden(scene.api) as heard:
        with connect_in(scene.web.host, API_WEST, HTTP1) as near:
            near.sendall(head)
            assert first_line(near)[9:12] in wanted
        with let_in(scene, TransportHeader(HTTP1, NAME, SessionProtocol.HTTP1)) as near:
            near.sendall(head)
            assert first_line(near)[9:12] in wanted
    assert heard == []


def test_no_authority_leads_elsewhere(scene: Scene) -> None:
    """In HTTP/2 too, whatever it says beside; the app is told its own name."""
    fields = [
        [(":authority", f"{HIDDEN}:{PORT}")],
        [(":authority", HIDDEN), ("host", HIDDEN)],
        [(":authority", "api"), ("l5d-dst-override", f"{HIDDEN}:{PORT}")],
        [(":authority", "api"), ("x-forwarded-host", HIDDEN), ("forwarded", f"host={HIDDEN}")],
        [(":authority", "api"), ("l5d-orig-proto", "HTTP/1.1; absolute-form")],
    ]
    with hidden(scene.api) as heard:
        for port in (HTTP1, HTTP2):
            for each in fields:
                with let_in(scene, TransportHeader(port, NAME, SessionProtocol.HTTP2)) as near:
                    status, content = ask_http2(near, [(":path", "/seen"), *each])
                assert status in {"200", "400", "502"}, content
                if status == "200" and port == HTTP2:
                    assert json.loads(content)[":authority"] == f"{NAME}:{port}"
        for path in ([], [(":protocol", "websocket"), (":scheme", "http"), (":path", "/")]):
            with let_in(scene, TransportHeader(HTTP2, NAME, SessionProtocol.HTTP2)) as near:
                connect = [(":method", "CONNECT"), (":authority", f"{HIDDEN}:{PORT}"), *path]
                status, _ = ask_http2(near, connect)
            assert not status.startswith("2") or not heard
    assert heard == []


FIRST = {
    "a request": f"GET / HTTP/1.1\r\nHost: {HIDDEN}\r\n\r\n".encode(),
    "a tunnel": f"CONNECT {HIDDEN}:{PORT} HTTP/1.1\r\nHost: {HIDDEN}\r\n\r\n".encode(),
    "a header": encode_header(TransportHeader(PORT, NAME)) + b"hi",
}


@pytest.mark.parametrize("first", FIRST)
def test_there_is_no_other_door(scene: Scene, first: str) -> None:
    """Neither in plaintext, nor by TLS for another name or protocol, or without an identity."""
    with hidden(scene.api) as heard, served(scene.api, PORT, echo):
        assert closed(Pod(scene.node, ()), scene.address, 4143, FIRST[first]) < 10
        known = peer_context(scene)
        nobody = ssl.create_default_context(cafile=str(scene.west.anchors))
        nobody.set_alpn_protocols([ALPN])
        other = peer_context(scene)
        other.set_alpn_protocols(["h2"])
        without = ssl.create_default_context(cafile=str(scene.west.anchors))
        for context, name in (
            (known, identity("private", "west")),
            (known, identity("api", "west")),
            (known, HIDDEN),
            (nobody, GATEWAY),
            (other, GATEWAY),
            (without, GATEWAY),
        ):
            context.check_hostname = False
            with (
                connect_in(scene.node, scene.address, 4143) as raw,
                suppress(ssl.SSLError, ConnectionError),
                context.wrap_socket(raw, server_hostname=name) as near,
            ):
                near.sendall(FIRST[first])
                assert near.recv(64) == b""
        assert heard == []
        # The one connection that the app serves is one that may come.
        assert ask(scene.web, API_WEST, PORT, b"me") == b"you said: me"


@contextmanager
def let_in(scene: Scene, header: TransportHeader) -> Iterator[ssl.SSLSocket]:
    """Connect to the gateway as the eastern ``web``, without its sidecar."""
    with (
        connect_in(scene.node, scene.address, 4143) as raw,
        peer_context(scene).wrap_socket(raw, server_hostname=GATEWAY) as near,
    ):
        near.sendall(encode_header(header))
        yield near


def ask_http2(near: socket.socket, fields: list[tuple[str, str]]) -> tuple[str, bytes]:
    """Make one request; return its status, or how it was reset, and its content."""
    settings = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    talk = H2Connection(settings)
    talk.initiate_connection()
    names = {name for name, _ in fields}
    rest = [(":method", "GET"), (":scheme", "http")]
    missing = [each for each in rest if each[0] not in names and ":method" not in names]
    talk.send_headers(1, [*missing, *fields], end_stream=True)
    status, content = "", b""
    while True:
        near.sendall(talk.data_to_send())
        try:
            data = near.recv(65_536)
        except OSError:
            return status, content
        if not data:
            return status, content
        for event in talk.receive_data(data):
            if isinstance(event, ResponseReceived):
                status = bytes(dict(event.headers or ())[b":status"]).decode()
            elif isinstance(event, DataReceived):
                content += event.data or b""
            elif isinstance(event, StreamReset):
                return ErrorCodes(event.error_code or 0).name, content
            elif isinstance(event, StreamEnded):
                return status, content


def test_an_export_that_is_taken_back(scene: Scene) -> None:
    """What is open is cut, the next request refused, the Service gone; and it comes back."""
    opaque = PORTS["bytes"]
    get = b"GET /seen HTTP/1.1\r\nHost: api-west\r\n\r\n"
    with (
        closing(connect_in(scene.web.host, API_WEST, opaque)) as open_bytes,
        closing(connect_in(scene.web.host, API_WEST, HTTP1)) as open_http,
    ):
        open_bytes.sendall(b"ping")
        assert open_bytes.recv(4) == b"ping"
        assert whole_answer(open_http, get) == 200
        assert "api-west" in known(scene)
        scene.west.label("api")
        scene.west.write()
        with suppress(ConnectionError):
            assert open_bytes.recv(1) == b""
        assert "api-west" not in known(scene)
        header = TransportHeader(opaque, NAME)
        with let_in(scene, header) as near, suppress(ssl.SSLError, ConnectionError):
            near.sendall(b"hi")
            assert near.recv(1) == b""
        refused = scene.gateway.find(10, event="connection failed", code="gateway-not-exported")
        assert refused is not None
        assert whole_answer(open_http, get) in {404, 503}
    scene.west.label("api", **BY_GATEWAY)
    scene.west.write()

    def is_back() -> bool:
        with suppress(OSError), closing(connect_in(scene.web.host, API_WEST, HTTP1)) as near:
            near.sendall(get)
            return first_line(near).startswith(b"HTTP/1.1 200")
        return False

    wait_until(is_back, seconds=20, what="it is exported again")


def whole_answer(near: socket.socket, request: bytes) -> int:
    """Ask, leave nothing of the answer for the next one's reader, and return its status."""
    near.sendall(request)
    with HTTPResponse(near) as response:
        response.begin()
        response.read()
        return response.status


def known(scene: Scene) -> set[str]:
    """Return the Services of other clusters that the east has, as the command says."""
    east = scene.east
    words = ("multicluster", "check", "--mesh", str(east.directory), "-o", "json")
    return {each["name"] for each in json.loads(east.pillion(*words))["services"]}


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

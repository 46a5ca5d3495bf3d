"""The mesh end to end: real pods and sidecars, by every way of capture.

Under capture rules clients know of no sidecar; without them they speak SOCKS.

One mesh serves all tests of this file: ``web-0`` and ``store-0`` have sidecars, ``strict-0``
too and takes authenticated clients alone, ``plain-0`` has none.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.host import APP_UID
from cli.demo.loopback import LoopbackRig
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from discovery.model import Address
from proxy.wire.transport_header import ALPN, TransportHeader, encode_header
from tests.netns.reach import Captured, Reach, Uncaptured
from tests.netns.talk import asking, closing, echo, read_all, serving
from tests.support.processes import wait_until

MODES = ("nft", "legacy", "nftables")
"""What captures: each back end of the rules."""
EXPLICIT = "explicit"
"""Nothing captures; it needs no privilege, and has IPv4 alone."""
_RULES = pytest.mark.needs("root", "iptables-nft", "iptables-legacy", "nft", "ip", "nsenter")
CASES = [
    *(
        pytest.param(mode, family, id=f"{mode}-{name}", marks=_RULES)
        for mode in MODES
        for family, name in enumerate(("ipv4", "ipv6"))
    ),
    pytest.param(EXPLICIT, 0, id="explicit-ipv4"),
]
pytestmark = [
    pytest.mark.needs("setpriv", "curl"),
    pytest.mark.slow,
    pytest.mark.parametrize(("running", "family"), CASES, indirect=["running"], scope="module"),
]

STORE = ("10.96.0.10", "fd00:96::10")
PLAIN = ("10.96.0.11", "fd00:96::11")
WEB_IDENTITY = "web.shop.serviceaccount.identity.linkerd.cluster.local"
STORE_IDENTITY = "store.shop.serviceaccount.identity.linkerd.cluster.local"
MIB = 1 << 20
SERVICE_PORTS = (8000, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 6379)


@dataclass(frozen=True)
class Running:
    """A mesh and its sidecars."""

    mode: str
    reach: Reach
    mesh: Mesh
    sidecars: dict[str, Sidecar]
    place: Path


@dataclass(frozen=True)
class Scene:
    """A running mesh, as one family of addresses reaches it."""

    running: Running
    family: int
    """0: IPv4, 1: IPv6."""

    @property
    def mesh(self) -> Mesh:
        """The mesh."""
        return self.running.mesh

    @property
    def place(self) -> Path:
        """A directory that every user may read."""
        return self.running.place

    @property
    def web(self) -> Sidecar:
        """The client's sidecar."""
        return self.running.sidecars["web-0"]

    @property
    def store(self) -> Sidecar:
        """The server's."""
        return self.running.sidecars["store-0"]

    @property
    def strict(self) -> Sidecar:
        """That of a server that takes authenticated clients alone."""
        return self.running.sidecars["strict-0"]

    @property
    def plain(self) -> Pod:
        """A pod without a sidecar."""
        return self.mesh.pods["plain-0"]

    @property
    def reach(self) -> Reach:
        """How programs stand in their pods."""
        return self.running.reach

    def ip(self, pod: Pod) -> str:
        """Return a pod's address."""
        return pod.ips[self.family]

    def target(self, pod: Pod, port: int) -> str:
        """Return a pod's port as logs write it."""
        return str(Address(self.ip(pod), port))

    def address(self, name: str, client: Pod | None = None) -> str:
        """Return the address of ``store``, ``plain`` or their pods; by default for ``web-0``."""
        pods = {"store": self.store.pod, "plain": self.plain}
        if name not in pods:
            return self.ip(self.mesh.pods[name])
        address = {"store": STORE, "plain": PLAIN}[name][self.family]
        return self.reach.service(client or self.web.pod, address, pods[name])


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A running mesh, captured by the back end that is asked for."""
    mode = request.param
    with (
        tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name,
        LoopbackRig() if mode == EXPLICIT else Rig() as rig,
    ):
        place = Path(name)
        place.chmod(0o755)
        reach: Reach = (
            Uncaptured(rig) if isinstance(rig, LoopbackRig) else Captured(rig, place, mode)
        )
        mesh = Mesh(rig, reach.cluster, reach.runtime, place)
        mesh.workload("web-0", "web")
        mesh.workload("store-0", "store")
        policy = {"config.linkerd.io/default-inbound-policy": "all-authenticated"}
        mesh.workload("strict-0", "strict", annotations=policy)
        mesh.workload("taken-0", "taken")
        mesh.workload("plain-0", "plain", meshed=False)
        ports = {port: port for port in SERVICE_PORTS}
        for service, addresses in (("store", STORE), ("plain", PLAIN)):
            mesh.service(service, service, addresses[: len(mesh.pods["web-0"].ips)], ports)
        mesh.write(**reach.networks)
        mesh.start_issuer()
        sidecars = {}
        for pod in ("web-0", "store-0", "strict-0"):
            reach.capture(mesh, pod)
            settings = reach.settings(mesh.pods[pod], SERVICE_PORTS)
            sidecars[pod] = mesh.start_sidecar(pod, **settings)
        for sidecar in sidecars.values():
            sidecar.await_ready()
        yield Running(mode, reach, mesh, sidecars, place)


@pytest.fixture
def scene(running: Running, family: int) -> Scene:
    """The mesh as the family reaches it."""
    return Scene(running, family)


def served(
    scene: Scene, pod: Pod, port: int, serve: Callable[[socket.socket], None]
) -> AbstractContextManager[None]:
    """Run an app in ``pod`` that serves one connection."""
    return serving(scene.reach.listener(pod, port), serve)


def anyway(pod: Pod, port: int) -> tuple[str, ...]:
    """Return a pod's port as logs write it, in either family: a Service has endpoints of both."""
    return tuple(str(Address(ip, port)) for ip in pod.ips)


def await_port(scene: Scene, pod: Pod, port: int) -> None:
    """Wait until a program in ``pod`` listens; seen from beside it."""

    def listens() -> bool:
        with suppress(ConnectionError), scene.reach.probe(pod, port):
            return True
        return False

    wait_until(listens, seconds=15, what=f"port {port} is open")


def end(program: subprocess.Popen[bytes]) -> None:
    """End a server, so that the next may have its port."""
    program.terminate()
    program.wait(10)


def ask(scene: Scene, pod: Pod, address: str, port: int, question: bytes) -> bytes:
    """Connect from ``pod``, send, half-close and return all that comes."""
    return asking(scene.reach.connect(pod, address, port), question)


def closed(scene: Scene, pod: Pod, address: str, port: int) -> float:
    """Connect, speak, and expect to be closed without one byte; return after how long."""
    return closing(lambda: scene.reach.connect(pod, address, port, wait_s=30))


def test_curl_and_a_web_server(scene: Scene) -> None:
    """HTTP by programs that know nothing of the mesh, with mutual TLS between the sidecars."""
    store = scene.store.pod
    (scene.place / "www").mkdir(mode=0o755, exist_ok=True)
    (scene.place / "www" / "page").write_text("a page of the store\n")
    bind, port = scene.reach.app(store, 8000)
    server = ["/usr/bin/python3", "-m", "http.server", str(port), "-b", bind]
    program = store.host.spawn([*server, "-d", str(scene.place / "www")], uid=APP_UID)
    url = f"http://{Address(scene.address('store'), 8000)}/page"
    await_port(scene, store, 8000)
    options = scene.reach.curl(scene.web.pod)
    done = scene.web.pod.host.run(["curl", "-sS", *options, url], uid=APP_UID)
    assert (done.returncode, done.stdout) == (0, "a page of the store\n")
    seen = scene.store.find(10, event="connection", direction="inbound", target=anyway(store, 8000))
    end(program)
    assert seen is not None
    assert (seen["client_identity"], seen["tls"]) == (WEB_IDENTITY, "mesh")
    assert seen["client_ip"] in scene.web.pod.ips


@pytest.mark.needs("redis-server", "redis-cli")
def test_redis(scene: Scene) -> None:
    """A real client and server of a protocol that is on the list of opaque ports."""
    store = scene.store.pod
    bind, port = scene.reach.app(store, 6379)
    options = ["--save", "", "--protected-mode", "no", "--bind"]
    options += ["*", "-::*"] if bind == "::" else [bind]
    program = store.host.spawn(["redis-server", "--port", str(port), *options], uid=APP_UID)
    await_port(scene, store, 6379)
    commands = "".join(f"SET key{n} value{n}\nGET key{n}\n" for n in range(200))
    host, port = scene.reach.tunnelled(scene.web.pod, scene.address("store"), 6379)
    done = scene.web.pod.host.run(
        ["redis-cli", "-h", host, "-p", str(port)], uid=APP_UID, given=commands
    )
    assert done.stdout.split() == [word for n in range(200) for word in ("OK", f"value{n}")]
    seen = scene.store.find(10, event="connection", direction="inbound", target=anyway(store, 6379))
    end(program)
    assert seen is not None
    assert (seen["client_identity"], seen["tls"]) == (WEB_IDENTITY, "mesh")


def test_much_arrives_whole(scene: Scene) -> None:
    """1 GiB (once) from the server through both sidecars, with the same sum at either end."""
    count = 1024 if scene.running.mode == MODES[0] and scene.family == 0 else 32
    block = os.urandom(MIB - 8)
    sums = [hashlib.sha256(), hashlib.sha256()]

    def send(connection: socket.socket) -> None:
        assert connection.recv(4) == b"give"
        for number in range(count):
            chunk = number.to_bytes(8, "big") + block
            sums[0].update(chunk)
            connection.sendall(chunk)

    size = 0
    with (
        served(scene, scene.store.pod, 8001, send),
        scene.reach.connect(scene.web.pod, scene.address("store"), 8001, wait_s=60) as near,
    ):
        near.sendall(b"give")
        buffer = bytearray(MIB)
        while got := near.recv_into(buffer):
            sums[1].update(memoryview(buffer)[:got])
            size += got
    assert size == count * MIB
    assert sums[0].digest() == sums[1].digest()


@pytest.mark.parametrize("address", ["store", "store-0"])
def test_a_client_that_has_said_all_still_gets_its_answer(scene: Scene, address: str) -> None:
    """The client's half-close reaches the server, by Service and by pod address."""
    store = scene.store.pod
    with served(scene, store, 8002, echo):
        assert (
            ask(scene, scene.web.pod, scene.address(address), 8002, b"question")
            == b"you said: question"
        )


def test_a_server_that_has_said_all_still_hears(scene: Scene) -> None:
    """The server's half-close reaches the client, who goes on sending."""
    heard = []

    def speak_then_listen(connection: socket.socket) -> None:
        assert connection.recv(16) == b"tell me"
        connection.sendall(b"all I know")
        connection.shutdown(socket.SHUT_WR)
        heard.append(read_all(connection))

    with (
        served(scene, scene.store.pod, 8003, speak_then_listen),
        scene.reach.connect(scene.web.pod, scene.address("store"), 8003) as near,
    ):
        near.sendall(b"tell me")
        assert read_all(near) == b"all I know"
        near.sendall(b"and I answer")
        near.shutdown(socket.SHUT_WR)
    assert heard == [b"and I answer"]


@pytest.mark.parametrize("client", ["web-0", "plain-0"])
def test_a_server_that_speaks_first_is_heard_without_a_stall(scene: Scene, client: str) -> None:
    """On a port that nobody declared, by a client that waits for it; both ways work then."""
    pod = scene.mesh.pods[client]

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 at your service")
        connection.sendall(b" 250 " + read_all(connection))

    began = time.monotonic()
    with (
        served(scene, scene.store.pod, 8007, greet),
        scene.reach.connect(pod, scene.address("store", pod), 8007) as near,
    ):
        assert near.recv(100) == b"220 at your service"
        # Ten times what it may take.
        assert time.monotonic() - began < 1
        near.sendall(b"HELO")
        near.shutdown(socket.SHUT_WR)
        assert read_all(near) == b" 250 HELO"


def test_a_pod_calls_itself_through_its_service(scene: Scene) -> None:
    """The endpoint is the caller's own pod: it is reached without going round."""
    store = scene.store.pod
    with served(scene, store, 8004, echo):
        assert ask(scene, store, scene.address("store", store), 8004, b"me") == b"you said: me"


def test_a_pod_calls_itself_by_its_address_and_by_loopback(scene: Scene) -> None:
    """Loopback traffic is the app's own and is never captured."""
    store = scene.store.pod
    for address in (scene.ip(store), ("127.0.0.1", "::1")[scene.family]):
        with served(scene, store, 8005, echo):
            assert ask(scene, store, address, 8005, b"me") == b"you said: me"


@pytest.mark.parametrize("address", ["store", "store-0"])
def test_an_unmeshed_client_is_served_in_plaintext(scene: Scene, address: str) -> None:
    """Where policy allows clients without identity, one reaches the app and is logged as such."""
    store = scene.store.pod
    with served(scene, store, 8006, echo):
        where = scene.address(address, scene.plain)
        assert ask(scene, scene.plain, where, 8006, b"stranger") == b"you said: stranger"
    seen = scene.store.find(
        10, event="connection", direction="inbound", client_ip=scene.ip(scene.plain)
    )
    assert seen is not None
    assert (seen["client_identity"], seen["tls"]) == ("", "none")


def test_an_unmeshed_client_is_refused_where_identity_is_required(scene: Scene) -> None:
    """The app never hears of it, and the log says why; a meshed client is served."""
    strict = scene.strict.pod
    with served(scene, strict, 8006, echo):
        closed(scene, scene.plain, scene.ip(strict), 8006)
        seen = scene.strict.find(10, event="connection denied", client_ip=scene.ip(scene.plain))
        assert seen is not None
        assert seen["target"] == scene.target(strict, 8006)
        assert seen["reason"]
        # The one connection that the app serves is the one that was allowed.
        assert ask(scene, scene.web.pod, scene.ip(strict), 8006, b"web") == b"you said: web"
    allowed = scene.strict.find(10, event="connection", client_ip=scene.ip(scene.web.pod))
    assert allowed is not None
    assert allowed["client_identity"] == WEB_IDENTITY


@pytest.mark.parametrize("address", ["plain", "plain-0"])
def test_an_unmeshed_server_is_reached_in_plaintext(scene: Scene, address: str) -> None:
    """A meshed client reaches a pod without a sidecar, which sees plain bytes."""
    with served(scene, scene.plain, 8006, echo):
        assert (
            ask(scene, scene.web.pod, scene.address(address), 8006, b"hello") == b"you said: hello"
        )


def test_connections_straight_to_our_own_ports_are_closed(scene: Scene) -> None:
    """Neither port is a way round anything: not from outside, not from beside."""
    web, store = scene.web.pod, scene.store.pod
    for pod in (scene.plain, web):
        for port in (4140, 4143):
            assert closed(scene, pod, scene.ip(store), port) < 10
    for address in (("127.0.0.1", "::1")[scene.family], scene.ip(web)):
        for port in (4140, 4143):
            assert closed(scene, web, address, port) < 10
    # All of them are alive and well.
    for sidecar in (scene.web, scene.store):
        sidecar.await_ready()


def test_a_closed_port_ends_the_connection_at_once(scene: Scene) -> None:
    """Nothing listens: the client learns of it without waiting for a timeout."""
    assert closed(scene, scene.web.pod, scene.ip(scene.store.pod), 7) < 10
    assert closed(scene, scene.plain, scene.ip(scene.store.pod), 7) < 10
    assert closed(scene, scene.web.pod, scene.ip(scene.plain), 7) < 10


def test_a_black_hole_ends_the_connection_after_the_connect_timeout(scene: Scene) -> None:
    """An address that swallows packets costs the connect timeout (1 s), not the kernel's 2 min."""
    with scene.reach.black_hole(scene.family) as (address, port):
        took = closed(scene, scene.web.pod, address, port)
    assert 0.5 < took < 10


def test_a_header_for_our_own_port_is_refused(scene: Scene) -> None:
    """A peer with a good identity cannot make the sidecar dial itself."""
    context = peer_context(scene)

    def say_hi(port: int) -> bytes:
        with (
            scene.reach.connect(scene.plain, scene.ip(scene.store.pod), 4143) as raw,
            context.wrap_socket(raw, server_hostname=STORE_IDENTITY) as near,
        ):
            near.sendall(encode_header(TransportHeader(port)) + b"hi")
            try:
                return near.recv(64)
            except (ssl.SSLError, ConnectionError):
                return b""

    with served(scene, scene.store.pod, 8002, lambda each: each.sendall(each.recv(64).upper())):
        assert say_hi(8002) == b"HI"
    assert say_hi(4143) == b""
    assert say_hi(4140) == b""
    for port in (4143, 4140):
        target = scene.target(scene.store.pod, port)
        seen = scene.store.find(10, event="connection failed", code="loop", target=target)
        assert seen is not None


def peer_context(scene: Scene) -> ssl.SSLContext:
    """Return what a client needs that has ``web``'s identity and is no sidecar."""
    home = scene.place / "leaf"
    authority = ("--authority", str(scene.place / "issuer"))
    issuer = ("--socket", str(scene.place / "run" / "issuer.sock"))
    scene.mesh.pillion("identity", "issue", "shop/web", *authority, *issuer, "--out", str(home))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(home / "anchors" / "cluster.local.pem")
    context.load_cert_chain(home / "chain.pem", home / "key.pem")
    context.set_alpn_protocols([ALPN])
    return context


@pytest.mark.parametrize("port", [4143, 4140, 4191])
def test_a_taken_port_is_named(scene: Scene, port: int) -> None:
    """Another program has one of the sidecar's ports: exit 2, with the port in the message."""
    if scene.running.mode in MODES[1:]:
        return  # the rules have no part in it
    pod = scene.mesh.pods["taken-0"]
    address = scene.reach.own(pod, scene.family)
    if port == 4140 and scene.running.mode != EXPLICIT:
        address = ("127.0.0.1", "::1")[scene.family]
    with scene.reach.held(pod, address, port):
        sidecar = scene.mesh.start_sidecar("taken-0", **scene.reach.settings(pod, ()))
        assert sidecar.program.wait(30) == 2
    assert str(port) in sidecar.last_words()

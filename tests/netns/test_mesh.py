"""The mesh end to end: real pods, capture rules and sidecars, and clients that know of none.

One mesh serves all tests of this file: ``web-0`` and ``store-0`` have sidecars, ``strict-0``
too and takes authenticated clients alone, ``plain-0`` has none.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import find_runtime
from proxy.wire.transport_header import ALPN, TransportHeader, encode_header
from redirect.options import PROXY_UID
from tests.support.processes import wait_until
from tests.support.sockets import listener_in, socket_in

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

STORE = "10.96.0.10"
PLAIN = "10.96.0.11"
WEB_IDENTITY = "web.shop.serviceaccount.identity.linkerd.cluster.local"
STORE_IDENTITY = "store.shop.serviceaccount.identity.linkerd.cluster.local"
GIB = 1 << 30
SERVICE_PORTS = (8000, 8001, 8002, 8003, 8004, 8005, 8006, 6379)


@dataclass(frozen=True)
class Scene:
    """What the tests share."""

    mesh: Mesh
    web: Sidecar
    store: Sidecar
    strict: Sidecar
    plain: Pod
    place: Path


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """A running mesh."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        runtime = find_runtime(PROXY_UID, place)
        mesh = Mesh(rig, rig.cluster("a"), runtime, place)
        mesh.workload("web-0", "web")
        mesh.workload("store-0", "store")
        policy = {"config.linkerd.io/default-inbound-policy": "all-authenticated"}
        mesh.workload("strict-0", "strict", annotations=policy)
        mesh.workload("taken-0", "taken")
        mesh.workload("plain-0", "plain", meshed=False)
        ports = {port: port for port in SERVICE_PORTS}
        mesh.service("store", "store", STORE, ports)
        mesh.service("plain", "plain", PLAIN, ports)
        mesh.write()
        mesh.start_issuer()
        sidecars = {}
        for pod in ("web-0", "store-0", "strict-0"):
            mesh.capture(pod)
            sidecars[pod] = mesh.start_sidecar(pod)
        for sidecar in sidecars.values():
            sidecar.await_ready()
        yield Scene(
            mesh,
            sidecars["web-0"],
            sidecars["store-0"],
            sidecars["strict-0"],
            mesh.pods["plain-0"],
            place,
        )


@contextmanager
def served(pod: Pod, port: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Run an app in ``pod`` that serves one connection; its failure is the test's."""
    failures: list[BaseException] = []

    def run(listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                serve(connection)
        except BaseException as error:  # noqa: BLE001 - it is raised in the test below
            failures.append(error)

    with listener_in(pod.host, "0.0.0.0", port) as listener:
        thread = threading.Thread(target=run, args=(listener,))
        thread.start()
        yield
        thread.join(90)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def await_port(pod: Pod, port: int) -> None:
    """Wait until a program in ``pod`` listens; seen from beside it, where nothing is captured."""

    def listens() -> bool:
        with socket_in(pod.host) as near:
            return near.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, seconds=15, what=f"port {port} is open")


def read_all(connection: socket.socket) -> bytes:
    """Read to the end."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def ask(pod: Pod, address: str, port: int, question: bytes) -> bytes:
    """Connect from ``pod``, send, half-close and return all that comes."""
    with socket_in(pod.host) as near:
        near.connect((address, port))
        near.sendall(question)
        near.shutdown(socket.SHUT_WR)
        return read_all(near)


def closed(pod: Pod, address: str, port: int, first: bytes = b"hello\r\n") -> float:
    """Connect, speak, and expect to be closed without one byte; return after how long."""
    began = time.monotonic()
    with socket_in(pod.host) as near:
        near.settimeout(30)
        try:
            near.connect((address, port))
            near.sendall(first)
            assert near.recv(1) == b""
        except (ConnectionError, BrokenPipeError):
            pass
    return time.monotonic() - began


def echo(connection: socket.socket) -> None:
    """Answer with what was asked, once all of it is there."""
    connection.sendall(b"you said: " + read_all(connection))


def test_curl_and_a_web_server(scene: Scene) -> None:
    """HTTP by programs that know nothing of the mesh, with mutual TLS between the sidecars."""
    store = scene.store.pod
    (scene.place / "www").mkdir(mode=0o755)
    (scene.place / "www" / "page").write_text("a page of the store\n")
    store.host.spawn(
        ["/usr/bin/python3", "-m", "http.server", "8000", "-d", str(scene.place / "www")],
        uid=APP_UID,
    )
    url = f"http://{STORE}:8000/page"
    await_port(store, 8000)
    done = scene.web.pod.host.run(["curl", "-sS", url], uid=APP_UID)
    assert (done.returncode, done.stdout) == (0, "a page of the store\n")
    seen = scene.store.find(10, event="connection", direction="inbound", target=f"{store.ip}:8000")
    assert seen is not None
    assert (seen["client_identity"], seen["tls"]) == (WEB_IDENTITY, "mesh")
    assert seen["client_ip"] == scene.web.pod.ip


@pytest.mark.needs("redis-server", "redis-cli")
def test_redis(scene: Scene) -> None:
    """A real client and server of a protocol that is on the list of opaque ports."""
    store = scene.store.pod
    store.host.spawn(
        ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"], uid=APP_UID
    )
    await_port(store, 6379)
    commands = "".join(f"SET key{n} value{n}\nGET key{n}\n" for n in range(200))
    done = scene.web.pod.host.run(["redis-cli", "-h", STORE], uid=APP_UID, given=commands)
    assert done.stdout.split() == [word for n in range(200) for word in ("OK", f"value{n}")]
    seen = scene.store.find(10, event="connection", direction="inbound", target=f"{store.ip}:6379")
    assert seen is not None
    assert (seen["client_identity"], seen["tls"]) == (WEB_IDENTITY, "mesh")


def test_a_gibibyte_arrives_whole(scene: Scene) -> None:
    """1 GiB from the server through both sidecars, with the same sum at either end."""
    block = os.urandom((1 << 20) - 8)
    sums = [hashlib.sha256(), hashlib.sha256()]

    def send(connection: socket.socket) -> None:
        assert connection.recv(4) == b"give"
        for number in range(GIB >> 20):
            chunk = number.to_bytes(8, "big") + block
            sums[0].update(chunk)
            connection.sendall(chunk)

    size = 0
    with served(scene.store.pod, 8001, send), socket_in(scene.web.pod.host, wait_s=60) as near:
        near.connect((STORE, 8001))
        near.sendall(b"give")
        buffer = bytearray(1 << 20)
        while count := near.recv_into(buffer):
            sums[1].update(memoryview(buffer)[:count])
            size += count
    assert size == GIB
    assert sums[0].digest() == sums[1].digest()


@pytest.mark.parametrize("address", [STORE, "pod"])
def test_a_client_that_has_said_all_still_gets_its_answer(scene: Scene, address: str) -> None:
    """The client's half-close reaches the server, by Service and by pod address."""
    store = scene.store.pod
    with served(store, 8002, echo):
        target = store.ip if address == "pod" else address
        assert ask(scene.web.pod, target, 8002, b"question") == b"you said: question"


def test_a_server_that_has_said_all_still_hears(scene: Scene) -> None:
    """The server's half-close reaches the client, who goes on sending."""
    heard = []

    def speak_then_listen(connection: socket.socket) -> None:
        assert connection.recv(16) == b"tell me"
        connection.sendall(b"all I know")
        connection.shutdown(socket.SHUT_WR)
        heard.append(read_all(connection))

    with served(scene.store.pod, 8003, speak_then_listen), socket_in(scene.web.pod.host) as near:
        near.connect((STORE, 8003))
        near.sendall(b"tell me")
        assert read_all(near) == b"all I know"
        near.sendall(b"and I answer")
        near.shutdown(socket.SHUT_WR)
    assert heard == [b"and I answer"]


def test_a_pod_calls_itself_through_its_service(scene: Scene) -> None:
    """The endpoint is the caller's own pod: it is reached without going round."""
    store = scene.store.pod
    with served(store, 8004, echo):
        assert ask(store, STORE, 8004, b"me") == b"you said: me"


def test_a_pod_calls_itself_by_its_address_and_by_loopback(scene: Scene) -> None:
    """Loopback traffic is the app's own and is never captured."""
    store = scene.store.pod
    for address in (store.ip, "127.0.0.1"):
        with served(store, 8005, echo):
            assert ask(store, address, 8005, b"me") == b"you said: me"


@pytest.mark.parametrize("address", [STORE, "pod"])
def test_an_unmeshed_client_is_served_in_plaintext(scene: Scene, address: str) -> None:
    """Where policy allows clients without identity, one reaches the app and is logged as such."""
    store = scene.store.pod
    with served(store, 8006, echo):
        target = store.ip if address == "pod" else address
        assert ask(scene.plain, target, 8006, b"stranger") == b"you said: stranger"
    seen = scene.store.find(10, event="connection", direction="inbound", client_ip=scene.plain.ip)
    assert seen is not None
    assert (seen["client_identity"], seen["tls"]) == ("", "none")


def test_an_unmeshed_client_is_refused_where_identity_is_required(scene: Scene) -> None:
    """The app never hears of it, and the log says why; a meshed client is served."""
    strict = scene.strict.pod
    with served(strict, 8006, echo):
        closed(scene.plain, strict.ip, 8006)
        seen = scene.strict.find(10, event="connection denied", client_ip=scene.plain.ip)
        assert seen is not None
        assert seen["target"] == f"{strict.ip}:8006"
        assert seen["reason"]
        # The one connection that the app serves is the one that was allowed.
        assert ask(scene.web.pod, strict.ip, 8006, b"web") == b"you said: web"
    allowed = scene.strict.find(10, event="connection", client_ip=scene.web.pod.ip)
    assert allowed is not None
    assert allowed["client_identity"] == WEB_IDENTITY


@pytest.mark.parametrize("address", [PLAIN, "pod"])
def test_an_unmeshed_server_is_reached_in_plaintext(scene: Scene, address: str) -> None:
    """A meshed client reaches a pod without a sidecar, which sees plain bytes."""
    with served(scene.plain, 8006, echo):
        target = scene.plain.ip if address == "pod" else address
        assert ask(scene.web.pod, target, 8006, b"hello") == b"you said: hello"


def test_connections_straight_to_our_own_ports_are_closed(scene: Scene) -> None:
    """Neither port is a way round anything: not from outside, not from beside."""
    web, store = scene.web.pod, scene.store.pod
    for pod in (scene.plain, web):
        for port in (4140, 4143):
            assert closed(pod, store.ip, port) < 10
    for address in ("127.0.0.1", web.ip):
        for port in (4140, 4143):
            assert closed(web, address, port) < 10
    # All of them are alive and well.
    for sidecar in (scene.web, scene.store):
        sidecar.await_ready()


def test_a_closed_port_ends_the_connection_at_once(scene: Scene) -> None:
    """Nothing listens: the client learns of it without waiting for a timeout."""
    assert closed(scene.web.pod, scene.store.pod.ip, 7) < 10
    assert closed(scene.plain, scene.store.pod.ip, 7) < 10
    assert closed(scene.web.pod, scene.plain.ip, 7) < 10


def test_a_black_hole_ends_the_connection_after_the_connect_timeout(scene: Scene) -> None:
    """An address that swallows packets costs the connect timeout (1 s), not the kernel's 2 min."""
    scene.mesh.cluster.node.must(["ip", "route", "add", "blackhole", "10.99.0.1/32"])
    took = closed(scene.web.pod, "10.99.0.1", 80)
    assert 0.5 < took < 10


def test_a_header_for_our_own_port_is_refused(scene: Scene) -> None:
    """A peer with a good identity cannot make the sidecar dial itself."""
    context = peer_context(scene)

    def say_hi(port: int) -> bytes:
        with socket_in(scene.plain.host) as raw:
            raw.connect((scene.store.pod.ip, 4143))
            with context.wrap_socket(raw, server_hostname=STORE_IDENTITY) as near:
                near.sendall(encode_header(TransportHeader(port)) + b"hi")
                try:
                    return near.recv(64)
                except (ssl.SSLError, ConnectionError):
                    return b""

    with served(scene.store.pod, 8002, lambda each: each.sendall(each.recv(64).upper())):
        assert say_hi(8002) == b"HI"
    assert say_hi(4143) == b""
    assert say_hi(4140) == b""
    for port in (4143, 4140):
        target = f"{scene.store.pod.ip}:{port}"
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


@pytest.mark.parametrize(
    ("address", "port"), [("0.0.0.0", 4143), ("127.0.0.1", 4140), ("0.0.0.0", 4191)]
)
def test_a_taken_port_is_named(scene: Scene, address: str, port: int) -> None:
    """Another program has one of the sidecar's ports: exit 2, with the port in the message."""
    with listener_in(scene.mesh.pods["taken-0"].host, address, port):
        sidecar = scene.mesh.start_sidecar("taken-0")
        assert sidecar.program.wait(30) == 2
    assert str(port) in sidecar.last_words()

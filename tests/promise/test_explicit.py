"""Without privileges: sidecars hold their pods' ports, programs go out by SOCKS 5.

Real processes on loopback addresses, without one capability and without capture rules. ``web-0``
calls, ``store-0`` serves everybody, ``strict-0`` authenticated clients alone.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.loopback import NETWORKS, LoopbackCluster, LoopbackRig, free_port
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.runtime import own_runtime
from discovery.model import Address
from proxy.net.holder import holder_of
from tests.support.processes import wait_until
from tests.support.socks import socks_connection

pytestmark = [pytest.mark.needs("setpriv", "curl"), pytest.mark.slow]

CLUSTER_IP = "10.96.0.10"
WEB = "web.shop.serviceaccount.identity.linkerd.cluster.local"
PORT = 8080
UNDECLARED = 8081
PODS = ("web-0", "store-0", "strict-0")


@dataclass(frozen=True)
class Scene:
    """A running mesh."""

    cluster: LoopbackCluster
    mesh: Mesh
    sidecars: dict[str, Sidecar]
    inner: dict[str, int]
    """Where each application listens, on 127.0.0.1."""

    def ip(self, pod: str) -> str:
        """Return a pod's address."""
        return self.mesh.pods[pod].ip

    @contextmanager
    def served(self, pod: str, serve: Callable[[socket.socket], None]) -> Iterator[None]:
        """Run an application that serves one connection; its failure is the test's."""
        failures: list[BaseException] = []

        def run(listener: socket.socket) -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(15)
                    serve(connection)
            except BaseException as error:  # noqa: BLE001  # raised in the test below
                failures.append(error)

        with socket.create_server(("127.0.0.1", self.inner[pod])) as listener:
            listener.settimeout(20)
            thread = threading.Thread(target=run, args=(listener,))
            thread.start()
            yield
            thread.join(30)
            assert not thread.is_alive()
        if failures:
            raise failures[0]

    def ready(self, pod: str) -> str:
        """Return what a sidecar's /ready says."""
        with urllib.request.urlopen(f"http://{self.ip(pod)}:4191/ready", timeout=10) as answer:
            text: str = answer.read().decode()
        return text


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """A mesh without privileges."""
    with (
        tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name,
        LoopbackRig() as rig,
    ):
        cluster = rig.cluster("a")
        mesh = Mesh(rig, cluster, own_runtime(), Path(name))
        policy = {"config.linkerd.io/default-inbound-policy": "all-authenticated"}
        for pod in (*PODS, "taken-0"):
            account = pod.removesuffix("-0")
            annotations = policy if account == "strict" else {}
            mesh.workload(pod, account, ports={"http": PORT}, annotations=annotations)
        mesh.service("store", "store", [CLUSTER_IP], {80: PORT})
        mesh.write(clusterNetworks=NETWORKS)
        mesh.start_issuer()
        inner = {pod: free_port() for pod in PODS}
        settings = {"CAPTURE": "explicit"}
        sidecars = {
            pod: mesh.start_sidecar(pod, **settings, APP_PORTS=f"{PORT}:{port}")
            for pod, port in inner.items()
        }
        for sidecar in sidecars.values():
            sidecar.await_ready()
        yield Scene(cluster, mesh, sidecars, inner)


def answer(connection: socket.socket) -> None:
    """Say what was asked, once all of it is there."""
    connection.sendall(b"you said: " + read_all(connection))


def read_all(connection: socket.socket) -> bytes:
    """Read to the end."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def ask(connection: socket.socket, question: bytes = b"question") -> bytes:
    """Send, half-close, and return all that comes."""
    with connection:
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def dial(address: str, port: int, *, source: str) -> socket.socket:
    """Connect from an address, by nobody's sidecar."""
    return socket.create_connection((address, port), timeout=15, source_address=(source, 0))


def closed(connection: socket.socket) -> bool:
    """Whether the other side ends a connection without a byte."""
    with connection:
        try:
            connection.sendall(b"hello")
            return connection.recv(1) == b""
        except ConnectionError:
            return True


@pytest.mark.parametrize("pod", ["store-0", "strict-0"])
@pytest.mark.parametrize("host", ["name", "full name", "address"])
def test_a_call_goes_through_both_sidecars(scene: Scene, pod: str, host: str) -> None:
    """By a Service's name or a pod's address, with mutual TLS and the client's own address."""
    if host == "address":
        target, port = scene.ip(pod), PORT
    elif pod == "strict-0":
        return  # it has no Service
    else:
        target, port = ("store.shop" if host == "name" else "store.shop.svc.cluster.local"), 80
    with scene.served(pod, answer):
        near, code = socks_connection(scene.ip("web-0"), target, port)
        assert code == 0
        assert ask(near) == b"you said: question"
    seen = scene.sidecars[pod].find(
        10, event="connection", direction="inbound", target=f"{scene.ip(pod)}:{PORT}", tls="mesh"
    )
    assert seen is not None
    assert (seen["client_identity"], seen["client_ip"]) == (WEB, scene.ip("web-0"))


def test_a_service_is_reached_by_its_address(scene: Scene) -> None:
    """An address that leads nowhere on this machine, but through the sidecar."""
    with scene.served("store-0", answer):
        near, code = socks_connection(scene.ip("web-0"), CLUSTER_IP, 80)
        assert code == 0
        assert ask(near) == b"you said: question"


def test_a_stranger_is_served_by_the_sidecar_where_policy_allows(scene: Scene) -> None:
    """The pod's port is the sidecar's: nobody comes past it."""
    stranger = scene.cluster.address()
    with scene.served("store-0", answer):
        assert ask(dial(scene.ip("store-0"), PORT, source=stranger)) == b"you said: question"
    seen = scene.sidecars["store-0"].find(10, event="connection", client_ip=stranger)
    assert seen is not None
    assert (seen["client_identity"], seen["tls"]) == ("", "none")


@pytest.mark.parametrize("source", ["stranger", "127.0.0.1"])
def test_a_stranger_is_refused_where_identity_is_required(scene: Scene, source: str) -> None:
    """127.0.0.1 is everybody's on this machine: it is no pod's ``localhost``."""
    ip = scene.cluster.address() if source == "stranger" else source
    assert closed(dial(scene.ip("strict-0"), PORT, source=ip))
    seen = scene.sidecars["strict-0"].find(10, event="connection denied", client_ip=ip)
    assert seen is not None
    assert seen["reason"]


def test_the_pod_itself_is_let_in(scene: Scene) -> None:
    """What comes from the pod's own address is ``localhost``, whatever the policy."""
    with scene.served("strict-0", answer):
        near = dial(scene.ip("strict-0"), PORT, source=scene.ip("strict-0"))
        assert ask(near) == b"you said: question"
    seen = scene.sidecars["strict-0"].find(10, event="connection", client_ip=scene.ip("strict-0"))
    assert seen is not None
    assert seen["authorization"] == "default:localhost"


def test_requests_of_the_pod_itself_are_let_in(scene: Scene) -> None:
    """As connections are; from another address of the machine they are 403."""

    def serve(connection: socket.socket) -> None:
        assert connection.recv(65536).startswith(b"GET /own HTTP/1.1\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    question = b"GET /own HTTP/1.1\r\nhost: strict\r\nconnection: close\r\n\r\n"
    ip = scene.ip("strict-0")
    with scene.served("strict-0", serve), dial(ip, PORT, source=ip) as near:
        near.sendall(question)
        assert read_all(near).startswith(b"HTTP/1.1 200 ")
    with dial(ip, PORT, source="127.0.0.1") as near:
        near.sendall(question)
        assert read_all(near).startswith(b"HTTP/1.1 403 ")
    seen = scene.sidecars["strict-0"].find(10, event="request denied", client_ip="127.0.0.1")
    assert seen is not None
    assert (seen["path"], seen["code"]) == ("/own", "unauthorized")


def test_a_pod_reaches_itself_without_going_round(scene: Scene) -> None:
    """Its own port by its own sidecar leads straight to the application."""
    with scene.served("web-0", answer):
        near, code = socks_connection(scene.ip("web-0"), scene.ip("web-0"), PORT)
        assert code == 0
        assert ask(near) == b"you said: question"


def test_an_undeclared_port_stays_closed_to_the_mesh(scene: Scene) -> None:
    """A program on loopback that the pod does not declare is not reached through its sidecar."""
    with socket.create_server(("127.0.0.1", free_port())) as private:
        port = private.getsockname()[1]
        near, code = socks_connection(scene.ip("web-0"), scene.ip("store-0"), port)
        assert code == 0
        assert closed(near)
        target = f"{scene.ip('store-0')}:{port}"
        seen = scene.sidecars["store-0"].find(10, event="connection failed", target=target)
        assert seen is not None
        assert "is no declared port of this pod" in str(seen["reason"])
        private.settimeout(0.2)
        with pytest.raises(TimeoutError):
            private.accept()


def test_only_the_pods_own_programs_go_out_by_its_sidecar(scene: Scene) -> None:
    """Another pod at its outbound port is closed without an answer, and the log says who."""
    other = scene.cluster.address()
    with pytest.raises(ConnectionError):
        socks_connection(scene.ip("web-0"), "store.shop", 80, source=other)
    seen = scene.sidecars["web-0"].find(10, event="connection failed", code="not-local")
    assert seen is not None
    assert other in str(seen["reason"])


def test_the_pod_may_call_from_its_own_address(scene: Scene) -> None:
    """As a program does that binds its source."""
    with scene.served("store-0", answer):
        web = scene.ip("web-0")
        near, code = socks_connection(web, "store.shop", 80, source=web)
        assert code == 0
        assert ask(near) == b"you said: question"


@pytest.mark.parametrize(
    ("host", "port", "command", "code"),
    [
        ("nobody.shop.svc.cluster.local", 80, 1, 4),
        ("no-such-name.invalid", 80, 1, 4),
        ("store.shop", 80, 2, 7),
        ("store.shop", 80, 3, 7),
        ("store.shop", 0, 1, 1),
        ("own", 4140, 1, 2),
        ("own", 4143, 1, 2),
    ],
)
def test_what_cannot_be_is_refused_in_the_words_of_socks(
    scene: Scene, host: str, port: int, command: int, code: int
) -> None:
    """Unknown names, other commands, and our own listeners."""
    web = scene.ip("web-0")
    near, said = socks_connection(web, web if host == "own" else host, port, command=command)
    with near:
        assert said == code
        assert near.recv(1) == b""


def test_curl_needs_no_more_than_a_setting(scene: Scene) -> None:
    """A program that knows SOCKS by its environment."""

    def serve(connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")

    web = scene.mesh.pods["web-0"]
    with scene.served("store-0", serve):
        done = web.host.run(
            ["curl", "-sS", "-m", "15", "http://store.shop.svc/"],
            env={"ALL_PROXY": f"socks5h://{web.ip}:4140"},
        )
    assert (done.returncode, done.stdout) == (0, "hello"), done.stderr


def test_a_port_that_the_application_holds_is_named_with_its_holder(scene: Scene) -> None:
    """Exit 2: nobody may think that the sidecar protects what it does not hold."""
    pod = scene.mesh.pods["taken-0"]
    holder = pod.host.spawn([sys.executable, "-m", "http.server", "-b", pod.ip, str(PORT)])
    try:
        wait_until(lambda: holder_of(Address(pod.ip, PORT)) != "", seconds=15, what="it listens")
        sidecar = scene.mesh.start_sidecar("taken-0", CAPTURE="explicit")
        assert sidecar.program.wait(30) == 2
    finally:
        holder.terminate()
        holder.wait(10)
    said = f"the application listener cannot have {pod.ip}:{PORT}: Address already in use by pid"
    assert f"{said} {holder.pid} (python" in sidecar.last_words()


def test_it_may_be_left_unprotected_on_purpose(scene: Scene) -> None:
    """Meshed clients still come with their identity; /ready tells what is open."""
    with socket.create_server((scene.ip("taken-0"), PORT)) as listener:
        sidecar = scene.mesh.start_sidecar("taken-0", CAPTURE="explicit", MESH_ONLY_INBOUND="true")
        try:
            sidecar.await_ready()
            assert f"port {PORT} is unprotected" in scene.ready("taken-0")
            near, code = socks_connection(scene.ip("web-0"), scene.ip("taken-0"), PORT)
            assert code == 0
            with near:
                near.sendall(b"hi")
                listener.settimeout(15)
                far, _ = listener.accept()
                with far:
                    assert far.recv(2) == b"hi"
            seen = sidecar.find(10, event="connection", direction="inbound")
            assert seen is not None
            assert seen["client_identity"] == WEB
        finally:
            sidecar.program.terminate()
            sidecar.program.wait(15)

"""Servers that speak first, through the mesh without a word of configuration.

MariaDB and PostgreSQL with their own clients, and a greeter such as an SMTP server, on ports that
are on no list; called from a pod with a sidecar and from one without.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import find_runtime
from redirect.options import PROXY_UID
from tests.support.processes import wait_until
from tests.support.sockets import connect_in, listener_in

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter"),
    pytest.mark.slow,
]

STORE = "10.96.0.20"
MARIADB, POSTGRES, GREETER, WEB, STRICT = 13306, 15432, 2525, 8099, 2526
GREETING = b"220 store.shop ESMTP at your service\r\n"
STALL_S = 1.0
"""Ten times what a first byte may take: it tells a stall from none."""
POSTGRES_BIN = "/usr/lib/postgresql/15/bin"
os.environ["PATH"] += os.pathsep + os.pathsep.join(("/usr/sbin", POSTGRES_BIN))


@dataclass(frozen=True)
class Scene:
    """A running mesh."""

    mesh: Mesh
    web: Sidecar
    store: Sidecar
    place: Path

    def client(self, kind: str) -> Pod:
        """Return the pod of a kind of client."""
        return self.mesh.pods["web-0" if kind == "meshed" else "plain-0"]

    def address(self, kind: str) -> str:
        """Return how that kind of client reaches the server: by Service or straight."""
        return STORE if kind == "meshed" else self.mesh.pods["store-0"].ip


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """A running mesh; the Service declares the ports and nothing about them."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        mesh = Mesh(rig, rig.cluster("a"), find_runtime(PROXY_UID, place), place)
        mesh.workload("web-0", "web")
        mesh.workload("store-0", "store")
        policy = {"config.linkerd.io/default-inbound-policy": "all-authenticated"}
        mesh.workload("strict-0", "strict", annotations=policy)
        mesh.workload("plain-0", "plain", meshed=False)
        ports = (MARIADB, POSTGRES, GREETER, WEB)
        mesh.service("store", "store", [STORE], {port: port for port in ports})
        mesh.write()
        mesh.start_issuer()
        sidecars = []
        for pod in ("web-0", "store-0", "strict-0"):
            mesh.capture(pod)
            sidecars.append(mesh.start_sidecar(pod))
        for sidecar in sidecars:
            sidecar.await_ready()
        yield Scene(mesh, sidecars[0], sidecars[1], place)


def data_directory(scene: Scene, name: str) -> Path:
    """Return an empty directory of the apps' user."""
    path = scene.place / name
    path.mkdir(mode=0o700)
    shutil.chown(path, APP_UID, APP_UID)
    return path


def await_port(pod: Pod, port: int) -> None:
    """Wait until a program in ``pod`` listens, seen from beside it."""

    def listens() -> bool:
        with suppress(OSError), connect_in(pod.host, "127.0.0.1", port):
            return True
        return False

    wait_until(listens, seconds=30, what=f"port {port} is open")


@pytest.fixture(scope="module")
def mariadb(scene: Scene) -> None:
    """A MariaDB server in store-0 that anybody may use."""
    pod = scene.mesh.pods["store-0"]
    data = data_directory(scene, "mariadb")
    setup = scene.place / "setup.sql"
    setup.write_text("CREATE USER app@'%';\nGRANT ALL ON *.* TO app@'%';\n")
    done = pod.host.run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db"],
        uid=APP_UID,
        timeout_s=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pod.host.spawn(
        [
            *("mariadbd", "--no-defaults", f"--datadir={data}", f"--port={MARIADB}"),
            *(f"--socket={data}/socket", f"--init-file={setup}", "--skip-name-resolve"),
            *("--innodb-buffer-pool-size=8M", "--performance-schema=OFF"),
        ],
        uid=APP_UID,
    )
    await_port(pod, MARIADB)


@pytest.fixture(scope="module")
def postgres(scene: Scene) -> None:
    """A PostgreSQL server in store-0 that anybody may use."""
    pod = scene.mesh.pods["store-0"]
    data = data_directory(scene, "postgres")
    command = [f"{POSTGRES_BIN}/initdb", "-D", str(data), "-A", "trust", "-U", "app", "-N"]
    done = pod.host.run(command, uid=APP_UID, timeout_s=60)
    assert done.returncode == 0, done.stdout + done.stderr
    with (data / "pg_hba.conf").open("a") as file:
        file.write("host all all 0.0.0.0/0 trust\n")
    pod.host.spawn(
        [
            *(f"{POSTGRES_BIN}/postgres", "-D", str(data), "-p", str(POSTGRES), "-h", "0.0.0.0"),
            *("-k", str(data), "-F"),
        ],
        uid=APP_UID,
    )
    await_port(pod, POSTGRES)


@contextmanager
def greeting(pod: Pod, port: int) -> Iterator[list[str]]:
    """Run a server that greets everybody; yield whom it greeted, by address."""
    greeted: list[str] = []

    def run(listener: socket.socket) -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            with connection:
                greeted.append(str(peer[0]))
                connection.settimeout(10)
                try:
                    connection.sendall(GREETING)
                    while data := connection.recv(4096):
                        connection.sendall(b"250 " + data)
                except OSError:
                    continue

    with listener_in(pod.host, "0.0.0.0", port) as listener:
        listener.settimeout(60)
        thread = threading.Thread(target=run, args=(listener,))
        thread.start()
        try:
            yield greeted
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)
    assert not thread.is_alive()


@pytest.mark.needs("mariadbd", "mariadb", "mariadb-install-db")
@pytest.mark.parametrize("kind", ["meshed", "unmeshed"])
def test_mariadb(scene: Scene, mariadb: None, kind: str) -> None:
    """Its server greets first; a port that nobody declared opaque."""
    began = time.monotonic()
    done = scene.client(kind).host.run(
        [
            *("mariadb", "--no-defaults", "-h", scene.address(kind), "-P", str(MARIADB)),
            *("-u", "app", "-N", "-e", "SELECT 40 + 2"),
        ],
        uid=APP_UID,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr
    assert time.monotonic() - began < 5
    seen = scene.store.find(10, event="connection", client_ip=scene.client(kind).ip)
    assert seen is not None
    assert seen["tls"] == ("mesh" if kind == "meshed" else "none")


@pytest.mark.needs("postgres", "initdb", "psql")
@pytest.mark.parametrize("kind", ["meshed", "unmeshed"])
def test_postgresql(scene: Scene, postgres: None, kind: str) -> None:
    """Its client asks for TLS in its own protocol first, and is told no by the server."""
    done = scene.client(kind).host.run(
        [
            *("psql", "-X", "-h", scene.address(kind), "-p", str(POSTGRES), "-U", "app"),
            *("-d", "postgres", "-At", "-c", "select 40 + 2"),
        ],
        uid=APP_UID,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr


@pytest.mark.parametrize("kind", ["meshed", "unmeshed"])
def test_a_greeter_greets_without_a_stall(scene: Scene, kind: str) -> None:
    """The first client of the port too, of whom nothing could be learned before."""
    pod = scene.client(kind)
    with greeting(scene.mesh.pods["store-0"], GREETER):
        for _ in range(3):
            began = time.monotonic()
            with connect_in(pod.host, scene.address(kind), GREETER) as near:
                assert near.recv(4096) == GREETING
                assert time.monotonic() - began < STALL_S
                near.sendall(b"HELO web\r\n")
                assert near.recv(4096) == b"250 HELO web\r\n"


def test_who_is_denied_sees_no_byte_and_causes_no_greeting(scene: Scene) -> None:
    """Silent or not, before and after the port is known to greet."""
    strict, plain = scene.mesh.pods["strict-0"], scene.mesh.pods["plain-0"]
    with greeting(strict, STRICT) as greeted:
        for is_known in (False, True):
            for word in (b"", b"HELO stranger\r\n"):
                with connect_in(plain.host, strict.ip, STRICT, wait_s=3) as near:
                    heard = b""
                    with suppress(TimeoutError, ConnectionError):
                        near.sendall(word)
                        heard = near.recv(4096)
                    assert heard == b""
            if not is_known:
                web = scene.mesh.pods["web-0"]
                with connect_in(web.host, strict.ip, STRICT) as near:
                    assert near.recv(4096) == GREETING
        assert greeted == [strict.ip]


@pytest.mark.parametrize("kind", ["meshed", "unmeshed"])
def test_idle_http_connections_never_make_a_port_opaque(scene: Scene, kind: str) -> None:
    """A server that says nothing unasked stays what it was, however long its clients wait."""
    request = b"GET / HTTP/1.1\r\nhost: store\r\n\r\n"
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(20)
            while connection.recv(4096):
                connection.sendall(reply)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with listener_in(scene.mesh.pods["store-0"].host, "0.0.0.0", WEB) as listener:
        listener.settimeout(60)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            for _ in range(2):
                with connect_in(scene.client(kind).host, scene.address(kind), WEB) as near:
                    time.sleep(1.3)
                    for _ in range(2):
                        near.sendall(request)
                        assert near.recv(4096) == reply
                        time.sleep(0.1)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)
    for sidecar in (scene.web, scene.store):
        learned = [e for e in sidecar.events() if e.get("event") == "server speaks first"]
        assert WEB not in [event.get("port") for event in learned]
        assert not [event for event in learned if str(event.get("target")).endswith(f":{WEB}")]

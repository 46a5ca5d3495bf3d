"""The promise: what is exchanged on disk counts without a restart, what is broken changes nothing.

The real sidecar in a process of its own, a SPIFFE identity, its leaf and anchors in volumes as a
cluster mounts them. What it serves is seen from outside, by mesh TLS on its admin port.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from identity.anchors import short_fingerprint
from identity.name import parse_identity
from identity.pem import join_pem
from tests.authority import Mesh, mk_mesh
from tests.session.peers import mk_context, mk_files
from tests.sidecars import free_address
from tests.support.manifests import MESHED, pod
from tests.support.processes import wait_until
from tests.support.sockets import ENVIRONMENT, PILLION
from tests.support.volume import Volume

pytestmark = pytest.mark.slow

API: Final = parse_identity("spiffe://cluster.local/ns/shop/sa/api")
SERVER_NAME: Final = "api.shop.example"
IP: Final = "127.0.0.7"
BUNDLE: Final = "cluster.local.pem"


class Sidecar:
    """A running ``pillion proxy`` whose leaf others rotate."""

    def __init__(self, place: Path) -> None:
        self.mesh = mk_mesh(place / "authority")
        self.other = mk_mesh(place / "other")
        self.place = place
        self.leaf = Volume(place / "leaf")
        self.anchors = Volume(place / "id" / "anchors")
        for name in ("chain.pem", "key.pem"):
            (place / "id" / name).symlink_to(place / "leaf" / name)
        self.admin = free_address(IP)
        self.log = place / "log"
        self.trust(self.mesh.root)
        self.rotate(self.mesh)
        (place / "mesh").mkdir()
        manifest = pod("api-0", IP, annotations=MESHED)
        (place / "mesh" / "api.json").write_text(json.dumps(manifest))

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process and wait until it is ready."""
        environment = {
            **{name: value for name, value in os.environ.items() if "PILLION" not in name},
            **ENVIRONMENT,
            "PILLION_POD": "shop/api-0",
            "PILLION_MESH_DIR": str(self.place / "mesh"),
            "PILLION_IDENTITY_DIR": str(self.place / "id"),
            "PILLION_IDENTITY_NAME": API.name,
            "PILLION_IDENTITY_SERVER_NAME": SERVER_NAME,
            "PILLION_INBOUND_LISTEN_ADDR": str(free_address(IP)),
            "PILLION_OUTBOUND_LISTEN_ADDR": str(free_address(IP)),
            "PILLION_ADMIN_LISTEN_ADDR": str(self.admin),
            "PILLION_LOG_FORMAT": "json",
        }
        with self.log.open("wb") as errors:
            process = subprocess.Popen([*PILLION, "proxy"], env=environment, stderr=errors)
        try:
            wait_until(
                lambda: process.poll() is not None or self.ready() == "ready\n",
                seconds=60,
                what="the sidecar's readiness",
            )
        except BaseException:
            process.kill()
            process.wait(30)
            raise
        assert process.poll() is None, self.log.read_text()
        return process

    def trust(self, *roots: bytes) -> None:
        """Exchange the bundle for one of these roots."""
        self.publish(join_pem(roots))

    def publish(self, bundle: bytes) -> None:
        """Exchange the bundle."""
        self.anchors.publish({BUNDLE: bundle}, mode=0o444)

    def rotate(self, mesh: Mesh) -> str:
        """Exchange leaf and key; returns the leaf's fingerprint."""
        issued = mesh.leaf(API, self.place / "issued")
        self.leaf.publish(
            {
                "chain.pem": join_pem([issued.leaf, *issued.intermediates]),
                "key.pem": (self.place / "issued" / "key.pem").read_bytes(),
            }
        )
        return hashlib.sha256(issued.leaf).hexdigest()

    def get(self, path: str) -> str:
        """Return a page of the admin server, empty when nobody answers."""
        connection = http.client.HTTPConnection(self.admin.ip, self.admin.port, timeout=10)
        with closing(connection):
            try:
                connection.request("GET", path)
                return connection.getresponse().read().decode()
            except OSError:
                return ""

    def ready(self) -> str:
        """Return /ready."""
        return self.get("/ready")

    def metric(self, name: str) -> float | None:
        """Return one sample of /metrics."""
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return None

    def served(self, context: ssl.SSLContext) -> str:
        """Return the fingerprint of the leaf in use; empty when the handshake fails."""
        try:
            with (
                socket.create_connection((self.admin.ip, self.admin.port), 10) as sock,
                context.wrap_socket(sock, server_hostname=SERVER_NAME) as secured,
            ):
                secured.sendall(b"GET /live HTTP/1.0\r\n\r\n")
                # In TLS 1.3 the client's certificate is refused after its handshake.
                if not secured.recv(100).startswith(b"HTTP/1.1 200"):
                    return ""
                leaf = secured.getpeercert(binary_form=True) or b""
                return hashlib.sha256(leaf).hexdigest()
        except OSError:
            return ""

    def says(self, event: str, words: str) -> bool:
        """Whether the log holds an event with these words."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return any(line["event"] == event and words in line.get("message", "") for line in lines)


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """Run a sidecar; at the end it has to go in order."""
    found = Sidecar(tmp_path)
    process = found.start()
    try:
        yield found
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def soon(claim: Callable[[], bool], what: str) -> None:
    """Wait ten times as long as it should take."""
    wait_until(claim, seconds=20, what=what)


def _client(sidecar: Sidecar, mesh: Mesh, *, trusting: Mesh) -> ssl.SSLContext:
    place = sidecar.place / f"client-{mesh.authority.directory.name}"
    return mk_context(trusting, mk_files(mesh, "shop/web", place), alpn="")


def test_a_sidecar_follows_its_files(sidecar: Sidecar) -> None:
    """Leaf, broken leaf, broken bundle, another root: each as it comes, in one life."""
    mesh, other = sidecar.mesh, sidecar.other
    client = _client(sidecar, mesh, trusting=mesh)
    first = sidecar.served(client)
    assert first

    second = sidecar.rotate(mesh)
    soon(lambda: sidecar.served(client) == second, "the new leaf")
    assert sidecar.metric('control_identity_cert_refreshes_total{result="ok"}') == 2

    sidecar.leaf.publish({"chain.pem": b"-----BEGIN CERTIFICATE-----\nAAAA", "key.pem": b""})
    soon(lambda: "broken PEM" in sidecar.ready(), "a word about the broken leaf")
    assert sidecar.ready().startswith("ready\nwarning: no new certificate: ")
    assert sidecar.served(client) == second
    assert (sidecar.metric('control_identity_cert_refreshes_total{result="error"}') or 0) >= 1
    assert sidecar.says("identity", "the one in use stays")
    third = sidecar.rotate(mesh)
    soon(lambda: sidecar.served(client) == third, "the leaf after the broken one")
    assert sidecar.ready() == "ready\n"

    sidecar.publish(join_pem([mesh.root])[:-60])
    soon(lambda: BUNDLE in sidecar.ready(), "a word about the broken bundle")
    assert sidecar.ready().startswith("ready\nwarning: trust anchors: ")
    assert sidecar.served(client) == third
    assert sidecar.metric('pillion_identity_anchor_reloads_total{result="error"}') == 1
    assert sidecar.says("identity", "in force stay")

    sidecar.trust(mesh.root, other.root)
    soon(lambda: sidecar.ready() == "ready\n", "the whole bundle")
    for root in (mesh.root, other.root):
        labels = f'{{trust_domain="cluster.local",fingerprint="{short_fingerprint(root)}"}}'
        assert (sidecar.metric(f"pillion_identity_anchor_ttl_seconds{labels}") or 0) > 3e8
    stranger = _client(sidecar, other, trusting=mesh)
    assert sidecar.served(stranger) == third

    sidecar.trust(other.root)
    soon(lambda: not sidecar.served(client), "the refusal of the old root's client")
    assert sidecar.served(stranger) == third
    assert "peers refuse us" in sidecar.ready()
    fourth = sidecar.rotate(other)
    newcomer = mk_context(other, mk_files(other, "shop/web", sidecar.place / "newcomer"), alpn="")
    soon(lambda: sidecar.served(newcomer) == fourth, "a leaf of the new root")
    assert sidecar.ready() == "ready\n"

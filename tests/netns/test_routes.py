"""Routes on Services between pods of network namespaces, captured by rules: what redirection adds.

What a connection was going to is the kernel's word here. The cases are the conformance suite's;
all of them, without namespaces, stand in ``tests/session/test_route_conformance.py``.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh
from cli.demo.pods import Pod, Rig
from tests.netns.reach import Captured
from tests.support.processes import wait_until

pytestmark = [
    pytest.mark.needs("root", "curl", "setpriv", "iptables-nft", "ip", "nsenter"),
    pytest.mark.slow,
]

ECHO, V1, V2 = "10.96.0.20", "10.96.0.21", "10.96.0.22"
ROUTES = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: echo, port: 80}]
  rules:
    - matches: [{path: {type: Exact, value: /v1}}]
      backendRefs: [{name: v1, port: 80}]
    - matches:
        - path: {value: /v2}
        - {path: {value: /head}, headers: [{name: version, value: two}]}
      backendRefs: [{name: v2, port: 80}]
    - matches: [{path: {value: /away}}]
      filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, port: 8083}}]
    - matches: [{path: {value: /strip}}]
      filters:
        - type: URLRewrite
          urlRewrite:
            hostname: one.example.org
            path: {type: ReplacePrefixMatch, replacePrefixMatch: /}
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: x-set, value: "set"}], remove: [x-gone]}
      backendRefs: [{name: v1, port: 80}]
    - matches: [{path: {value: /split}}]
      backendRefs: [{name: v1, port: 80, weight: 70}, {name: v2, port: 80, weight: 30}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: v2}]
  rules:
    - filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: {set: [{name: x-header-set, value: "set"}]}
      backendRefs: [{name: v2, port: 80}]
"""


class Echo(BaseHTTPRequestHandler):
    """Says what it was asked, and who it is."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65_536
    name = ""

    def do_GET(self) -> None:
        """Say it."""
        headers = {key.lower(): value for key, value in self.headers.items()}
        said = json.dumps({"pod": self.name, "path": self.path, "headers": headers}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing of it."""


@dataclass(frozen=True)
class Scene:
    """A mesh with routes."""

    mesh: Mesh

    @property
    def web(self) -> Pod:
        """The client."""
        return self.mesh.pods["web-0"]

    def ask(self, url: str, *options: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Ask by curl in ``web-0``; return status, headers and what a pod said."""
        command = ["curl", "-sS", "-i", "-m", "10", *options, url]
        done = self.web.host.run(command, uid=APP_UID)
        assert done.returncode == 0, done.stderr
        head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.split("\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        return int(first.split(" ")[1]), headers, json.loads(body) if body else {}


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Pods ``web-0``, ``v1-0`` and ``v2-0`` with sidecars, and Services over them."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        reach = Captured(rig, place, "nft")
        mesh = Mesh(rig, reach.cluster, reach.runtime, place)
        for each in ("web", "v1", "v2"):
            mesh.workload(f"{each}-0", each)
        for service, app, address in (("echo", "v1", ECHO), ("v1", "v1", V1), ("v2", "v2", V2)):
            mesh.service(service, app, [address], {80: 8080})
        mesh.add("routes.yaml", ROUTES)
        mesh.write()
        mesh.start_issuer()
        servers = []
        for each in ("v1", "v2"):
            handler = type(each, (Echo,), {"name": each})
            server = ThreadingHTTPServer(("", 0), handler, bind_and_activate=False)
            server.socket.close()
            server.socket = reach.listener(mesh.pods[f"{each}-0"], 8080)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.append(server)
        sidecars = []
        for each in ("web-0", "v1-0", "v2-0"):
            reach.capture(mesh, each)
            sidecars.append(mesh.start_sidecar(each))
        for sidecar in sidecars:
            sidecar.await_ready()
        yield Scene(mesh)
        for server in servers:
            server.shutdown()
            server.server_close()


def test_requests_are_split_by_path_and_header(scene: Scene) -> None:
    """And what no rule is for is nobody's."""
    for path, options, pod in (
        ("/v1", (), "v1"),
        ("/v2/x", (), "v2"),
        ("/head", ("-H", "version: two"), "v2"),
    ):
        status, _, said = scene.ask(f"http://{ECHO}{path}", *options)
        assert (status, said["pod"], said["path"]) == (200, pod, path)
    for path in ("/", "/v1/", "/head", "/v2x"):
        assert scene.ask(f"http://{ECHO}{path}")[0] == 404


def test_a_redirect_and_a_rewrite(scene: Scene) -> None:
    """The client is sent away with the path it asked for; the pod sees another."""
    status, headers, _ = scene.ask(f"http://{ECHO}/away/there?a=b")
    assert (status, headers["location"]) == (302, "http://example.org:8083/away/there?a=b")
    status, _, said = scene.ask(f"http://{ECHO}/strip/three", "-H", "x-gone: 1")
    assert (status, said["pod"], said["path"]) == (200, "v1", "/three")
    assert (said["headers"]["host"], said["headers"]["x-set"]) == ("one.example.org", "set")
    assert "x-gone" not in said["headers"]


def test_the_address_decides_and_not_the_host(scene: Scene) -> None:
    """A Service's address has its routes; a pod's has none."""
    status, headers, said = scene.ask(f"http://{V2}/", "-H", "Host: v1")
    assert (status, said["pod"], headers.get("x-header-set")) == (200, "v2", "set")
    status, headers, said = scene.ask(f"http://{V1}/", "-H", "Host: v2")
    assert (status, said["pod"], headers.get("x-header-set")) == (200, "v1", None)
    pod = scene.mesh.pods["v2-0"]
    status, headers, said = scene.ask(f"http://{pod.ip}:8080/")
    assert (status, said["pod"], headers.get("x-header-set")) == (200, "v2", None)


def test_weights(scene: Scene) -> None:
    """Seventy to thirty over 500 requests, 20 at once, each on a connection of its own."""

    def batch(_: int) -> list[str]:
        urls = [f"http://{ECHO}/split"] * 25
        command = ["curl", "-sS", "-m", "20", "-H", "Connection: close", *urls]
        text = scene.web.host.run(command, uid=APP_UID).stdout
        return [each for each in ("v1", "v2") for _ in range(text.count(f'"pod": "{each}"'))]

    with ThreadPoolExecutor(20) as pool:
        counted = Counter(pod for pods in pool.map(batch, range(20)) for pod in pods)
    assert sum(counted.values()) == 500
    assert abs(counted["v1"] / 500 - 0.7) <= 0.05


def test_a_route_whose_file_goes_is_gone(scene: Scene) -> None:
    """The last: it takes the routes away."""
    (scene.mesh.directory / "routes.yaml").unlink()
    wait_until(
        lambda: scene.ask(f"http://{ECHO}/nowhere")[0] == 200, seconds=10, what="the route is gone"
    )

"""Policy for requests among real pods: capture rules, sidecar processes, curl, and the kubelet.

``web-0`` and ``cron-0`` call ``api-0``; the node, which has no sidecar, probes it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cli.demo.host import APP_UID, Host
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import find_runtime
from redirect.options import PROXY_UID
from tests.session.admin import samples
from tests.support.processes import wait_until

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

ROUTED, PROBED = 8080, 8081
ACCOUNTS = "shop.serviceaccount.identity.linkerd.cluster.local"
POLICY = """
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: api-http, namespace: shop}
spec: {podSelector: {matchLabels: {app: api}}, port: 8080}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: api-http}]
  rules:
    - matches: [{path: {type: Exact, value: /orders}, method: GET}]
    - matches: [{path: {value: /old}}]
      filters:
        - type: RequestRedirect
          requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /orders}}
"""
GRANT = """
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: web-only, namespace: shop}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]
"""


@dataclass(frozen=True)
class Scene:
    """The mesh, and where nobody has a sidecar."""

    mesh: Mesh
    node: Host
    api: Sidecar

    @property
    def ip(self) -> str:
        """Where the API is."""
        return self.api.pod.ip

    def curl(self, source: Pod | Host, port: int, path: str, *options: str) -> tuple[int, str]:
        """Return status and Location (or the body, on the admin port) of one request."""
        host = source.host if isinstance(source, Pod) else source
        shown = ["-w", "%{http_code} %{redirect_url}", "-o", "/dev/null"]
        url = f"http://{self.ip}:{port}{path}"
        done = host.run(["curl", "-sS", "-m", "20", *shown, *options, url], uid=APP_UID)
        assert done.returncode == 0, done.stderr
        status, _, location = done.stdout.partition(" ")
        return int(status), location

    def admin(self, path: str) -> str:
        """Return a page of the API's sidecar."""
        url = f"http://{self.ip}:4191{path}"
        done = self.node.run(["curl", "-sS", "-m", "20", url], uid=APP_UID)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def total(self, family: str, **labels: str) -> float:
        """Return what the API's sidecar has counted."""
        found = samples(self.admin("/metrics").encode()).get(family, {})
        return sum(value for at, value in found.items() if labels.items() <= set(at))


def add_probe(directory: Path) -> None:
    """Give the API a liveness probe, which the demo's manifests do not have."""
    for file in directory.glob("**/*.yaml"):
        documents = list(yaml.safe_load_all(file.read_text()))
        for each in documents:
            if each and each["kind"] == "Pod" and each["metadata"]["name"] == "api-0":
                probe = {"httpGet": {"path": "/live", "port": PROBED}}
                each["spec"]["containers"][0]["livenessProbe"] = probe
        file.write_text(yaml.safe_dump_all(documents))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Three pods with sidecars; the API serves two ports."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        cluster = rig.cluster("a")
        mesh = Mesh(rig, cluster, find_runtime(PROXY_UID, place), place)
        mesh.workload("web-0", "web")
        mesh.workload("cron-0", "cron")
        deny = {"config.linkerd.io/default-inbound-policy": "deny"}
        ports = {"http": ROUTED, "other": PROBED}
        api = mesh.workload("api-0", "api", ports=ports, annotations=deny)
        mesh.add("policy.yaml", POLICY)
        mesh.add("grant.yaml", GRANT)
        mesh.start_issuer()
        mesh.write()
        add_probe(mesh.directory)
        sidecars = {}
        for pod in ("web-0", "cron-0", "api-0"):
            mesh.capture(pod)
            sidecars[pod] = mesh.start_sidecar(pod)
        for sidecar in sidecars.values():
            sidecar.await_ready()
        (place / "www").mkdir(mode=0o755)
        for page in ("orders", "live", "old"):
            (place / "www" / page).write_text(f"{page}\n")
        for port in (ROUTED, PROBED):
            server = ["/usr/bin/python3", "-m", "http.server", str(port), "-d", f"{place}/www"]
            api.host.spawn(server, uid=APP_UID)
        scene = Scene(mesh, cluster.node, sidecars["api-0"])
        wait_until(
            lambda: scene.curl(scene.node, PROBED, "/live")[0] == 200,
            seconds=20,
            what="the application answers",
        )
        yield scene


def test_routes_and_identities_decide(scene: Scene) -> None:
    """Admitted, unauthorized, not found; the redirect only for who may."""
    web, cron = scene.mesh.pods["web-0"], scene.mesh.pods["cron-0"]
    assert scene.curl(web, ROUTED, "/orders") == (200, "")
    assert scene.curl(cron, ROUTED, "/orders") == (403, "")
    assert scene.curl(scene.node, ROUTED, "/orders") == (403, "")
    assert scene.curl(web, ROUTED, "/other") == (404, "")
    assert scene.curl(web, ROUTED, "/orders", "-X", "POST") == (404, "")
    assert scene.curl(web, ROUTED, "/old/7?a=b") == (
        302,
        f"http://{scene.ip}:{ROUTED}/orders/7?a=b",
    )
    assert scene.curl(cron, ROUTED, "/old/7") == (403, "")
    by = {"srv_name": "api-http", "srv_kind": "server", "target_addr": f"{scene.ip}:{ROUTED}"}
    to_route = {**by, "route_name": "orders", "route_kind": "HTTPRoute"}
    web_id, cron_id = f"web.{ACCOUNTS}", f"cron.{ACCOUNTS}"
    admitted = {**to_route, "authz_name": "web-only", "client_id": web_id}
    assert scene.total("inbound_http_authz_allow_total", **admitted) == 2
    assert scene.total("inbound_http_authz_deny_total", **to_route, client_id=cron_id) == 2
    plain = {"tls": "no_identity", "no_tls_reason": "no_tls_from_remote"}
    assert scene.total("inbound_http_authz_deny_total", **to_route, **plain) == 1
    assert scene.total("inbound_http_route_not_found_total", **by, client_id=web_id) == 2
    denied = scene.api.find(10, event="request denied", client_identity=cron_id)
    assert denied is not None
    assert denied["tried"]


def test_the_kubelet_probes_a_port_that_denies(scene: Scene) -> None:
    """From the node, without identity: the probe's path and method, and nothing beside."""
    web = scene.mesh.pods["web-0"]
    assert scene.curl(scene.node, PROBED, "/live?full=1") == (200, "")
    assert scene.curl(scene.node, PROBED, "/live", "-X", "POST") == (403, "")
    assert scene.curl(scene.node, PROBED, "/orders") == (403, "")
    assert scene.curl(web, PROBED, "/orders") == (403, "")
    labels = {"srv_name": "deny", "route_name": "probe", "authz_name": "probe"}
    assert scene.total("inbound_http_authz_allow_total", **labels, tls="no_identity") >= 1
    # The pod's own programs come by loopback, past everything but localhost.
    assert scene.curl(scene.api.pod, PROBED, "/orders") == (200, "")


def test_the_sidecar_explains_itself(scene: Scene) -> None:
    """/explain says why in one line; /policy what is in force."""
    said = scene.admin(f"/explain?from=shop/cron&to={ROUTED}&method=GET&path=/orders")
    assert said.startswith("DENIED  no authorization on HTTPRoute shop/orders admits the caller")
    assert "shop/web-only" in said
    cron = scene.mesh.pods["cron-0"]
    assert scene.curl(cron, ROUTED, "/orders?explained") == (403, "")
    told = scene.api.find(10, event="request denied", client_ip=cron.ip)
    assert told is not None
    # The log's words are the page's.
    assert said.startswith(f"DENIED  {told['reason']}: ")
    assert isinstance(told["tried"], list)
    for tried in told["tried"]:
        assert tried.partition(": ")[2] in said
    shown = json.loads(scene.admin("/policy"))["ports"]
    assert [each["port"] for each in shown] == [ROUTED, PROBED]
    assert [each["name"] for each in shown[0]["routes"]] == ["orders"]
    assert [each["name"] for each in shown[1]["routes"]] == ["default", "probe"]


def test_a_policy_that_goes_and_comes_is_followed(scene: Scene) -> None:
    """By a running sidecar, from its directory."""
    web = scene.mesh.pods["web-0"]
    file = scene.mesh.directory / "grant.yaml"
    text = file.read_text()
    for change, status in ((file.unlink, 403), (lambda: file.write_text(text), 200)):
        change()
        deadline = time.monotonic() + 20
        while scene.curl(web, ROUTED, "/orders")[0] != status:
            assert time.monotonic() < deadline

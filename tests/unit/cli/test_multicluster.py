"""``pillion multicluster``: links, exports, and what comes of them, over directories."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cli.main import pillion
from core.errors import ConfigError
from identity.pem import join_pem
from resources.link import Link
from resources.manifest import parse_manifest
from tests.authority import Mesh, mk_mesh

GATEWAY = "gateway.mesh.serviceaccount.identity.linkerd.west.example"


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mesh]:
    """Return two authorities."""
    names = ("east", "west")
    return {name: mk_mesh(tmp_path_factory.mktemp(name), f"{name}.example") for name in names}


@pytest.fixture
def place(tmp_path: Path, authorities: dict[str, Mesh]) -> Path:
    """Return two clusters' directories, and the roots of both in ``anchors``."""
    for name in ("east", "west"):
        home = tmp_path / name
        home.mkdir()
        (home / "mesh.yaml").write_text(f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: pillion-config, namespace: linkerd}}
data: {{clusterName: {name}, trustDomain: {name}.example}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
""")
    (tmp_path / "west" / "api.yaml").write_text("""
apiVersion: v1
kind: Service
metadata:
  name: api
  namespace: shop
  creationTimestamp: 2026-01-01T00:00:00Z
  labels: {team: "12"}
spec:
  clusterIP: 10.96.0.1
  selector: {app: api}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata:
  name: api-0
  namespace: shop
  labels: {app: api}
  annotations: {linkerd.io/inject: enabled}
spec: {containers: [{name: app, image: app}]}
status: {podIP: 10.12.0.1}
""")
    anchors = tmp_path / "anchors"
    anchors.mkdir()
    for name, mesh in authorities.items():
        (anchors / f"{name}.example.pem").write_bytes(join_pem([mesh.root]))
    return tmp_path


def run(*arguments: str | Path) -> Result:
    """Run ``pillion multicluster`` with these arguments."""
    return CliRunner().invoke(pillion, ["multicluster", *map(str, arguments)])


def must(*arguments: str | Path) -> Result:
    """Run it; it has to succeed."""
    ran = run(*arguments)
    assert ran.exit_code == 0, (ran.output, ran.exception)
    return ran


def refused(*arguments: str | Path) -> str:
    """Run it; it has to be refused as a wrong configuration. Return why."""
    ran = run(*arguments)
    assert isinstance(ran.exception, ConfigError), ran.output
    return str(ran.exception)


def link(place: Path, *more: str | Path) -> Result:
    """Link east to west."""
    return must("link", "--mesh", place / "east", "--source", place / "west", *more)


def test_a_link_is_made_and_works(place: Path) -> None:
    """What is printed is read by the mesh, and Services come of it as soon as one is exported."""
    made = link(place, "--gateway", "192.0.2.1", "--gateway-identity", GATEWAY)
    (document,) = parse_manifest("link.yaml", made.stdout.encode()).documents
    assert document.problems == ()
    assert isinstance(document.resource, Link)
    assert document.resource.cluster == "west"
    assert document.resource.trust_domain == "west.example"
    assert document.resource.source == str(place / "west")
    assert "west.example" in made.stderr
    (place / "east" / "link.yaml").write_text(made.stdout)
    data = json.loads(must("check", "--mesh", place / "east", "-o", "json").stdout)
    assert (data["services"], data["problems"]) == ([], [])
    address = ""
    for way, mode, path in (
        ("direct", "direct", "direct"),
        ("gateway", "gateway", "gateway"),
        ("federated", "federated", "direct"),
    ):
        exported = must("export", "shop/api", "--as", way, "--mesh", place / "west").stdout
        (place / "west" / "aaa.yaml").write_text(exported)
        data = json.loads(run("check", "--mesh", place / "east", "-o", "json").stdout)
        service = next(each for each in data["services"] if each["mode"] == mode)
        (port,) = service["ports"]
        assert port["port"] == 80
        assert {each["path"] for each in port["endpoints"]} == {path}
        (address,) = service["addresses"]
        assert address.startswith("240.240.")
    table = run("check", "--mesh", place / "east").stdout
    assert "shop/api-federated" in table
    assert address in table


def test_an_export_changes_labels_alone(place: Path) -> None:
    """Everything else stays as it is written, times and numbers in quotes too."""
    exported = must("export", "shop/api", "--as", "gateway", "--mesh", place / "west").stdout
    assert "creationTimestamp: '2026-01-01T00:00:00Z'" in exported.replace('"', "'")
    found = yaml.safe_load(exported)
    assert found["metadata"]["labels"] == {"team": "12", "mirror.linkerd.io/exported": "true"}
    assert found["spec"]["ports"] == [{"port": 80, "targetPort": 8080}]
    (place / "west" / "aaa.yaml").write_text(exported)
    both = must("export", "shop/api", "--as", "federated", "--mesh", place / "west").stdout
    labels = yaml.safe_load(both)["metadata"]["labels"]
    assert labels["mirror.linkerd.io/exported"] == "true"
    assert labels["mirror.linkerd.io/federated"] == "member"
    (place / "west" / "aaa.yaml").write_text(both)
    none = must("export", "shop/api", "--as", "none", "--mesh", place / "west").stdout
    assert yaml.safe_load(none)["metadata"]["labels"] == {"team": "12"}


@pytest.mark.parametrize("service", ["shop/web", "other/api", "api", "/api"])
def test_a_service_that_is_not_there(place: Path, service: str) -> None:
    """Named in the message."""
    assert service in refused("export", service, "--as", "direct", "--mesh", place / "west")


def set_domain(place: Path, cluster: str, domain: str) -> None:
    """Give a cluster a trust domain."""
    path = place / cluster / "mesh.yaml"
    path.write_text(path.read_text().replace(f"{cluster}.example", domain))


def test_one_trust_domain_with_two_roots_is_refused(place: Path) -> None:
    """And so it is where they are not compared: nobody may speak for our identities by mistake."""
    set_domain(place, "west", "east.example")
    where = ("link", "--mesh", place / "east", "--source", place / "west")
    assert "compared" in refused(*where)
    own, other = place / "anchors" / "east.example.pem", place / "anchors" / "west.example.pem"
    assert "different roots" in refused(*where, "--own-anchors", own, "--anchors", other)
    made = link(place, "--own-anchors", own, "--anchors", own)
    assert "each can issue" in made.stderr
    (place / "east" / "link.yaml").write_text(made.stdout)
    data = json.loads(must("check", "--mesh", place / "east", "-o", "json").stdout)
    assert "our identities" in data["warnings"][0]


def test_a_shared_root_of_two_trust_domains_is_warned_about(place: Path) -> None:
    """Each domain counts that root for itself."""
    own, other = place / "anchors" / "east.example.pem", place / "anchors" / "west.example.pem"
    other.write_bytes(other.read_bytes() + own.read_bytes())
    made = link(place, "--own-anchors", own, "--anchors", other)
    assert "share a root" in made.stderr
    (place / "east" / "link.yaml").write_text(made.stdout)
    checked = must("check", "--mesh", place / "east", "--anchors", place / "anchors")
    assert "share a root" in checked.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--gateway", "192.0.2.1"], "who it is"),
        (["--gateway", "192.0.2.1", "--gateway-identity", "-"], "no identity"),
        (["--cluster-name", "We.st"], "Service's name"),
        (["--federated-by-gateway"], "without --gateway"),
    ],
)
def test_a_link_that_cannot_be(place: Path, more: list[str], said: str) -> None:
    """Each with its reason."""
    where = ("link", "--mesh", place / "east", "--source", place / "west")
    assert said in refused(*where, *more)


def test_a_second_link_and_unlinking(place: Path) -> None:
    """One a cluster; unlink names what is to be deleted."""
    (place / "east" / "link.yaml").write_text(link(place).stdout)
    where = ("link", "--mesh", place / "east", "--source", place / "west")
    assert "already" in refused(*where)
    gone = yaml.safe_load(must("unlink", "west", "--mesh", place / "east").stdout)
    assert (gone["kind"], gone["metadata"]["name"]) == ("Link", "west")
    assert "there is west" in refused("unlink", "south", "--mesh", place / "east")


def test_check_says_what_is_wrong(place: Path) -> None:
    """Exit 1, with the directory that is not there."""
    made = link(place).stdout.replace(str(place / "west"), str(place / "nowhere"))
    (place / "east" / "link.yaml").write_text(made)
    ran = run("check", "--mesh", place / "east")
    assert ran.exit_code == 1
    assert "nowhere" in ran.stdout
    assert run("check", "--mesh", place / "east", "-o", "short").stdout.startswith("problem")


@contextmanager
def admin(page: str) -> Iterator[str]:
    """Run an admin server whose metrics are ``page``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name
            del format, args

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_gateways_as_a_sidecar_sees_them(place: Path) -> None:
    """Linkerd's columns; a dead one is exit 1."""
    made = link(place, "--gateway", "192.0.2.1", "--gateway-identity", GATEWAY).stdout
    (place / "east" / "link.yaml").write_text(made)
    exported = must("export", "shop/api", "--as", "gateway", "--mesh", place / "west").stdout
    (place / "west" / "aaa.yaml").write_text(exported)
    page = (
        "# TYPE gateway_alive gauge\n"
        'gateway_alive{target_cluster_name="west"} 1\n'
        'gateway_latency{target_cluster_name="west"} 7\n'
        'gateway_alive{target_cluster_name="south"} 0\n'
        'gateway_latency{target_cluster_name="south"} 9\n'
    )
    with admin(page) as address:
        ran = run("gateways", "--admin", address, "--mesh", place / "east", "-o", "json")
        assert ran.exit_code == 1
        assert json.loads(ran.stdout) == [
            {"clusterName": "south", "alive": False, "numberOfServices": 0, "latency": None},
            {"clusterName": "west", "alive": True, "numberOfServices": 1, "latency": 7},
        ]
        assert "NUM_SVC" in run("gateways", "--admin", address).stdout
    with admin("") as address:
        assert must("gateways", "--admin", address).stdout == "no gateway is in use\n"
    assert run("gateways", "--admin", "nowhere").exit_code != 0

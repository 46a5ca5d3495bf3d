"""``pillion policy``: explain, lint, diff, audit, and cases that cannot be used."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import pillion
from cli.policy.case import MAX_REPEAT, parse_target
from cli.policy.survey import asks_of
from core.errors import ConfigError
from discovery.model import default_metadata
from policy.model import InboundRoute, InboundRule, Protocol, ServerPolicy
from policy.route import (
    GrpcMatch,
    HeaderMatch,
    HostMatch,
    HttpMatch,
    PathMatch,
    PathMatchKind,
    QueryMatch,
)

MESHES = Path(__file__).parents[2] / "policy" / "meshes"


def run(*arguments: str) -> Result:
    """Run ``pillion policy`` with these arguments."""
    return CliRunner().invoke(pillion, ["policy", *arguments])


def explain(setup: str, *arguments: str) -> tuple[int, Any]:
    """Explain over a setup; exit status and data."""
    ran = run("explain", "--mesh", str(MESHES / setup), *arguments, "-o", "json")
    return ran.exit_code, json.loads(ran.stdout)


def test_explain_takes_callers_by_account_pod_identity_and_address() -> None:
    """Each form says who calls; an admitted caller is exit 0, a refused one exit 1."""
    cli = "cli.app.serviceaccount.identity.linkerd.cluster.local"
    code, told = explain("route", "--from", "app/cli", "--to", "app/web:80", "GET", "/a")
    assert (code, told["verdict"], told["client"]["identity"]) == (0, "allow", cli)
    assert told["authorization"]["name"] == "on-r"
    assert told["to"] == "app/web:80"
    code, told = explain("route", "--from", cli, "--to", "app/web:80", "GET", "/b")
    assert (code, told["verdict"], told["status"]) == (1, "not-found", 404)
    code, told = explain("route", "--from", "app/web", "--to", "app/web:80", "GET", "/a")
    assert (code, told["client"]["ip"]) == (1, "10.1.0.80")
    assert told["code"] == "unauthorized"
    assert told["try"][0].startswith("add web.app.")
    code, told = explain("route", "--from", "10.2.3.4", "--to", "app/web:80", "GET", "/a")
    assert told["client"] == {"ip": "10.2.3.4", "tls": "none", "identity": None}
    code, told = explain(
        "route", "--from", "10.2.3.4", "--tls", "no-identity", "--to", "app/web:80"
    )
    assert (told["client"]["tls"], told["status"]) == ("mesh", None)


def test_explain_takes_headers_and_calls() -> None:
    """A host header is the request's host; a gRPC call has a grpc-status."""
    to = ("--from", "app/cli", "--to", "app/web:80")
    code, told = explain("route-segments", *to, "--header", "Host: X.app:80", "GET", "/named?q=1")
    assert (code, told["route"]["name"]) == (0, "named")
    code, told = explain("grpc", *to, "--grpc", "POST", "/svc.S/Other")
    assert (code, told["status"]) == (1, 5)


def test_explain_finds_a_pod_behind_a_service(tmp_path: Path) -> None:
    """A Service's port stands for its pods' target port."""
    mesh = (MESHES / "identities" / "mesh.yaml").read_text()
    service = """---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: app}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 8000, targetPort: http}]}
"""
    (tmp_path / "mesh.yaml").write_text(mesh + service)
    ran = run("explain", "--mesh", str(tmp_path), "--from", "app/cli", "--to", "app/front:8000")
    assert ran.exit_code == 0, ran.output
    assert "AuthorizationPolicy app/allow-c admits" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "nobody at all", "--to", "app/web:80"], "is no caller"),
        (["--from", "app/cli", "--to", "app/web"], "wanted NAMESPACE/POD:PORT"),
        (["--from", "app/cli", "--to", "app/webb:80"], "did you mean app/web?"),
        (["--from", "app/cli", "--ip", "x", "--to", "app/web:80"], "is no IP address"),
        (["--from", "10.0.0.1", "--tls", "mesh", "--to", "app/web:80"], "has no identity"),
        (["--from", "app/cli", "--to", "app/web:80", "--header", "a:b"], "give METHOD and PATH"),
        (["--from", "app/cli", "--to", "app/web:80", "--header", "a", "GET"], "is no header"),
        (["--from", "app/" + "x" * 300, "--to", "app/web:80"], "neither a pod nor an account"),
    ],
)
def test_questions_that_cannot_be_understood(arguments: list[str], words: str) -> None:
    """Each says what was wanted."""
    ran = run("explain", "--mesh", str(MESHES / "route"), *arguments)
    assert isinstance(ran.exception, ConfigError)
    assert words in str(ran.exception)


def test_lint_says_what_there_is_to_look_at() -> None:
    """Exit 1 with findings, 0 without; broken documents are problems beside them."""
    ran = run("lint", "--mesh", str(MESHES / "dangling"), "-o", "json")
    said = json.loads(ran.stdout)
    assert ran.exit_code == 1
    assert [each["code"] for each in said["findings"]] == ["dangling-reference"] * 2
    assert said["problems"] == []
    assert run("lint", "--mesh", str(MESHES / "identities"), "-o", "short").stdout == (
        "nothing found\n"
    )


def test_a_broken_document_closes_its_namespace_and_is_told(tmp_path: Path) -> None:
    """As in a sidecar at its first load."""
    text = (MESHES / "identities" / "mesh.yaml").read_text()
    (tmp_path / "mesh.yaml").write_text(text.replace("port: 80", "port: eighty-thousand-or-so"))
    cases = MESHES.parent / "cases" / "identities.yaml"
    ran = run("test", str(cases), "--mesh", str(tmp_path), "-o", "json")
    said = json.loads(ran.stdout)
    assert ran.exit_code == 1
    assert {each["got"]["verdict"] for each in said["cases"]} == {"invalid"}
    assert "spec.port" in ran.stderr
    ran = run("lint", "--mesh", str(tmp_path), "-o", "json")
    assert [each["path"] for each in json.loads(ran.stdout)["problems"]] == ["spec.port"]


def test_diff_says_whose_access_changes() -> None:
    """Who loses, who gains, what stays silent; equal directories are exit 0."""
    ran = run("diff", str(MESHES / "identities"), str(MESHES / "server-deny"), "-o", "json")
    said = json.loads(ran.stdout)
    assert (ran.exit_code, said["lost"], said["gained"]) == (1, 1, 0)
    assert [(each["to"], each["request"], each["before"], each["after"]) for each in
            said["changes"]] == [("app/web:80", "everything", "allow", "deny")]  # fmt: skip
    assert said["changes"][0]["caller"].startswith("cli.app.")
    back = run("diff", str(MESHES / "server-deny"), str(MESHES / "identities"))
    assert "deny → allow  cli.app." in back.stdout
    same = run("diff", str(MESHES / "route"), str(MESHES / "route"), "-o", "short")
    assert (same.exit_code, same.stdout) == (0, "0 gain access, 0 lose it, 0 differ in all\n")
    routed = run("diff", str(MESHES / "route-without-policy"), str(MESHES / "route"), "-o", "json")
    assert ("app/web:80", "GET /a") in {
        (each["to"], each["request"]) for each in json.loads(routed.stdout)["changes"]
    }


def test_audit_says_who_would_be_refused() -> None:
    """From the directory; one policy can be asked for, and must be in audit mode."""
    ran = run("audit", "--mesh", str(MESHES / "audit-mode"), "-o", "json")
    said = {each["name"]: each for each in json.loads(ran.stdout)["policies"]}
    assert ran.exit_code == 1
    assert [each["caller"] for each in said["denied"]["refused"]] == [
        "other.ext.serviceaccount.identity.linkerd.cluster.local"
    ]
    assert not any(each["caller"].startswith("cli.app.") for each in said["tried"]["refused"])
    only = run("audit", "--mesh", str(MESHES / "audit-mode"), "--policy", "app/denied")
    assert "DenyPolicy app/denied: if enforced, 1 of the known callers" in only.stdout
    assert "app/tried" not in only.stdout
    none = run("audit", "--mesh", str(MESHES / "route"))
    assert (none.exit_code, none.stdout) == (0, "no policy is in audit mode\n")
    wrong = run("audit", "--mesh", str(MESHES / "route"), "--policy", "app/on-r")
    assert isinstance(wrong.exception, ConfigError)


METRICS = b"""# TYPE pillion_inbound_audit_allow_total counter
pillion_inbound_audit_allow_total{authz_kind="authorizationpolicy",authz_name="tried",tls="true",client_id="a.b"} 96169
# TYPE pillion_inbound_audit_deny_total counter
pillion_inbound_audit_deny_total{authz_kind="authorizationpolicy",authz_name="tried",tls="true",client_id="c.d"} 38
pillion_inbound_audit_deny_total{authz_kind="authorizationpolicy",authz_name="tried",tls="no_identity"} 3
pillion_inbound_audit_deny_total{authz_kind="authorizationpolicy",authz_name="unknown"} 9
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1
"""  # noqa: E501 - as a sidecar writes it


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with the metrics."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(METRICS)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Be quiet."""


@pytest.fixture
def page() -> Iterator[str]:
    """Serve the metrics."""
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


def test_audit_reads_what_sidecars_counted(page: str, tmp_path: Path) -> None:
    """Over HTTP and from a file; several sidecars add up."""
    (tmp_path / "metrics").write_bytes(METRICS)
    arguments = ("audit", "--mesh", str(MESHES / "audit-alone"))
    metrics = ("--metrics", page, "--metrics", str(tmp_path / "metrics"))
    ran = run(*arguments, *metrics, "-o", "json")
    (said,) = json.loads(ran.stdout)["policies"]
    assert ran.exit_code == 1
    assert said["seen"] == {
        "allowed": {"a.b": 192_338},
        "denied": {"c.d": 76, "without identity (no_identity)": 6},
    }
    table = run(*arguments, *metrics).stdout
    assert "seen      82 of 192420 would be refused" in table
    missing = run(*arguments, "--metrics", str(tmp_path / "none"))
    assert isinstance(missing.exception, ConfigError)


@pytest.mark.parametrize(
    ("case", "paths"),
    [
        ("text", [":1: wanted a list"]),
        ("- text", [":1: wanted a map"]),
        ("- {}", ["name: is missing", "when: is missing", "expect: is missing"]),
        (
            (
                "- {name: a, given: {client: {ip: x, identity: 'a b'}}, when: {to: web:80},"
                " expect: {verdict: alow}}"
            ),
            [
                "given.client.ip:",
                "given.client.identity:",
                "when.to: wanted NAMESPACE/POD:PORT",
                "did you mean allow?",
            ],
        ),
        (
            "- {name: a, given: {client: {tls: mesh}}, when: {to: a/b:1, path: /}, expect: {}}",
            ["given.client.tls: mesh wants an identity", "when.path: belongs to a request"],
        ),
        (
            (
                "- {name: a, given: {client: {identity: a.b, tls: none}},"
                " when: {to: a/b:1, method: get, repeat: 0}, expect: {verdict: allow, stat: 1}}"
            ),
            [
                "given.client.tls: none and an identity",
                "when.method: get is written GET",
                "when.repeat:",
                "expect.stat: is no field",
            ],
        ),
        (
            f"- {{name: a, when: {{to: a/b:1, repeat: {MAX_REPEAT + 1}}}, expect: {{status: x}}}}",
            ["when.repeat:", "expect.status:"],
        ),
        (
            "- {name: a, when: {to: app/web:80}, expect: {status: null}, extra: 1}",
            ["extra: is no field"],
        ),
        (
            "- {name: a, when: {to: app/wep:80}, expect: {status: null}}",
            ["no pod app/wep: did you mean app/web?"],
        ),
        ("[", ["is not YAML"]),
    ],
)
def test_mistakes_in_cases_are_told_at_once(case: str, paths: list[str], tmp_path: Path) -> None:
    """By file, line and field; exit 2 is the command's, which prints each."""
    path = tmp_path / "cases.yaml"
    path.write_text(case)
    ran = run("test", str(path), "--mesh", str(MESHES / "route"))
    assert isinstance(ran.exception, ConfigError)
    said = "\n".join(ran.exception.problems)
    assert [each for each in paths if each not in said] == []
    assert all(str(path) in each for each in ran.exception.problems)


@pytest.mark.parametrize(
    ("tls", "verdict"), [("", "deny"), ("no-identity", "allow"), ("none", "deny")]
)
def test_what_the_client_s_connection_is_may_stand_at_either_place(
    tls: str, verdict: str, tmp_path: Path
) -> None:
    """Beside the client or in it; without address and identity it is plaintext from inside."""
    mesh = str(MESHES / "server-authorization-tls")
    for given in (f"{{tls: {tls}}}", f"{{client: {{tls: {tls}}}}}"):
        path = tmp_path / "cases.yaml"
        path.write_text(
            f"- name: one\n  given: {given if tls else '{}'}\n"
            f"  when: {{to: app/web:80, method: GET}}\n  expect: {{verdict: {verdict}}}\n"
        )
        assert run("test", str(path), "--mesh", mesh).exit_code == 0


@pytest.mark.parametrize(
    ("text", "is_target"),
    [
        ("a/b:80", True),
        ("a/b:0", False),
        ("a/b:65536", False),
        ("a/b:065", True),
        ("a/b", False),
        ("/b:80", False),
        ("a/:80", False),
        ("ab:80", False),
        ("a/b:x", False),
    ],
)
def test_targets(text: str, is_target: bool) -> None:
    """Namespace, pod and port."""
    assert (parse_target(text) is not None) is is_target


def test_a_survey_asks_for_every_kind_of_request() -> None:
    """A request for each match, one that needs no match, and the connection where it may be."""
    matches: tuple[HttpMatch | GrpcMatch, ...] = (
        HttpMatch(path=PathMatch(PathMatchKind.PREFIX, "/a"), method="PUT"),
        HttpMatch(path=PathMatch(PathMatchKind.REGEX, "/v[0-9]+")),
        HttpMatch(path=PathMatch(PathMatchKind.REGEX, "/v/[0-9]")),
        HttpMatch(headers=(HeaderMatch("X", "1"),), query=(QueryMatch("q", "2"),)),
    )
    route = InboundRoute(
        metadata=default_metadata("r"),
        hosts=(HostMatch("app", is_suffix=True),),
        rules=(InboundRule(matches=matches),),
    )
    policy = ServerPolicy(metadata=default_metadata("s"), routes=(route,))
    assert [each.name for each in asks_of(policy)] == [
        "connection",
        "PUT any.app/a",
        "GET any.app/v1",
        "GET any.app/v/1",
        "GET any.app/?q=2 x:1",
        "GET /somewhere-else",
    ]
    grpc = ServerPolicy(
        metadata=default_metadata("s"),
        protocol=Protocol.GRPC,
        routes=(
            InboundRoute(
                metadata=default_metadata("r"),
                rules=(InboundRule(matches=(GrpcMatch(service="svc.S"),)),),
            ),
        ),
    )
    assert [each.name for each in asks_of(grpc)] == ["POST /svc.S/Any", "POST /somewhere-else"]
    assert [each.name for each in asks_of(ServerPolicy(
        metadata=default_metadata("s"), protocol=Protocol.OPAQUE
    ))] == ["connection"]  # fmt: skip

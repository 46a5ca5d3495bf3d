"""``pillion check``: claims about real directories, authorities and ports, and their showing."""

from __future__ import annotations

import ast
import json
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from click.testing import Result as Ran

from cli.check import host
from cli.check.finding import MAX_SEEN, Check, Finding, Result, bad, good
from cli.check.holder import listening_ports
from cli.check.host import clock_status, machine_checks, port_checks
from cli.check.identity import AuthorityChecks, WorkloadChecks, issuer_check
from cli.check.mesh import MeshChecks
from cli.check.subject import Subject
from cli.main import pillion
from core.errors import IdentityError
from discovery.model import Address
from tests.authority import mk_mesh
from tools.pages import ROOT

GOOD_MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {linkerd.io/inject: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop}
spec: {serviceAccountName: web, containers: [{name: web, image: web}]}
status: {podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: plain-0, namespace: shop, annotations: {linkerd.io/inject: disabled}}
spec: {containers: [{name: web, image: web}]}
status: {podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: new-0, namespace: shop}
spec: {serviceAccountName: web, containers: [{name: web, image: web}]}
"""
DANGLING = """
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: missing}
  requiredAuthenticationRefs: []
"""
DAY = 86_400.0


def found(checks: Iterable[Check]) -> dict[str, Finding]:
    """Run checks; return name → finding."""
    return {check.name: check.run() for check in checks}


def mk_dir(path: Path, **files: str) -> Path:
    """Write a mesh directory that every user may read."""
    path.mkdir()
    for name, text in files.items():
        (path / f"{name}.yaml").write_text(text)
        (path / f"{name}.yaml").chmod(0o644)
    path.chmod(0o755)
    return path


def _mesh_checks(path: Path, who: str = "shop/web-0") -> dict[str, Finding]:
    namespace, _, name = who.partition("/")
    return found(MeshChecks(path, (namespace, name), time.time()))


# The mesh directory


def test_a_mesh_directory_that_is_in_order(tmp_path: Path) -> None:
    """Every claim holds, and says what it saw."""
    seen = _mesh_checks(mk_dir(tmp_path / "mesh", all=GOOD_MESH))
    assert {finding.result for finding in seen.values()} == {Result.GOOD}
    assert "4 objects" in seen["mesh-readable"].seen[0]
    assert "web.shop.serviceaccount" in seen["mesh-pod"].seen[0]


@pytest.mark.parametrize(
    ("files", "who", "name", "result", "said"),
    [
        ({"all": "kind: {"}, "shop/web-0", "mesh-clean", Result.BAD, "all.yaml:"),
        ({"all": "kind: {"}, "shop/web-0", "mesh-clean", Result.BAD, "closes the ports of every"),
        (
            {"all": GOOD_MESH, "two": GOOD_MESH},
            "shop/web-0",
            "mesh-clean",
            Result.WARNING,
            "two.yaml",
        ),
        ({"all": GOOD_MESH, "more": DANGLING}, "shop/web-0", "mesh-policies", Result.WARNING, "no"),
        ({"all": GOOD_MESH}, "shop/wbe-0", "mesh-pod", Result.BAD, "did you mean shop/web-0?"),
        ({"all": GOOD_MESH}, "shop/plain-0", "mesh-pod", Result.BAD, "it is not meshed"),
        ({"all": GOOD_MESH}, "shop/new-0", "mesh-pod", Result.BAD, "it has no address"),
    ],
)
def test_what_is_wrong_in_a_mesh_directory_is_named(
    tmp_path: Path, files: dict[str, str], who: str, name: str, result: Result, said: str
) -> None:
    """With a remedy, and without hiding the checks after it."""
    finding = _mesh_checks(mk_dir(tmp_path / "mesh", **files), who)[name]
    assert finding.result is result
    assert any(said in line for line in finding.seen), finding.seen
    assert finding.remedy


def test_a_mesh_directory_that_is_not_there_or_closed(tmp_path: Path) -> None:
    """Nothing else is looked at where there is nothing to read."""
    assert list(_mesh_checks(tmp_path / "none")) == ["mesh-readable"]
    (tmp_path / "file").touch()
    assert _mesh_checks(tmp_path / "file")["mesh-readable"].result is Result.BAD
    mesh = mk_dir(tmp_path / "mesh", all=GOOD_MESH)
    (mesh / "all.yaml").chmod(0o640)
    finding = _mesh_checks(mesh)["mesh-readable"]
    assert finding.result is Result.WARNING
    assert "all.yaml is closed to the sidecar's user" in finding.seen[0]


# Identities


def test_an_authority_that_is_in_order(tmp_path: Path) -> None:
    """It can issue, for a good while, and keeps its keys to itself."""
    mesh = mk_mesh(tmp_path / "authority")
    seen = found(AuthorityChecks(mesh.authority.directory, time.time()))
    assert {finding.result for finding in seen.values()} == {Result.GOOD}
    assert list(seen) == ["authority-issues", "authority-lasts", "authority-private"]


@pytest.mark.parametrize(
    ("days", "issues", "lasts"),
    [
        (300, Result.GOOD, Result.GOOD),
        (320, Result.GOOD, Result.WARNING),
        (364, Result.GOOD, Result.WARNING),
        (366, Result.BAD, Result.BAD),
    ],
)
def test_an_issuer_is_warned_about_60_days_before_its_end(
    tmp_path: Path, days: float, issues: Result, lasts: Result
) -> None:
    """It lives for a year; afterwards it issues nothing."""
    mesh = mk_mesh(tmp_path / "authority")
    seen = found(AuthorityChecks(mesh.authority.directory, time.time() + days * DAY))
    assert seen["authority-issues"].result is issues
    assert seen["authority-lasts"].result is lasts
    if lasts is not Result.GOOD:
        assert "identity.linkerd.cluster.local" in seen["authority-lasts"].seen[0]
        assert seen["authority-lasts"].remedy == "pillion identity rotate"


@pytest.mark.parametrize("name", ["issuer.key", "root.key", "token-secret"])
def test_a_secret_that_others_may_read_is_named(tmp_path: Path, name: str) -> None:
    """Whichever it is."""
    mesh = mk_mesh(tmp_path / "authority")
    (mesh.authority.directory / name).chmod(0o640)
    finding = found(AuthorityChecks(mesh.authority.directory, time.time()))["authority-private"]
    assert finding.result is Result.BAD
    assert f"{name} has mode 0640" in finding.seen[0]


def test_no_authority_at_all(tmp_path: Path) -> None:
    """What is not there is not taken apart further."""
    seen = found(AuthorityChecks(tmp_path / "none", time.time()))
    assert {name: finding.result for name, finding in seen.items()} == {
        "authority-issues": Result.BAD
    }


def test_an_issuer_s_socket(tmp_path: Path) -> None:
    """Somebody listens, or it says how to start one."""
    path = tmp_path / "issuer.sock"
    assert issuer_check(path).run().result is Result.BAD
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert issuer_check(path).run().result is Result.BAD
        listener.listen()
        assert issuer_check(path).run().result is Result.GOOD


def _break_anchors(directory: Path) -> None:
    (directory / "anchors" / "cluster.local.pem").write_text("nothing")


def _half_break_anchors(directory: Path) -> None:
    (directory / "anchors" / "west.example.pem").write_text("-----BEGIN CERTIFICATE-----\nx")


def _open_key(directory: Path) -> None:
    (directory / "key.pem").chmod(0o644)


def _end_leaf(directory: Path) -> None:
    mesh = mk_mesh(directory / "elsewhere")
    issued = mesh.leaf(
        mesh.identity("shop/web"), directory / "leaf", now=time.time() - 10, lifetime_s=5, skew_s=0
    )
    (directory / "chain.pem").write_text(ssl.DER_cert_to_PEM_cert(issued.leaf))


@pytest.mark.parametrize(
    ("harm", "name", "result", "said"),
    [
        (lambda _: None, "identity-anchors", Result.GOOD, "1 in "),
        (lambda _: None, "identity-private", Result.GOOD, ""),
        (_break_anchors, "identity-anchors", Result.BAD, "no usable trust anchor"),
        (_half_break_anchors, "identity-anchors", Result.WARNING, "west.example"),
        (_open_key, "identity-private", Result.BAD, "key.pem has mode 0644"),
        (_end_leaf, "identity-leaf", Result.BAD, "expired"),
    ],
)
def test_a_workload_s_directory(
    tmp_path: Path, harm: Callable[[Path], None], name: str, result: Result, said: str
) -> None:
    """Anchors of its own domain, a key of its own, and a leaf in force where there is one."""
    mesh = mk_mesh(tmp_path / "authority")
    directory = tmp_path / "web"
    mesh.leaf(mesh.identity("shop/web"), directory)
    shutil.copytree(mesh.authority.anchors, directory / "anchors")
    harm(directory)
    finding = found(WorkloadChecks(directory, "cluster.local", time.time()))[name]
    assert finding.result is result
    assert said in " ".join(finding.seen)


# The machine


def test_the_holder_of_a_port_is_named() -> None:
    """By program and process, so that it can be ended."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert re.fullmatch(r".+ \(pid \d+\)", listening_ports()[port])
        assert port in listening_ports(at="127.0.0.1")
        assert port not in listening_ports(at="127.0.0.2")
        subject = Subject(now=0, is_before=True, inbound_port=port, outbound_port=1)
        finding = found(port_checks(subject))["ports-free"]
        assert finding.result is Result.BAD
        assert finding.seen[0].startswith(f"{port}: ")
        after = Subject(now=0, is_before=False, inbound_port=port, outbound_port=1)
        finding = found(port_checks(after))["ports-open"]
        assert finding.result is Result.BAD
        assert f"nobody listens on 1, {after.admin.port}" in finding.seen[0]
    with socket.create_server(("::", 0), family=socket.AF_INET6) as listener:
        assert listener.getsockname()[1] in listening_ports(at="127.0.0.2")
    assert port not in listening_ports()


def test_ports_that_are_free_or_open_as_they_should_be() -> None:
    """Free before the sidecar starts, open afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        same = Address("127.0.0.1", port)
        after = Subject(now=0, is_before=False, inbound_port=port, outbound_port=port, admin=same)
        assert found(port_checks(after))["ports-open"].result is Result.GOOD
    before = Subject(now=0, is_before=True, inbound_port=port, outbound_port=port, admin=same)
    assert found(port_checks(before))["ports-free"].seen == (str(port),)


@pytest.mark.parametrize(
    ("status", "result"),
    [(0x2001, Result.GOOD), (0x40, Result.WARNING), (None, Result.WARNING)],
)
def test_the_clock(monkeypatch: pytest.MonkeyPatch, status: int | None, result: Result) -> None:
    """A clock that nothing keeps in step is worth a word."""
    monkeypatch.setattr(host, "clock_status", lambda: status)
    assert found(machine_checks())["clock"].result is result


def test_the_kernel_says_whether_its_clock_is_kept() -> None:
    """A few bits, whichever they are here."""
    status = clock_status()
    assert status is None or 0 <= status < 0x10000


@pytest.mark.parametrize(("connections", "result"), [(999, Result.WARNING), (1000, Result.GOOD)])
def test_few_descriptors(monkeypatch: pytest.MonkeyPatch, connections: int, result: Result) -> None:
    """Below a thousand connections it says which bound it is."""
    monkeypatch.setattr(host, "affordable_connections", lambda: connections)
    assert found(machine_checks())["descriptors"].result is result


# How it is shown


def _raise(error: Exception) -> Finding:
    raise error


def test_what_cannot_be_found_out_is_an_error_with_its_reason() -> None:
    """Never a traceback, never "failed" alone."""
    for error in (IdentityError("lost"), PermissionError(13, "Permission denied")):
        finding = Check("x", "y", lambda error=error: _raise(error)).run()  # type: ignore[misc]
        assert finding.result is Result.BAD
        assert str(error) in finding.seen


@pytest.mark.parametrize(("count", "lines"), [(MAX_SEEN, MAX_SEEN), (MAX_SEEN + 1, MAX_SEEN + 1)])
def test_the_details_of_a_check_have_a_bound(count: int, lines: int) -> None:
    """At the bound all are shown; one past it the last line says how many are left."""
    finding = bad(*(f"line {number}" for number in range(count)), remedy="none")
    assert len(finding.seen) == lines
    assert (finding.seen[-1] == "and 1 more") == (count > MAX_SEEN)
    assert good().seen == ()


def check(*arguments: str, **environment: str) -> Ran:
    """Run the command without settings but these."""
    clean = dict.fromkeys(("PILLION_MESH_DIR", "PILLION_POD"), None)
    return CliRunner().invoke(pillion, ["check", *arguments], env={**clean, **environment})


def test_the_table_says_what_was_seen_what_helps_and_where_to_read_on(tmp_path: Path) -> None:
    """Each line that is not good."""
    ran = check("--pre", "--mesh", str(mk_dir(tmp_path / "mesh", all="kind: {")))
    assert ran.exit_code == 1
    assert "\n× every document in it can be used\n    /" in ran.stdout
    assert "\n    try  mend or remove the documents that are named\n" in ran.stdout
    assert "\n    see  docs/check.md#mesh-clean\n" in ran.stdout
    assert ran.stdout.endswith("Status check results are ×\n")


def test_json_has_the_shape_that_linkerd_s_users_know(tmp_path: Path) -> None:
    """And everything else beside it."""
    mesh = mk_dir(tmp_path / "mesh", all="kind: {")
    ran = check("--pre", "--mesh", str(mesh), "-o", "json")
    data = json.loads(ran.stdout)
    assert data["success"] is False
    (category,) = [each for each in data["categories"] if each["categoryName"] == "mesh"]
    by_name = {each["name"]: each for each in category["checks"]}
    assert by_name["mesh-readable"]["result"] == "success"
    assert by_name["mesh-readable"]["error"] == ""
    assert by_name["mesh-clean"]["result"] == "error"
    assert by_name["mesh-clean"]["hint"] == "docs/check.md#mesh-clean"
    assert "all.yaml" in by_name["mesh-clean"]["error"]
    assert by_name["mesh-clean"]["remedy"]


def test_short_says_only_what_is_not_good(tmp_path: Path) -> None:
    """A line each."""
    mesh = mk_dir(tmp_path / "mesh", all="kind: {")
    lines = check("--pre", "--mesh", str(mesh), "-o", "short").stdout.splitlines()
    assert any(line.startswith("error mesh-clean: ") for line in lines)
    assert not any("mesh-readable" in line for line in lines)


def test_the_sidecar_s_settings_are_read_from_the_environment(tmp_path: Path) -> None:
    """As the sidecar would; their mistakes are a check like any other."""
    mesh = mk_dir(tmp_path / "mesh", all=GOOD_MESH)
    settings = {
        "PILLION_POD": "shop/web-0",
        "PILLION_MESH_DIR": str(mesh),
        "PILLION_IDENTITY_DIR": str(tmp_path / "none"),
    }
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings["PILLION_INBOUND_LISTEN_ADDR"] = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = check("--pre", "-o", "json", **settings)
    checks = {
        each["name"]: each
        for category in json.loads(ran.stdout)["categories"]
        for each in category["checks"]
    }
    assert checks["settings"]["result"] == "success"
    assert checks["mesh-pod"]["result"] == "success"
    assert checks["identity-anchors"]["result"] == "error"
    port = settings["PILLION_INBOUND_LISTEN_ADDR"].rpartition(":")[2]
    assert any(line.startswith(f"{port}: ") for line in checks["ports-free"]["seen"])
    ran = check("--pre", "-o", "short", **{**settings, "PILLION_LGO": "debug"})
    assert "error settings: 'PILLION_LGO' is no setting; did you mean PILLION_LOG?" in ran.stdout


@pytest.mark.parametrize("wrong", [["--as", "web-0"], ["--admin", "4191"], ["--nonsense"], ["x"]])
def test_a_mistake_in_the_arguments_is_no_result(wrong: list[str]) -> None:
    """Exit status 2: nothing was checked."""
    assert check(*wrong).exit_code == 2


def test_every_check_has_its_section_and_every_section_its_check() -> None:
    """With what it claims, and a cure."""
    names = {
        node.args[0].value
        for path in (ROOT / "cli/check").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "Check"
        and isinstance(node.args[0], ast.Constant)
    }
    page = (ROOT / "docs/check.md").read_text()
    sections = dict(re.findall(r"^## (\S+)\n\n(.+?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == names
    assert all("**Cure.** " in text for text in sections.values())

"""deploy/: what is rendered is what lies there, and it is a mesh that sidecars can read.

``UPDATE_GOLDEN=1 pytest tests/unit/inject`` writes deploy/example.yaml anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli import version
from cli.main import pillion
from proxy.config import read_config
from resources.sources.directory import DirectorySource
from tests.conftest import IS_CI, ROOT
from tests.support.kube import written_out

PLAIN = ROOT / "deploy/example.yaml"
GATEWAY = ROOT / "deploy/gateway"
INJECTED = ("api", "web")


def rendered(name: str) -> str | None:
    """Return what kustomize makes of a folder of deploy/; None where kubectl is not."""
    if shutil.which("kubectl") is None:
        return None
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "deploy" / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the objects of a manifest by kind and name."""
    found = [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def test_the_plain_manifest_is_the_example_rendered_and_injected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every character, so that neither is changed alone."""
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    monkeypatch.setattr(version, "_installed", lambda distribution: own)
    given = rendered("example") or PLAIN.read_text()
    result = CliRunner().invoke(pillion, ["inject", "-"], input=given.encode())
    assert result.exit_code == 0, result.output
    if os.environ.get("UPDATE_GOLDEN") and not IS_CI:
        PLAIN.write_text(result.stdout)
    assert result.stdout == PLAIN.read_text()


def test_the_plain_manifest_is_whole() -> None:
    """Sidecars in both workloads, all they mount, and one namespace for everything."""
    found = objects(PLAIN.read_text())
    mounted = {("ConfigMap", "pillion-mesh"), ("ConfigMap", "linkerd-identity-trust-roots")}
    assert mounted <= {*found}
    for name in INJECTED:
        spec = found["Deployment", name]["spec"]["template"]["spec"]
        assert [each["name"] for each in spec["initContainers"]] == [
            "linkerd-init",
            "linkerd-proxy",
        ]
        assert spec["serviceAccountName"] == name
        assert ("ServiceAccount", name) in found
        (projected,) = [each["projected"] for each in spec["volumes"] if "projected" in each]
        assert projected["sources"][0]["secret"]["name"] == f"{name}-tls"
    namespaces = {each["metadata"].get("namespace", "shop") for each in found.values()}
    assert namespaces == {"shop"}


def test_the_mesh_of_a_namespace_can_be_read(tmp_path: Path) -> None:
    """The ConfigMap's files, as a sidecar finds them mounted."""
    for name, text in objects(PLAIN.read_text())["ConfigMap", "pillion-mesh"]["data"].items():
        (tmp_path / name).write_text(text)
    scan = DirectorySource(str(tmp_path)).scan(datetime.now(UTC))
    assert scan.problems == ()
    assert [str(each.meta.key) for each in scan.applied] == ["ConfigMap linkerd/pillion-config"]


def test_the_gateway_has_all_that_it_needs() -> None:
    """As it lies there, and as kustomize renders it where kubectl is."""
    namespace = "linkerd-multicluster"
    plain = (GATEWAY / "gateway.yaml").read_text()
    whole = rendered("gateway")
    if whole is not None:
        assert ("ConfigMap", "pillion-mesh") in objects(whole)
        for each in objects(whole).values():
            assert each["metadata"].get("namespace", namespace) == namespace
    for text in (plain, whole or plain):
        found = objects(text)
        spec = found["Deployment", "linkerd-gateway"]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        fields = {
            "metadata.name": "linkerd-gateway-0",
            "metadata.namespace": namespace,
            "spec.serviceAccountName": spec["serviceAccountName"],
            "status.podIPs": "10.0.0.7",
        }
        variables = written_out(container["env"], fields)
        config = read_config({each["name"]: each["value"] for each in variables})
        annotations = found["Service", "linkerd-gateway"]["metadata"]["annotations"]
        assert annotations["mirror.linkerd.io/gateway-identity"] == config.identity_name
        assert config.grace_period_s < spec["terminationGracePeriodSeconds"]
        security = container["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["allowPrivilegeEscalation"] is False
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 2102)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_gateway_s_policy_can_be_read(tmp_path: Path) -> None:
    """Without a problem, and about its own port."""
    (tmp_path / "policy.yaml").write_text((GATEWAY / "policy.yaml").read_text())
    scan = DirectorySource(str(tmp_path)).scan(datetime.now(UTC))
    assert scan.problems == ()
    assert {each.meta.key.kind for each in scan.applied} == {
        "Server",
        "AuthorizationPolicy",
        "MeshTLSAuthentication",
        "NetworkAuthentication",
    }

"""pillion inject over a corpus of manifests: what comes out, what is said, and that it is undone.

``UPDATE_GOLDEN=1 pytest tests/unit/inject`` writes golden/ anew, to be read before it is kept.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cli import version
from cli.main import pillion
from core.errors import ConfigError
from identity.anchors import parse_roots
from identity.pem import join_pem
from inject.document import read_manifest
from inject.draft import MARK
from inject.patch import Json
from proxy.config import read_config
from tests.authority import mk_mesh
from tests.conftest import IS_CI
from tests.support.kube import written_out

HERE = Path(__file__).parent
MANIFESTS = sorted((HERE / "manifests").iterdir())
CORPUS = pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
PLACES = (
    ("metadata",),
    ("spec", "template", "metadata"),
    ("spec", "jobTemplate", "spec", "template", "metadata"),
)
APP_MOUNTS = {"/var/run/secrets/tokens"}


@pytest.fixture(autouse=True)
def _one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the version still, which stands in images and annotations."""
    monkeypatch.setattr(version, "_installed", lambda distribution: "1.2.3")


def options_of(path: Path) -> list[str]:
    """Return the options that a manifest's first line asks for."""
    first = path.read_text().partition("\n")[0]
    return shlex.split(first.partition("# options:")[2])


def run(verb: str, text: str, *options: str) -> Result:
    """Run a verb on standard input."""
    result = CliRunner().invoke(pillion, [verb, *options, "-"], input=text.encode())
    assert result.exit_code == 0, result.output
    return result


def inject(path: Path) -> Result:
    """Inject one manifest of the corpus."""
    return run("inject", path.read_bytes().decode(), *options_of(path))


def values(text: str) -> list[Json]:
    """Return the documents of a manifest as data."""
    found = [each.value for each in read_manifest("x.json", text.encode())]
    return [each for each in found if each is not None]


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the pods and pod templates of a document."""
    for item in value.get("items") or ():
        yield from pods(item)
    for *owner, metadata in PLACES:
        place = value
        for token in owner:
            place = place.get(token) if isinstance(place, dict) else None
        if isinstance(place, dict) and "containers" in (place.get("spec") or {}):
            yield {"metadata": {}, **place} if place.get(metadata) is None else place


def injected(text: str) -> list[dict[str, Any]]:
    """Return the injected pods of a manifest."""
    found = [pod for value in values(text) for pod in pods(value)]
    return [pod for pod in found if MARK in (pod["metadata"].get("annotations") or {})]


def containers(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a pod's containers of both kinds by name."""
    spec = pod["spec"]
    kinds = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return {each["name"]: each for each in kinds}


def test_the_corpus_is_a_corpus() -> None:
    """At least 30 manifests, most of which are injected."""
    assert len(MANIFESTS) >= 30
    assert sum(bool(injected(inject(path).stdout)) for path in MANIFESTS) >= 25


@CORPUS
def test_golden(path: Path) -> None:
    """Every character that is printed, and every line of the report."""
    result = inject(path)
    for ending, got in (("out", result.stdout), ("report", result.stderr)):
        golden = HERE / "golden" / f"{path.stem}.{ending}"
        if os.environ.get("UPDATE_GOLDEN") and not IS_CI:
            golden.write_bytes(got.encode())
        assert golden.read_bytes().decode() == got, golden.name


@CORPUS
def test_injecting_again_changes_nothing(path: Path) -> None:
    """Idempotent: the second time every pod has its sidecar."""
    once = inject(path).stdout
    again = run("inject", once, *options_of(path))
    assert again.stdout == once
    if injected(once):
        assert "sidecar_already_exists" in again.stderr
        assert ": injected:" not in again.stderr


@CORPUS
def test_uninject_gives_back_an_equal_object(path: Path) -> None:
    """Equal as data, whatever stood there before, null and empty lists included."""
    given = path.read_bytes().decode()
    result = run("uninject", inject(path).stdout)
    before = values(given)
    if "json" in options_of(path):
        before = [{"apiVersion": "v1", "kind": "List", "items": before}]
    assert values(result.stdout) == before
    if not injected(inject(path).stdout):
        assert result.stdout == given


@CORPUS
def test_what_is_printed_reads_the_same_to_another_reader(path: Path) -> None:
    """PyYAML, YAML 1.1 like kubectl's, sees the values that were meant."""
    result = inject(path)
    if path.stem in {"yaml-oddities", "nothing-to-do"}:
        # What is not changed stays as it is written, and PyYAML reads numbers in its own way.
        result = run("inject", run("inject", result.stdout, "-o", "json").stdout)
    read = [each for each in yaml.load_all(result.stdout, Loader=yaml.CSafeLoader) if each]
    assert read == values(result.stdout)


@CORPUS
def test_the_sidecar_passes_the_restricted_profile(path: Path) -> None:
    """Pod Security Standards, restricted; only what sets the rules has capabilities."""
    for pod in injected(inject(path).stdout):
        found = containers(pod)
        sidecar = found["linkerd-proxy"]["securityContext"]
        assert sidecar["allowPrivilegeEscalation"] is False
        assert sidecar["capabilities"] == {"drop": ["ALL"]}
        assert sidecar["runAsNonRoot"] is True
        assert sidecar["runAsUser"] != 0
        assert sidecar["readOnlyRootFilesystem"] is True
        assert sidecar["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"privileged", "procMount"} & {*sidecar}
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        for mount in found["linkerd-proxy"]["volumeMounts"]:
            kinds = {*volumes[mount["name"]]} - {"name"}
            assert kinds <= {"configMap", "emptyDir", "projected", "secret"}
        if "linkerd-init" in found:
            init = found["linkerd-init"]["securityContext"]
            assert init["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}
            assert init["allowPrivilegeEscalation"] is False
            assert init["readOnlyRootFilesystem"] is True


@CORPUS
def test_the_sidecar_takes_its_settings(path: Path) -> None:
    """Every variable is one of its own, with a value that it can read."""
    fields = {
        "metadata.name": "web-0",
        "metadata.namespace": "shop",
        "spec.serviceAccountName": "web",
        "status.podIPs": "10.0.0.7,fd00::7",
    }
    for pod in injected(inject(path).stdout):
        variables = written_out(containers(pod)["linkerd-proxy"]["env"], fields)
        environment = {each["name"]: each["value"] for each in variables}
        if "PILLION_CONTROLLER_ADDR" in environment:
            # There is no controller yet; the rest has to be right all the same.
            with pytest.raises(ConfigError, match="there is no controller yet"):
                read_config(environment)
            del environment["PILLION_CONTROLLER_ADDR"]
            environment["PILLION_MESH_DIR"] = "/mesh"
        config = read_config(environment)
        assert (config.pod_namespace, config.pod_name) == ("shop", "web-0")
        assert config.identity_name.startswith("web.shop.serviceaccount.identity.")
        own = {each["containerPort"] for each in containers(pod)["linkerd-proxy"]["ports"]}
        assert own == {config.inbound_listen.port, config.admin_listen.port}


@CORPUS
def test_the_init_container_s_arguments_are_taken(path: Path) -> None:
    """The command that they are for plans rules for these very ports and this user."""
    for pod in injected(inject(path).stdout):
        init = containers(pod).get("linkerd-init")
        if init is None:
            continue
        arguments = [*init["args"], "--dry-run", "--output", "json"]
        result = CliRunner().invoke(pillion, arguments)
        assert result.exit_code == 0, result.output
        sidecar = containers(pod)["linkerd-proxy"]
        uid = sidecar["securityContext"]["runAsUser"]
        inbound, admin = (str(each["containerPort"]) for each in sidecar["ports"])
        # Each rule as text: where it leads, whom it leaves out.
        said = result.stdout
        assert f"--to-port {inbound}" in said or f"--to-ports {inbound}" in said
        assert f"--uid-owner {uid}" in said
        assert admin in said


def test_roots_in_the_environment_are_a_fallback(tmp_path: Path) -> None:
    """The ConfigMap may be missing then, and the sidecar takes the same roots."""
    mesh = mk_mesh(tmp_path / "authority")
    bundle = tmp_path / "roots.pem"
    bundle.write_bytes(join_pem([mesh.root]))
    text = (HERE / "manifests/deployment.yaml").read_text()
    (pod,) = injected(run("inject", text, "--trust-anchors", str(bundle)).stdout)
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    _, anchors = volumes["pillion-identity"]["projected"]["sources"]
    assert anchors["configMap"]["optional"] is True
    env = {each["name"]: each for each in containers(pod)["linkerd-proxy"]["env"]}
    given = env["PILLION_IDENTITY_TRUST_ANCHORS"]["value"]
    assert parse_roots(given.encode(), "x").roots == {mesh.root}


@CORPUS
def test_the_rest_of_the_pod_is_as_it_was(path: Path) -> None:
    """Other containers and volumes keep their order and values; explicit capture adds variables."""
    ours = {"linkerd-proxy", "linkerd-init"}
    for pod in injected(inject(path).stdout):
        text = run("uninject", yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", **pod})).stdout
        (before,) = values(text)
        assert isinstance(before, dict)
        others = {name: each for name, each in containers(pod).items() if name not in ours}
        was = containers(before)
        assert [*others] == [*was]
        for name, container in others.items():
            env = [
                each for each in container.get("env") or () if each in (was[name].get("env") or ())
            ]
            plain = {**container, "env": env or was[name].get("env")}
            assert {k: v for k, v in plain.items() if v is not None} == {
                k: v for k, v in was[name].items() if v is not None
            }

"""pillion inject and uninject refuse what they cannot do: every mistake, exit 2, not a byte out."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main, pillion
from core.errors import ConfigError
from inject.document import MAX_BYTES, MAX_FILES
from inject.draft import MARK, MAX_MARK_BYTES
from inject.facts import MAX_CONTAINERS
from inject.settings import MAX_APP_PORTS
from inject.workload import MAX_DEPTH
from resources.document import MAX_DOCUMENTS

GOOD = """
apiVersion: v1
kind: Pod
metadata: {name: good, annotations: {pillion.dev/identity-secret: good}}
spec: {containers: [{name: web, image: web}]}
---
"""


def pod(annotations: str = "", spec: str = "containers: [{name: web, image: web}]") -> str:
    """Return a Pod's manifest, its Secret named."""
    marks = "{pillion.dev/identity-secret: tls" + (f", {annotations}" if annotations else "") + "}"
    meta = f"metadata: {{name: web, annotations: {marks}}}"
    return f"apiVersion: v1\nkind: Pod\n{meta}\nspec: {{{spec}}}\n"


def config(name: str, value: str) -> str:
    """Return a Pod's manifest with one of Linkerd's annotations."""
    return pod(f"config.linkerd.io/{name}: '{value}'")


def templated(version: str, kind: str) -> str:
    """Return an object with a pod template."""
    spec = "spec: {template: {spec: {containers: [{name: a}]}}}"
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: web}}\n{spec}\n"


CASES = {
    "labels as a list": (pod().replace("{name: web, ann", "{labels: [], ann"), "labels: wanted a"),
    "no YAML": ("a: [", "is not YAML"),
    "a tab": ("a:\n\tb: c", "is not YAML"),
    "no text": (b"\xff\xfe\x00", "is not UTF-8"),
    "nothing": ("", "holds no document"),
    "comments alone": ("# nothing\n", "holds no document"),
    "no object": ("- a\n- b\n", "is no object"),
    "no kind": ("apiVersion: v1\nmetadata: {name: x}", "has no kind and apiVersion"),
    "no version": ("kind: Pod", "has no kind and apiVersion"),
    "a mistyped kind": (
        templated("apps/v1", "Deploymet"),
        "(Deploymet), and has a pod template; did you mean Deployment?",
    ),
    "another group's kind": (
        templated("argoproj.io/v1alpha1", "Rollout"),
        "is of a kind that is not known here (Rollout)",
    ),
    "a Deployment of another group": (
        templated("example.org/v1", "Deployment"),
        "is of a kind that is not known here (Deployment), and has a pod template",
    ),
    "a key twice": (pod() + "kind: Pod\n", "kind: is given twice"),
    "no containers": (pod(spec="containers: []"), "wanted at least one container"),
    "no spec": ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}", "at least one container"),
    "no template": ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}", "at least one"),
    "containers as a map": (pod(spec="containers: {web: {}}"), "containers: wanted a list of maps"),
    "a nameless container": (pod(spec="containers: [{image: x}]"), "containers[0].name: wanted a"),
    "a port that is none": (
        pod(spec="containers: [{name: a, ports: [{containerPort: 65536}]}]"),
        "ports[0].containerPort: wanted a port",
    ),
    "a port in quotes": (
        pod(spec="containers: [{name: a, ports: [{containerPort: '80'}]}]"),
        "ports[0].containerPort: wanted a number",
    ),
    "an annotation without quotes": (
        pod("config.linkerd.io/admin-port: 5191"),
        "metadata.annotations.config.linkerd.io/admin-port: wanted a string; quote it",
    ),
    "our container's name": (
        pod(spec="containers: [{name: linkerd-proxy, image: mine}]"),
        "there is a container linkerd-proxy already, of the image 'mine'",
    ),
    "our init container's name": (
        pod(spec="containers: [{name: a}], initContainers: [{name: linkerd-init, image: i}]"),
        "there is a container linkerd-init already",
    ),
    "our volume's name": (
        pod(spec="containers: [{name: a}], volumes: [{name: pillion-mesh, emptyDir: {}}]"),
        "there is a volume pillion-mesh already",
    ),
    "our port": (
        pod(spec="containers: [{name: a, ports: [{containerPort: 4143}]}]"),
        "container a has port 4143, which is the sidecar's",
    ),
    "our user": (
        pod(spec="containers: [{name: a, securityContext: {runAsUser: 2102}}]"),
        "container a runs as user 2102, the sidecar's own",
    ),
    "our user for the whole pod": (
        pod(spec="securityContext: {runAsUser: 2102}, containers: [{name: a}]"),
        "container a runs as user 2102, the sidecar's own",
    ),
    "no identity": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a}]}",
        "pillion.dev/identity-secret is not set",
    ),
    "data without a group": (
        pod(
            spec="containers: [{name: a, volumeMounts: [{name: d, mountPath: /d}]}], "
            "volumes: [{name: d, persistentVolumeClaim: {claimName: d}}]"
        ),
        "the pod keeps data (d) and has no securityContext.fsGroup",
    ),
    "data of a template without a group": (
        pod(spec="containers: [{name: a, volumeMounts: [{name: d, mountPath: /d}]}]"),
        "the pod keeps data (d) and has no securityContext.fsGroup",
    ),
    "two ports the same": (
        config("inbound-port", "4191"),
        "admin-port and config.linkerd.io/inbound-port are both 4191",
    ),
    "a port of 0": (config("inbound-port", "0"), "wanted a number from 1 to 65535"),
    "a port too far": (config("outbound-port", "65536"), "wanted a number from 1 to 65535"),
    "a user that is root": (config("proxy-uid", "0"), "wanted a number from 1 to"),
    "request above limit": (
        pod("config.linkerd.io/proxy-cpu-request: '2', config.linkerd.io/proxy-cpu-limit: '1500m'"),
        "proxy-cpu-request is 2, more than the 1500m of config.linkerd.io/proxy-cpu-limit",
    ),
    "memory in words": (config("proxy-memory-limit", "64 MB"), "wanted bytes such as 64Mi"),
    "cpu in words": (config("proxy-cpu-limit", "half"), "wanted CPUs such as 500m or 2"),
    "ports in words": (config("skip-inbound-ports", "80,http!"), "has 'http!'; wanted ports"),
    "a subnet with bits": (config("skip-subnets", "10.0.0.1/8"), "wanted a subnet such as"),
    "a duration in words": (config("proxy-inbound-connect-timeout", "soon"), "is not a duration"),
    "a year and more": (config("proxy-outbound-connect-timeout", "366d"), "wanted at most 365d"),
    "a switch in words": (config("proxy-await", "maybe"), "wanted enabled or disabled"),
    "a pull policy": (config("image-pull-policy", "Sometimes"), "wanted one of Always, IfNot"),
    "an image with blanks": (config("proxy-image", "a b"), "wanted an image's name"),
    "variables as a map": (config("proxy-additional-env", "{}"), "wanted a JSON list"),
    "variables without names": (config("proxy-additional-env", "[{}]"), "wanted a JSON list"),
    "draining longer than the kubelet waits": (
        config("shutdown-grace-period", "30s"),
        "the pod is killed after its terminationGracePeriodSeconds, 30",
    ),
    "waiting longer than the kubelet": (
        pod("config.alpha.linkerd.io/proxy-wait-before-exit-seconds: '30'"),
        "the pod is killed after its terminationGracePeriodSeconds, 30",
    ),
    "an unknown capture": (pod("pillion.dev/capture: tproxy"), "wanted one of redirect, explicit"),
    "explicit, with rules": (
        pod("pillion.dev/capture: explicit, config.linkerd.io/skip-inbound-ports: '80'"),
        "skip-inbound-ports is set, and pillion.dev/capture is explicit",
    ),
    "redirected, with other ports": (
        pod("pillion.dev/app-ports: '80:8080'"),
        "pillion.dev/app-ports is set, and pillion.dev/capture is redirect",
    ),
    "application ports that are none": (
        pod("pillion.dev/capture: explicit, pillion.dev/app-ports: '80:0'"),
        "wanted P or P:P' with ports",
    ),
    "an application port twice": (
        pod("pillion.dev/capture: explicit, pillion.dev/app-ports: '80,80:81'"),
        "app-ports is '80:81'; wanted P or P:P' with ports, each P once",
    ),
    "a Secret's name": (
        pod().replace("identity-secret: tls", "identity-secret: 'No Name'"),
        "pillion.dev/identity-secret is 'No Name'; wanted a name",
    ),
    "all of it at once": (
        pod(
            "config.linkerd.io/inbound-port: x, config.linkerd.io/proxy-uid: y",
            "containers: [{name: linkerd-proxy, image: mine}]",
        ),
        "inbound-port is 'x'",
        "proxy-uid is 'y'",
        "there is a container linkerd-proxy already",
    ),
}


def problems(text: str | bytes, *options: str, verb: str = "inject") -> list[str]:
    """Run a verb that fails; return what is wrong. Nothing is printed."""
    data = text if isinstance(text, bytes) else text.encode()
    result = CliRunner().invoke(pillion, [verb, *options], input=data)
    assert isinstance(result.exception, ConfigError), result.output
    assert result.stdout == ""
    return result.exception.problems


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input(case: tuple[str | bytes, *tuple[str, ...]]) -> None:
    """Each mistake is told with its file, and those of one object together."""
    text, *wanted = case
    found = problems(text)
    assert all(any(each in problem for problem in found) for each in wanted), found
    assert all(each.startswith("<stdin>") for each in found)


def test_one_bad_object_withholds_all(tmp_path: Path) -> None:
    """Nothing is half-written: a good object before it, in the same file or another, stays in."""
    assert problems(GOOD + pod("pillion.dev/capture: no"))
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text(f"{GOOD}a: b\n")
    (problem,) = problems("", str(good), str(bad))
    assert problem == f"{bad}:6: a document: has no kind and apiVersion; wanted a Kubernetes object"


def test_the_exit_status_is_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As for every mistake in what was given."""
    with pytest.raises(SystemExit, match="2"):
        main(["inject", str(tmp_path / "missing.yaml")])
    said = capsys.readouterr()
    assert said.out == ""
    assert "missing.yaml: cannot be read: No such file or directory" in said.err


OPTIONS = {
    "namespace": (["--namespace", "Shop!"], "--namespace is 'Shop!'"),
    "control namespace": (["--control-namespace", ""], "--control-namespace is ''"),
    "trust domain": (["--trust-domain", "a..b"], "--trust-domain is 'a..b'"),
    "cluster domain": (["--cluster-domain", "a b"], "--cluster-domain is 'a b'"),
    "config map": (["--mesh-config-map", "A"], "--mesh-config-map is 'A'"),
    "no config map": (["--mesh-config-map", ""], "--mesh-config-map is empty"),
    "secret": (["--identity-secret", "A"], "--identity-secret is 'A'"),
    "controller": (["--controller-address", "a/b"], "--controller-address is 'a/b'"),
    "two identities": (
        ["--controller-address", "a", "--identity-secret", "b"],
        "--controller-address and --identity-secret: an identity has one source",
    ),
}


@pytest.mark.parametrize("case", OPTIONS.values(), ids=OPTIONS)
def test_bad_options(case: tuple[list[str], str]) -> None:
    """Said before a manifest is read."""
    options, wanted = case
    assert any(wanted in each for each in problems(GOOD, *options))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "holds no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be parsed"),
        ("-----BEGIN CERTIFICATE-----\nAAAA", "1 PEM blocks cannot be decoded"),
    ],
)
def test_bad_anchors(tmp_path: Path, text: str, wanted: str) -> None:
    """What a sidecar would not take is refused here."""
    bundle = tmp_path / "roots.pem"
    bundle.write_text(text)
    (problem,) = problems(GOOD, "--trust-anchors", str(bundle))
    assert problem.startswith("--trust-anchors: ")
    assert wanted in problem


def test_a_controller_and_a_secret_conflict() -> None:
    """An identity is the controller's to issue or in a Secret, not both."""
    (problem,) = problems(pod(), "--controller-address", "10.96.0.20")
    assert "with a controller (10.96.0.20) the identity is the controller's to issue" in problem


@pytest.mark.parametrize(
    "mark",
    ["", "{}", "[]", "x", '{"added": {}}', '{"added": [1]}', '{"added": [], "nulls": 3}'],
)
def test_a_mark_that_says_nothing_is_refused(mark: str) -> None:
    """What was added is not guessed."""
    (problem,) = problems(pod(f"{MARK}: '{mark}'"), verb="uninject")
    assert "is not as `pillion inject` writes it" in problem


def test_bounds() -> None:
    """One past each is refused; at it, not."""
    most = "".join(f"{{name: c{number}}}," for number in range(MAX_CONTAINERS))
    assert accepted(pod(spec=f"containers: [{most}]"))
    (problem,) = problems(pod(spec=f"containers: [{most}{{name: more}}]"))
    assert f"has more than {MAX_CONTAINERS} containers" in problem
    many = [f"{{containerPort: {number}}}" for number in range(1, MAX_APP_PORTS + 2)]
    explicit = "pillion.dev/capture: explicit"
    at_most = f"containers: [{{name: a, ports: [{', '.join(many[1:])}]}}]"
    one_more = f"containers: [{{name: a, ports: [{', '.join(many)}]}}]"
    assert accepted(pod(explicit, at_most))
    assert accepted(pod(spec=one_more))
    (problem,) = problems(pod(explicit, one_more))
    assert f"has {MAX_APP_PORTS + 1} ports" in problem
    documents = "---\nkind: X\napiVersion: v1\n"
    count = MAX_DOCUMENTS * MAX_FILES
    assert accepted(documents * count)
    (problem,) = problems(documents * (count + 1))
    assert f"has more than {count} documents" in problem
    filled = GOOD + "#" * (MAX_BYTES - len(GOOD))
    assert accepted(filled)
    (problem,) = problems(f"{filled}#")
    assert f"has more than the {MAX_BYTES} bytes" in problem
    inner = "{apiVersion: v1, kind: X}"
    for _ in range(MAX_DEPTH // 2):
        inner = f"{{apiVersion: v1, kind: List, items: [{inner}]}}"
    assert accepted(inner)
    (problem,) = problems(f"{{apiVersion: v1, kind: List, items: [{inner}]}}")
    assert "nests more than" in problem
    paths = f'{{"added": ["/{"x" * (MAX_MARK_BYTES - 16)}"]}}'
    assert len(paths) == MAX_MARK_BYTES
    assert accepted(pod(f"{MARK}: '{paths}'"), verb="uninject")
    assert problems(pod(f"{MARK}: '{paths} '"), verb="uninject")


def accepted(text: str, verb: str = "inject") -> bool:
    """Whether a verb takes a manifest."""
    return CliRunner().invoke(pillion, [verb], input=text.encode()).exit_code == 0

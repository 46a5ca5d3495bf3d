"""Pods: ports, probes, addresses, readiness."""

from __future__ import annotations

import pytest

from resources.manifest import parse_manifest
from resources.pod import ContainerPort, HttpProbe, Pod


def pod_of(spec: str, status: str = "{podIP: 10.0.0.1}") -> Pod:
    """Return the pod with this spec and status, in flow style."""
    text = f"{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {spec}, status: {status}}}"
    (document,) = parse_manifest("a.yaml", text.encode()).documents
    assert document.problems == ()
    assert isinstance(document.resource, Pod)
    return document.resource


def test_ports_of_all_containers_are_known_by_name_and_number() -> None:
    """Init containers are containers; UDP is not the mesh's."""
    pod = pod_of("""{containers: [
        {name: a, ports: [{containerPort: 8080, name: http}, {containerPort: 53, protocol: UDP}]},
        {name: b, ports: [{containerPort: 9090, name: http, hostPort: 80}]}],
        initContainers: [{name: c, ports: [{containerPort: 4143, name: linkerd-proxy}]}]}""")
    assert pod.ports == (
        ContainerPort(name="http", number=8080),
        ContainerPort(name="http", number=9090, host_port=80),
        ContainerPort(name="linkerd-proxy", number=4143),
    )
    assert pod.numbers_of("http") == (8080, 9090)
    assert pod.numbers_of("grpc") == ()
    assert pod.numbers_of(7) == (7,)


def test_http_probes_have_their_ports_resolved_in_their_own_container() -> None:
    """Query removed, an empty path is ``/``; other probes are not HTTP."""
    pod = pod_of("""{containers: [
        {name: a, ports: [{containerPort: 8080, name: http}],
         livenessProbe: {httpGet: {port: http, path: "/live?full=1"}},
         readinessProbe: {httpGet: {port: 8081}},
         startupProbe: {tcpSocket: {port: 1}}},
        {name: b, livenessProbe: {httpGet: {port: http, path: /other}},
         readinessProbe: {httpGet: {port: 8081, path: x}}}]}""")
    assert pod.probes == (
        HttpProbe(8080, "/live"),
        HttpProbe(8081, "/"),
        HttpProbe(8081, "/x"),
    )


@pytest.mark.parametrize(
    ("status", "is_ready"),
    [
        ("{podIP: 10.0.0.1}", True),
        ("{podIP: 10.0.0.1, conditions: []}", True),
        ("{podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}", True),
        ("{podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]}", False),
        ("{podIP: 10.0.0.1, conditions: [{type: Initialized, status: 'True'}]}", False),
        ("{}", False),
    ],
)
def test_readiness_is_the_condition_or_an_address_without_conditions(
    status: str, is_ready: bool
) -> None:
    """A manifest written by hand has no conditions."""
    assert pod_of("{containers: [{name: a}]}", status).is_ready is is_ready


def test_addresses_and_the_rest() -> None:
    """The first address comes first, and once."""
    pod = pod_of(
        "{containers: [{}], serviceAccountName: web, nodeName: n1, hostname: h, subdomain: s}",
        "{podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], hostIP: 10.9.0.1,"
        " phase: Failed}",
    )
    assert pod.ips == ("10.0.0.1", "fd00::1")
    assert pod.host_ips == ("10.9.0.1",)
    assert (pod.service_account, pod.node_name, pod.hostname, pod.subdomain) == (
        "web",
        "n1",
        "h",
        "s",
    )
    assert pod.is_done


def test_defaults() -> None:
    """Service account ``default``, phase Running."""
    pod = pod_of("{containers: [{name: a}]}", "{}")
    assert (pod.service_account, pod.phase, pod.is_done) == ("default", "Running", False)


def test_a_host_network_pod_has_its_ports_on_the_host() -> None:
    """Kubernetes defaults them so."""
    pod = pod_of("{hostNetwork: true, containers: [{name: a, ports: [{containerPort: 80}]}]}")
    assert pod.ports == (ContainerPort(number=80, host_port=80),)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("{}", "spec.containers"),
        ("{containers: []}", "spec.containers"),
        ("{containers: [{ports: [{}]}]}", "spec.containers[0].ports[0].containerPort"),
        ("{containers: [{livenessProbe: {httpGet: {}}}]}",
         "spec.containers[0].livenessProbe.httpGet.port"),
        ("{containers: [{ports: [{containerPort: 1, protocol: tcp}]}]}",
         "spec.containers[0].ports[0].protocol"),
    ],
)  # fmt: skip
def test_mistakes_are_noted(spec: str, path: str) -> None:
    """A pod whose spec was cut off has no containers."""
    text = f"{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {spec}}}"
    (document,) = parse_manifest("a.yaml", text.encode()).documents
    assert [problem.path for problem in document.problems] == [path]

"""Services: addresses, ports, selector."""

from __future__ import annotations

import pytest

from resources.manifest import parse_manifest
from resources.service import Service, ServicePort


def service_of(spec: str) -> Service:
    """Return the Service with this spec, in flow style."""
    text = f"{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {spec}}}"
    (document,) = parse_manifest("a.yaml", text.encode()).documents
    assert document.problems == ()
    assert isinstance(document.resource, Service)
    return document.resource


def test_ports_have_their_target_and_protocol() -> None:
    """Without target the port itself; UDP beside TCP on one number is left out."""
    service = service_of("""{clusterIP: 10.96.0.1, selector: {app: web}, ports: [
        {port: 80, name: http, targetPort: web, appProtocol: http},
        {port: 53, protocol: UDP}, {port: 53}, {port: 5432, targetPort: 15432}]}""")
    assert service.ports == (
        ServicePort(name="http", port=80, target="web", app_protocol="http"),
        ServicePort(port=53, target=53),
        ServicePort(port=5432, target=15432),
    )
    assert service.port(5432) == service.ports[2]
    assert service.port(81) is None
    assert service.selector == {"app": "web"}


@pytest.mark.parametrize(
    ("spec", "ips"),
    [
        ("{clusterIP: 10.96.0.1}", ("10.96.0.1",)),
        ("{clusterIPs: [10.96.0.1, 'fd00:0::1']}", ("10.96.0.1", "fd00::1")),
        ("{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1]}", ("10.96.0.1",)),
        ("{clusterIP: None}", ()),
        ("{clusterIPs: [None]}", ()),
        ("{clusterIP: None, clusterIPs: [None]}", ()),
        ("{type: ExternalName, externalName: x.example}", ()),
        ("{}", ()),
    ],
)
def test_cluster_addresses(spec: str, ips: tuple[str, ...]) -> None:
    """A headless Service has none."""
    assert service_of(spec).cluster_ips == ips


def test_the_other_fields() -> None:
    """Families, local traffic, not-ready addresses."""
    service = service_of("""{internalTrafficPolicy: Local, publishNotReadyAddresses: true,
        ipFamilies: [IPv6, IPv4], type: NodePort}""")
    assert service.is_local_only
    assert service.publishes_not_ready
    assert service.ip_families == (6, 4)
    assert service.type == "NodePort"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("{type: External}", "spec.type"),
        ("{clusterIP: x}", "spec.clusterIP"),
        ("{clusterIPs: [x]}", "spec.clusterIPs[0]"),
        ("{ipFamilies: [v4]}", "spec.ipFamilies"),
        ("{ports: [{}]}", "spec.ports[0].port"),
        ("{ports: [{port: 1}, {port: 1, name: x}]}", "spec.ports[1].port"),
        ("{ports: [{port: 1, targetPort: 0}]}", "spec.ports[0].targetPort"),
        ("{selector: [a]}", "spec.selector"),
        ("null", "spec"),
    ],
)
def test_mistakes_are_noted(spec: str, path: str) -> None:
    """Each at its field."""
    text = f"{{apiVersion: v1, kind: Service, metadata: {{name: p}}, spec: {spec}}}"
    (document,) = parse_manifest("a.yaml", text.encode()).documents
    assert [problem.path for problem in document.problems] == [path]

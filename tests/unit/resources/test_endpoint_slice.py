"""EndpointSlices: endpoints, ports, hints."""

from __future__ import annotations

import pytest

from resources.endpoint_slice import EndpointSlice, SliceEndpoint, SlicePort
from resources.manifest import parse_manifest

_HEAD = """apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
"""


def slice_of(text: str) -> EndpointSlice:
    """Return the slice with these fields."""
    (document,) = parse_manifest("a.yaml", (_HEAD + text).encode()).documents
    assert document.problems == ()
    assert isinstance(document.resource, EndpointSlice)
    return document.resource


def test_endpoints_and_ports_are_read() -> None:
    """Unknown readiness is ready; a target without namespace is in the slice's own."""
    found = slice_of("""
addressType: IPv4
ports: [{name: http, port: 8080, appProtocol: http}, {port: 53, protocol: UDP}, {name: all}]
endpoints:
- addresses: [10.0.0.1]
  targetRef: {kind: Pod, name: web-0}
  hostname: web-0
  nodeName: n1
  zone: a
  hints: {forZones: [{name: a}, {name: b}]}
- {addresses: [10.0.0.2], conditions: {ready: false}, targetRef: {kind: Pod, namespace: x, name: y}}
- {addresses: [10.0.0.3], conditions: {ready: null}, targetRef: {kind: VM, name: y}}
""")
    assert found.service == "web"
    assert found.ports == (
        SlicePort(name="http", number=8080, app_protocol="http"),
        SlicePort(name="all"),
    )
    assert found.endpoints == (
        SliceEndpoint(
            addresses=("10.0.0.1",),
            hostname="web-0",
            pod=("shop", "web-0"),
            zone="a",
            node_name="n1",
            for_zones=("a", "b"),
        ),
        SliceEndpoint(addresses=("10.0.0.2",), is_ready=False, pod=("x", "y")),
        SliceEndpoint(addresses=("10.0.0.3",)),
    )


def test_a_slice_of_host_names_has_no_endpoints() -> None:
    """There is no address to dial."""
    assert slice_of("{addressType: FQDN, endpoints: [{addresses: [a.example]}]}"[1:-1].replace(
        ", endpoints", "\nendpoints")).endpoints == ()  # fmt: skip


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("endpoints: []", "addressType"),
        ("addressType: ipv4", "addressType"),
        ("addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]", "endpoints[0].addresses"),
        ("addressType: IPv4\nendpoints: [{addresses: []}]", "endpoints[0].addresses"),
        ("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: 3}}]",
         "endpoints[0].conditions.ready"),
        ("addressType: IPv4\nports: [{port: 0}]", "ports[0].port"),
    ],
)  # fmt: skip
def test_mistakes_are_noted(text: str, path: str) -> None:
    """Each at its field."""
    (document,) = parse_manifest("a.yaml", (_HEAD + text).encode()).documents
    assert [problem.path for problem in document.problems] == [path]

"""The mesh's own ConfigMap, and that others do not matter."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from resources.config_map import DEFAULT_CONFIG, ConfigMap, MeshConfig
from resources.manifest import parse_manifest


def config_of(data: str) -> MeshConfig | None:
    """Return the configuration with this data, in flow style."""
    text = (
        "{apiVersion: v1, kind: ConfigMap, "
        f"metadata: {{name: pillion-config, namespace: linkerd}}, data: {data}}}"
    )
    (document,) = parse_manifest("a.yaml", text.encode()).documents
    assert document.problems == ()
    assert isinstance(document.resource, ConfigMap)
    return document.resource.config


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("{}", DEFAULT_CONFIG),
        ("null", DEFAULT_CONFIG),
        ("{clusterName: east}", MeshConfig(cluster_name="east")),
        (
            "{clusterDomain: East.Local}",
            MeshConfig(cluster_domain="east.local", trust_domain="east.local"),
        ),
        ("{trustDomain: mesh.example}", MeshConfig(trust_domain="mesh.example")),
        (
            "{clusterNetworks: '10.0.0.0/8, fd00::/8'}",
            MeshConfig(cluster_networks=(ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        ),
        ("{defaultInboundPolicy: deny}", MeshConfig(default_inbound_policy="deny")),
        (
            "{mirrorNetwork: 198.18.0.0/24}",
            MeshConfig(mirror_network=ip_network("198.18.0.0/24")),
        ),
    ],
)
def test_settings_have_linkerds_defaults(data: str, wanted: MeshConfig) -> None:
    """The trust domain follows the cluster domain."""
    assert config_of(data) == wanted


def test_other_config_maps_are_kept_as_names() -> None:
    """Whatever their data is."""
    text = b"{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: [3]}"
    (document,) = parse_manifest("a.yaml", text).documents
    assert isinstance(document.resource, ConfigMap)
    assert document.resource.config is None


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ("{clusterDomian: x}", "data.clusterDomian"),
        ("{trustDomain: a_/b}", "data.trustDomain"),
        ("{trustDomain: 'spiffe://a'}", "data.trustDomain"),
        ("{clusterNetworks: 10.0.0.1/8}", "data.clusterNetworks"),
        ("{defaultInboundPolicy: allow}", "data.defaultInboundPolicy"),
        ("{clusterName: 3}", "data.clusterName"),
        ("{mirrorNetwork: 198.18.0.1/24}", "data.mirrorNetwork"),
        ("{mirrorNetwork: 198.18.0.0/25}", "data.mirrorNetwork"),
        ("{mirrorNetwork: 127.0.0.0/8}", "data.mirrorNetwork"),
        ("[x]", "data"),
    ],
)
def test_mistakes_are_noted(data: str, path: str) -> None:
    """A mistyped setting must not become its default silently."""
    text = (
        "{apiVersion: v1, kind: ConfigMap, "
        f"metadata: {{name: pillion-config, namespace: linkerd}}, data: {data}}}"
    )
    (document,) = parse_manifest("a.yaml", text.encode()).documents
    assert path in {problem.path for problem in document.problems}

"""Names of Services."""

from __future__ import annotations

import pytest

from discovery.service_name import ServiceName, service_host, try_service_name


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("web.shop.svc.cluster.local", ServiceName("shop", "web")),
        ("Web.Shop.svc.Cluster.Local.", ServiceName("shop", "web")),
        ("web-0.web.shop.svc.cluster.local", ServiceName("shop", "web", "web-0")),
        ("web.shop.svc", ServiceName("shop", "web")),
        ("web-0.web.shop.svc", ServiceName("shop", "web", "web-0")),
        ("web.shop", ServiceName("shop", "web")),
        ("a.b.c.d.svc.cluster.local", None),
        ("shop.svc.cluster.local", None),
        ("web.shop.svc.other.local", None),
        ("a.b.c", None),
        ("web", None),
        ("", None),
        (".shop.svc.cluster.local", None),
        ("we_b.shop.svc.cluster.local", None),
        ("10.0.0.1", None),
    ],
)
def test_hosts_name_services_or_do_not(host: str, wanted: ServiceName | None) -> None:
    """In the cluster's domain, or as a search list would complete it."""
    assert try_service_name(host, "cluster.local") == wanted


def test_the_full_name_names_its_service() -> None:
    """There and back."""
    host = service_host("shop", "web", "east.local")
    assert try_service_name(host, "east.local") == ServiceName("shop", "web")

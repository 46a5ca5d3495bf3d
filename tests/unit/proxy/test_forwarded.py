"""``forwarded`` as a gateway writes and reads it."""

from __future__ import annotations

import pytest

from proxy.gateway.forwarded import authority_of, forwarded, has_passed

GATEWAY = "gateway.mesh.serviceaccount.identity.linkerd.west.example"


def test_it_names_everybody() -> None:
    """In Linkerd's form, word for word."""
    authority = authority_of("api.shop.svc.cluster.local", 8080)
    assert forwarded(GATEWAY, "web.shop.example", authority) == (
        b"forwarded",
        b"by=%b;for=web.shop.example;host=api.shop.svc.cluster.local:8080;proto=https"
        % GATEWAY.encode(),
    )
    assert authority_of("api.shop", 80) == b"api.shop"


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        (f"by={GATEWAY};for=web", True),
        (f"for=web;by={GATEWAY}", True),
        (f'for=web; BY="{GATEWAY.upper()}"', True),
        (f"by=other;for=web, by={GATEWAY};for=x", True),
        (f"for={GATEWAY};by=other", False),
        (f"by={GATEWAY}.more", False),
        (f"by=x{GATEWAY}", False),
        ("", False),
        (";;,=,by", False),
    ],
)
def test_a_loop_is_seen(value: str, passed: bool) -> None:
    """Wherever in the field we stand."""
    fields = ((b"host", b"x"), (b"forwarded", b"by=a"), (b"forwarded", value.encode()))
    assert has_passed(fields, GATEWAY) is passed
    assert not has_passed(((b"x-forwarded", value.encode()),), GATEWAY)

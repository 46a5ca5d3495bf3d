"""Virtual addresses: the same wherever they are worked out, and never two Services on one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as some

from multicluster.address import Claim, allocate

NETWORK = ip_network("198.18.0.0/24")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def claim(name: str, age: int = 0) -> Claim:
    """Return a claim of a Service that was made ``age`` days after the first."""
    return Claim(BEGAN + timedelta(days=age), "shop", name)


def claims(count: int) -> list[Claim]:
    """Return so many claims, each younger than the one before."""
    return [claim(f"svc-{number}", number) for number in range(count)]


def test_an_address_follows_from_the_name() -> None:
    """Nothing else decides, as long as nobody else wants it; the figure must never change."""
    network = ip_network("240.240.0.0/16")
    found = allocate([claim("api-west")], network, ())
    assert found == {("shop", "api-west"): "240.240.126.220"}
    assert (
        allocate([claim("api-west", 9), claim("web-west")], network, ())["shop", "api-west"]
        == (found["shop", "api-west"])
    )


def test_a_full_network_goes_round_to_the_last_address() -> None:
    """254 Services have 254 addresses, the ends of the network unused; one more has none."""
    found = allocate(claims(254), NETWORK, ())
    assert len(set(found.values())) == 254
    assert {"198.18.0.0", "198.18.0.255"}.isdisjoint(found.values())
    assert len(allocate(claims(255), NETWORK, ())) == 254


def test_taken_addresses_are_left_alone() -> None:
    """Those of manifests, wherever they lie."""
    (wanted,) = allocate([claim("a")], NETWORK, ()).values()
    (given_instead,) = allocate([claim("a")], NETWORK, {wanted, "10.0.0.1", "fd00::1"}).values()
    assert given_instead == str(ip_address(wanted) + 1)
    everything = {str(each) for each in NETWORK}
    assert allocate([claim("a")], NETWORK, everything) == {}


@given(some.integers(2, 254), some.randoms(use_true_random=False))
def test_a_younger_service_takes_no_address_away(count: int, order: object) -> None:
    """Whatever the order in which they are told of."""
    every = claims(count)
    before = allocate(every[:-1], NETWORK, ())
    mixed = list(every)
    order.shuffle(mixed)  # type: ignore[attr-defined]
    after = allocate(mixed, NETWORK, ())
    assert {at: ip for at, ip in after.items() if at in before} == before


def test_ipv6() -> None:
    """A network as large as they come."""
    network = ip_network("fd00:240::/64")
    (found,) = allocate([claim("a")], network, ()).values()
    assert ip_address(found) in network

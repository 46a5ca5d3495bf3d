"""bench.place: cores, and addresses of our own."""

from __future__ import annotations

import socket

import pytest

from bench.place import Cores, pick_cores, reserve_addresses


@pytest.mark.parametrize(
    ("usable", "expected", "shared"),
    [({0, 1}, Cores(0, 1), False), ({2, 5, 7}, Cores(2, 7), False), ({3}, Cores(3, 3), True)],
)
def test_load_and_hops_get_the_cores_furthest_apart(
    usable: set[int], expected: Cores, shared: bool
) -> None:
    """With one core they share it, and say so."""
    assert pick_cores(usable) == expected
    assert pick_cores(usable).are_shared is shared


def test_addresses_are_distinct_on_loopback_and_free() -> None:
    """Each can be bound at once."""
    addresses = reserve_addresses(3)
    assert len({address.ip for address in addresses}) == 3
    assert all(address.ip.startswith("127.") for address in addresses)
    for address in addresses:
        with socket.socket() as listener:
            listener.bind((address.ip, address.port))

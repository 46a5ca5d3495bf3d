"""Port lists of annotations."""

from __future__ import annotations

import pytest

from resources.ports import MAX_ENTRIES, PortSet, parse_ports


def numbers_of(name: str) -> tuple[int, ...]:
    """Two containers have a port called ``http``."""
    return {"http": (8080, 9090)}.get(name, ())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", PortSet()),
        ("25", PortSet(((25, 25),))),
        (" 25 , 587,", PortSet(((25, 25), (587, 587)))),
        ("4000-4005", PortSet(((4000, 4005),))),
        ("4000 - 4005", PortSet(((4000, 4005),))),
        ("1,65535", PortSet(((1, 1), (65535, 65535)))),
        ("http,25", PortSet(((25, 25), (8080, 8080), (9090, 9090)))),
        ("grpc", PortSet()),
        ("0", PortSet((), ("0",))),
        ("65536", PortSet((), ("65536",))),
        ("5-4,7", PortSet(((7, 7),), ("5-4",))),
        ("-1,a_b,1.5", PortSet((), ("-1", "a_b", "1.5"))),
    ],
)
def test_numbers_ranges_and_names(text: str, wanted: PortSet) -> None:
    """What says nothing is kept for messages and counts for none."""
    assert parse_ports(text, numbers_of) == wanted


def test_both_ends_of_a_range_are_in_it() -> None:
    """And nothing beside it."""
    ports = parse_ports("10-12", numbers_of)
    assert [port for port in range(8, 15) if port in ports] == [10, 11, 12]
    assert "10" not in ports


def test_entries_past_the_bound_are_not_read() -> None:
    """An annotation may be 256 KiB long."""
    text = ",".join(["1"] * MAX_ENTRIES + ["2"])
    ports = parse_ports(text, numbers_of)
    assert 1 in ports
    assert 2 not in ports

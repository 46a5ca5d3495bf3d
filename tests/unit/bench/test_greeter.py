"""bench.greeter: a server that speaks first, and the rows made of waiting for it."""

from __future__ import annotations

import socket

from bench.greeter import GREETING, Waits, first_byte_rows, greeter
from bench.place import reserve_addresses
from bench.target import Verdict


def test_the_greeter_greets_everybody() -> None:
    """Unasked, one after the other; and is gone at the end."""
    (address,) = reserve_addresses(1)
    with greeter(address):
        for _ in range(2):
            with socket.create_connection((address.ip, address.port), 5) as client:
                assert client.recv(100) == GREETING
    with socket.socket() as late:
        assert late.connect_ex((address.ip, address.port)) != 0


def test_the_first_wait_has_a_target_of_100_ms() -> None:
    """By itself, whatever others take."""
    for first, verdict in ((100.0, Verdict.HOLDS), (100.5, Verdict.MISSES)):
        rows = first_byte_rows({"pillion": [Waits(first, 3.0)], "haproxy": [Waits(5.0, 2.0)]})
        verdicts = [[each.verdict for each in row.judgements] for row in rows]
        assert verdicts == [[verdict], []]

"""The first byte of a server that speaks first, on a port that nobody declared opaque.

A fresh pair of hops each time, so that nothing has been learned of the server: the first client
waits longest. A proxy that looks at no bytes passes the greeting on at once; a mesh that detects
protocols has to find out that nothing will come of the client.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, final

from bench.candidate import Candidate, Stage, start_pair
from bench.figure import figure
from bench.measure import Say
from bench.place import reserve_ports
from bench.result import Row, compare
from bench.target import value
from bench.work import FIRST_BYTE, FIRST_WAIT, LATER_WAIT
from core.errors import UnreachableError
from discovery.model import Address

PASSES: Final = 5
AGAIN: Final = 20
"""Connections once the server is known."""
GREETING: Final = b"220 bench ESMTP\r\n"
TIMEOUT_S: Final = 5.0
MAX_FIRST: Final = value(100.0)
"""ms."""


@final
@dataclass(frozen=True, slots=True)
class Waits:
    """How long the clients of one fresh pair waited for the first byte, connecting included."""

    first_ms: float
    again_ms: float
    """The median of those after it."""


@contextmanager
def greeter(address: Address) -> Iterator[None]:
    """Run a server that greets whoever comes, and closes with its client."""
    with socket.create_server((address.ip, address.port)) as listener:
        thread = threading.Thread(target=_greet, args=(listener,), daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(TIMEOUT_S)


def _greet(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(TIMEOUT_S)
            connection.sendall(GREETING)
            connection.recv(1)


def measure_first_bytes(
    stage: Stage, candidates: Sequence[Candidate], passes: int, say: Say
) -> tuple[list[Row], list[str]]:
    """Measure every candidate ``passes`` times; return the rows and what failed."""
    failures: list[str] = []
    found: dict[str, list[Waits | None]] = {item.name: [] for item in candidates}
    for number in range(passes):
        for candidate in candidates if number % 2 == 0 else candidates[::-1]:
            try:
                one = _measure(candidate, stage)
            except (UnreachableError, OSError) as error:
                failures.append(f"{candidate.name}, first byte: {error}")
                found[candidate.name].append(None)
                continue
            found[candidate.name].append(one)
            say(
                f"pass {number + 1}/{passes}  first byte of a greeter  {candidate.name} "
                f"{figure(one.first_ms)} ms, once known {figure(one.again_ms)} ms"
            )
    return first_byte_rows(found), failures


def first_byte_rows(found: dict[str, list[Waits | None]]) -> list[Row]:
    """Turn the measurements into rows."""
    first = {name: tuple(one and one.first_ms for one in all_) for name, all_ in found.items()}
    again = {name: tuple(one and one.again_ms for one in all_) for name, all_ in found.items()}
    return [
        Row(
            *(FIRST_BYTE, "first byte of a greeter, unheard of", FIRST_WAIT),
            *(compare(first), (MAX_FIRST,)),
        ),
        Row(FIRST_BYTE, "first byte of a greeter, known", LATER_WAIT, compare(again)),
    ]


def _measure(candidate: Candidate, stage: Stage) -> Waits:
    (address,) = reserve_ports(stage.backend.ip, 1)
    with greeter(address):
        pair = start_pair(candidate, replace(stage, backend=address), is_declared=False)
        try:
            first = _first_byte_ms(pair.entry)
            again = statistics.median(_first_byte_ms(pair.entry) for _ in range(AGAIN))
        finally:
            stage.processes.stop(pair.children)
    return Waits(first, again)


def _first_byte_ms(entry: Address) -> float:
    began = time.monotonic()
    with socket.create_connection((entry.ip, entry.port), TIMEOUT_S) as client:
        if not client.recv(1):
            raise UnreachableError(f"{entry} closed without a greeting")
        return (time.monotonic() - began) * 1000

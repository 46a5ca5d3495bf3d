"""Where things run: one core for the load, another for the hops; loopback addresses of our own."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, final

from core.errors import ConfigError
from discovery.model import Address

ATTEMPTS: Final = 20
"""Networks tried before giving up: a taken one is rare, an unusable loopback is not transient."""


@final
@dataclass(frozen=True, slots=True)
class Cores:
    """The two cores of a run, as the kernel numbers them."""

    load: int
    """The load tool, the backend and the harness."""
    hops: int
    """Both hops of every candidate."""

    @property
    def are_shared(self) -> bool:
        """Whether the machine lends us one core only: then the load slows the hops."""
        return self.load == self.hops


def pick_cores(usable: Collection[int]) -> Cores:
    """Take the first and the last core: these are the least likely to be one core's threads."""
    return Cores(min(usable), max(usable))


def reserve_addresses(count: int) -> list[Address]:
    """Find ``count`` free ports on consecutive addresses of a random 127.x.y.0/24.

    The network is random so that two runs at once do not meet. ``count`` is 1 to 254. Raises
    ConfigError when loopback cannot be bound.
    """
    reason: OSError | None = None
    for _ in range(ATTEMPTS):
        network = f"127.{random.randint(16, 254)}.{random.randint(1, 254)}"
        try:
            return [reserve_ports(f"{network}.{host}", 1)[0] for host in range(1, count + 1)]
        except OSError as error:
            reason = error
    raise ConfigError(
        f"no addresses of 127.0.0.0/8 can be bound: {reason}",
        hint="the loopback interface must be up",
    )


def reserve_ports(ip: str, count: int) -> list[Address]:
    """Find ``count`` free ports on an address of ours. Raises OSError."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((ip, 0))
        return [Address(ip, probe.getsockname()[1]) for probe in probes]


def take_precedence() -> bool:
    """Have this process, and what it starts, wait for no ordinary process; False: not allowed.

    On a machine that others use too, what is measured is then its own work, not its turn.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return False
    return True


def pin_to(core: int) -> None:
    """Keep this process, and what it starts, on one core."""
    os.sched_setaffinity(0, {core})

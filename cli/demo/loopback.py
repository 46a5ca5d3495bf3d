"""A cluster on this machine's loopback addresses, for whoever may change nothing about it.

Each pod has an address of 127/8; all of them are in the machine's one network, so nothing can be
captured: programs listen on 127.0.0.1 and go out by their sidecar. Services have addresses that
lead nowhere but through a sidecar.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, final

from cli.demo.host import Host
from cli.demo.pods import Pod
from core.errors import ConfigError

_FIRST_POD: Final = 11
_MAX_PODS: Final = 200
_TRIES: Final = 20
_PROBE_PORT: Final = 4143
_END_S: Final = 5.0
NETWORKS: Final = "127.0.0.0/8,10.0.0.0/8"
"""The mesh's clusterNetworks: addresses elsewhere are taken for the world outside."""


@final
class LoopbackCluster:
    """Pods at addresses of one /24 of 127/8 that nobody else uses now."""

    def __init__(self, rig: LoopbackRig, name: str) -> None:
        self.name: Final = name
        self._rig: Final = rig
        self._prefix: Final = _free_prefix()
        self._pods: Final[dict[str, Pod]] = {}
        self._given = 0

    def address(self) -> str:
        """Return another address of this cluster's."""
        if self._given == _MAX_PODS:
            raise ConfigError(f"cluster {self.name} has given away {_MAX_PODS} addresses")
        self._given += 1
        return f"{self._prefix}.{_FIRST_POD + self._given - 1}"

    def pod(self, name: str) -> Pod:
        """Return the pod called ``name``, made when it is first named."""
        if name not in self._pods:
            self._pods[name] = Pod(self._rig.host(f"{self.name}/{name}"), (self.address(),))
        return self._pods[name]

    def service(self, address: str, port: int, endpoints: Sequence[tuple[str, int]]) -> None:
        """Do nothing: without privileges an address cannot be made to lead elsewhere."""
        del self, address, port, endpoints


@final
class LoopbackRig:
    """Every host of one run. Leaving its ``with`` block ends what runs there."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def host(self, name: str) -> Host:
        """Return a new host, which is this machine."""
        host = Host(name, is_shared=True)
        self._hosts.append(host)
        return host

    def cluster(self, name: str) -> LoopbackCluster:
        """Return a new cluster."""
        return LoopbackCluster(self, name)

    def close(self) -> None:
        """End every program; safe to call again."""
        for host in self._hosts:
            host.ask_to_end()
        deadline = time.monotonic() + _END_S
        with contextlib.ExitStack() as stack:
            for host in self._hosts:
                stack.callback(host.close, deadline)
        self._hosts.clear()


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port of ``address`` that nobody has now, and that no client will be given."""
    chance = random.SystemRandom()
    for _ in range(_TRIES):
        port = chance.randint(10_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind((address, port))
            return port
    raise ConfigError(f"no port of {address} was free, in {_TRIES} tries")


def _free_prefix() -> str:
    chance = random.SystemRandom()
    for _ in range(_TRIES):
        prefix = f"127.{chance.randint(1, 254)}.{chance.randint(0, 255)}"
        try:
            for last in (_FIRST_POD, _FIRST_POD + 1):
                with socket.socket() as sock:
                    sock.bind((f"{prefix}.{last}", _PROBE_PORT))
        except OSError:
            continue
        return prefix
    raise ConfigError(
        f"no address of 127/8 was free at port {_PROBE_PORT}, in {_TRIES} tries",
        hint="another program listens there on all addresses: end it, or run the demo as root",
    )

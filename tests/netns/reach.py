"""How a test's clients and servers stand in their pods: captured by rules, or without them.

Both ways offer the same, so that one suite shows the mesh by either.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, final

from cli.demo.loopback import NETWORKS, LoopbackCluster, LoopbackRig, free_port
from cli.demo.mesh import Mesh
from cli.demo.pods import Cluster, Pod, Rig
from cli.demo.runtime import Runtime, find_runtime, own_runtime
from redirect.options import PROXY_UID
from tests.session.peers import black_hole
from tests.support.processes import wait_until
from tests.support.sockets import connect_in, listener_in
from tests.support.socks import socks_connection

BLACK_HOLE = ("10.99.0.1", "fd00:99::1")
_LOOPBACK = ("127.0.0.1", "::1")


class Reach(Protocol):
    """One way to be a client and a server in a pod."""

    @property
    def rig(self) -> Rig | LoopbackRig:
        """What the pods are made on."""
        ...

    @property
    def cluster(self) -> Cluster | LoopbackCluster:
        """Where the pods are."""
        ...

    @property
    def runtime(self) -> Runtime:
        """What runs the sidecars."""
        ...

    @property
    def networks(self) -> Mapping[str, str]:
        """Settings of the whole mesh."""
        ...

    def settings(self, pod: Pod, ports: Sequence[int]) -> Mapping[str, str]:
        """Return what the sidecar of a pod with these ports is told."""
        ...

    def capture(self, mesh: Mesh, name: str) -> None:
        """Do what has to be done before a pod's sidecar starts."""
        ...

    def connect(self, pod: Pod, address: str, port: int, *, wait_s: float = 10.0) -> socket.socket:
        """Connect from a program in ``pod``; OSError where that is refused."""
        ...

    def app(self, pod: Pod, port: int) -> tuple[str, int]:
        """Return where a program in ``pod`` has to listen, to be its port ``port``."""
        ...

    def listener(self, pod: Pod, port: int) -> socket.socket:
        """Listen in ``pod``."""
        ...

    def probe(self, pod: Pod, port: int) -> socket.socket:
        """Connect to a program in ``pod`` past everything."""
        ...

    def service(self, pod: Pod, address: str, server: Pod) -> str:
        """Return the address by which ``pod`` reaches a Service over ``server``."""
        ...

    def curl(self, pod: Pod) -> Sequence[str]:
        """Return the options that lead curl in ``pod`` into the mesh."""
        ...

    def tunnelled(self, pod: Pod, address: str, port: int) -> tuple[str, int]:
        """Return where a program in ``pod`` that can do nothing special reaches ``address``."""
        ...

    def black_hole(self, family: int) -> AbstractContextManager[tuple[str, int]]:
        """Yield an address that swallows packets."""
        ...

    def held(self, pod: Pod, address: str, port: int) -> socket.socket:
        """Listen in ``pod`` at an address of its own, as another program does."""
        ...

    def own(self, pod: Pod, family: int) -> str:
        """Return an address that takes the sidecar's ports from it."""
        ...


@final
class Captured:
    """Pods of network namespaces, with capture rules."""

    def __init__(self, rig: Rig, place: Path, mode: str) -> None:
        self.rig = rig
        self.cluster = rig.cluster("a")
        self.runtime = find_runtime(PROXY_UID, place)
        self.networks: Mapping[str, str] = {}
        self._mode = mode

    def settings(self, pod: Pod, ports: Sequence[int]) -> Mapping[str, str]:
        """Nothing."""
        del pod, ports
        return {}

    def capture(self, mesh: Mesh, name: str) -> None:
        """Install the rules."""
        mesh.capture(name, "--iptables-mode", self._mode)

    def connect(self, pod: Pod, address: str, port: int, *, wait_s: float = 10.0) -> socket.socket:
        """Connect straight on."""
        return connect_in(pod.host, address, port, wait_s=wait_s)

    def app(self, pod: Pod, port: int) -> tuple[str, int]:
        """Everywhere, on both families."""
        del pod
        return "::", port

    def listener(self, pod: Pod, port: int) -> socket.socket:
        """Listen everywhere."""
        return listener_in(pod.host, *self.app(pod, port))

    def probe(self, pod: Pod, port: int) -> socket.socket:
        """By loopback, which is never captured."""
        return connect_in(pod.host, "127.0.0.1", port)

    def service(self, pod: Pod, address: str, server: Pod) -> str:
        """Its own: the rig has it lead to the pods, as Kubernetes does."""
        del pod, server
        return address

    def curl(self, pod: Pod) -> Sequence[str]:
        """None."""
        del pod
        return ()

    def tunnelled(self, pod: Pod, address: str, port: int) -> tuple[str, int]:
        """The address itself."""
        del pod
        return address, port

    @contextmanager
    def black_hole(self, family: int) -> Iterator[tuple[str, int]]:
        """A route into nowhere."""
        self.cluster.node.must(["ip", "route", "add", "blackhole", BLACK_HOLE[family]])
        yield BLACK_HOLE[family], 80

    def held(self, pod: Pod, address: str, port: int) -> socket.socket:
        """Listen in the namespace."""
        return listener_in(pod.host, address, port)

    def own(self, pod: Pod, family: int) -> str:
        """Everywhere."""
        del pod
        return ("0.0.0.0", "::")[family]


@final
class Uncaptured:
    """Pods at loopback addresses, and programs that speak SOCKS."""

    def __init__(self, rig: LoopbackRig) -> None:
        self.rig = rig
        self.cluster = rig.cluster("a")
        self.runtime = own_runtime()
        self.networks: Mapping[str, str] = {"clusterNetworks": NETWORKS}
        self._inner: dict[tuple[str, int], int] = {}
        self._meshed: set[str] = set()

    def settings(self, pod: Pod, ports: Sequence[int]) -> Mapping[str, str]:
        """Where the application of each port is."""
        self._meshed.add(pod.ip)
        self._inner.update(((pod.ip, port), free_port()) for port in ports)
        app_ports = ",".join(f"{port}:{self._inner[pod.ip, port]}" for port in ports)
        return {"CAPTURE": "explicit", "APP_PORTS": app_ports}

    def capture(self, mesh: Mesh, name: str) -> None:
        """Nothing."""

    def connect(self, pod: Pod, address: str, port: int, *, wait_s: float = 10.0) -> socket.socket:
        """By the pod's sidecar, where it has one; what is its own on loopback, straight on."""
        own = self._inner.get((pod.ip, port))
        if address in _LOOPBACK and own is not None:
            return socket.create_connection((address, own), timeout=wait_s)
        if pod.ip not in self._meshed:
            return socket.create_connection((address, port), wait_s, (pod.ip, 0))
        near, code = socks_connection(pod.ip, address, port)
        if code:
            near.close()
            raise ConnectionRefusedError(f"SOCKS says {code}")
        near.settimeout(wait_s)
        return near

    def app(self, pod: Pod, port: int) -> tuple[str, int]:
        """On loopback, at a port of its own; in a pod without sidecar at the pod's address."""
        inner = self._inner.get((pod.ip, port))
        return (pod.ip, port) if inner is None else (_LOOPBACK[0], inner)

    def listener(self, pod: Pod, port: int) -> socket.socket:
        """Listen there."""
        return socket.create_server(self.app(pod, port))

    def probe(self, pod: Pod, port: int) -> socket.socket:
        """Straight to the program."""
        return socket.create_connection(self.app(pod, port), timeout=10)

    def service(self, pod: Pod, address: str, server: Pod) -> str:
        """Its own by a sidecar; without one nobody leads it anywhere here, but to the pod."""
        return address if pod.ip in self._meshed else server.ip

    def curl(self, pod: Pod) -> Sequence[str]:
        """The sidecar as a proxy."""
        return ("--proxy", f"socks5h://{pod.ip}:4140")

    def tunnelled(self, pod: Pod, address: str, port: int) -> tuple[str, int]:
        """A local port that leads through the sidecar."""
        local = free_port()
        words = ("-m", "cli.demo.tunnel", str(local), pod.ip, address, str(port))
        pod.host.spawn([self.runtime.interpreter, *words], env=self.runtime.environment)

        def listens() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex((_LOOPBACK[0], local)) == 0

        wait_until(listens, seconds=15, what="the tunnel is open")
        return _LOOPBACK[0], local

    @contextmanager
    def black_hole(self, family: int) -> Iterator[tuple[str, int]]:
        """A listener whose queue is full, so that the kernel drops what comes."""
        del family
        with black_hole(self.cluster.address()) as address:
            yield address.ip, address.port

    def held(self, pod: Pod, address: str, port: int) -> socket.socket:
        """Listen on this machine."""
        del pod
        return socket.create_server((address, port))

    def own(self, pod: Pod, family: int) -> str:
        """The pod's own."""
        del family
        return pod.ip

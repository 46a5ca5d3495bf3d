"""Clusters on one machine: pods are network namespaces, each cabled to its cluster's node.

Nothing is joined to the machine's own network, so no packet can leave it. As with most
container networks a pod has one address of each family and reaches everything through its node,
which routes, and turns a Service's address into an endpoint's the way kube-proxy does: clients
that have no sidecar can use Services too.

Addresses: a cluster's pods lie in its own /24, the node at .1, pods from .11 on; in IPv6 in the
/64 of unique local addresses that is made of the same numbers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from types import TracebackType
from typing import Final, Protocol, Self, final

from cli.demo.host import Host
from core.errors import ConfigError
from core.record import dataclass
from discovery.model import Address

_FIRST_POD: Final = 11
_NEXT_HOP: Final = "fe80::1"
"""The node, on every pod's cable."""
_MAX_PODS: Final = 200
_END_S: Final = 5.0
"""How long all programs together may take to end by themselves."""


class Network(Protocol):
    """Where pods are, and how they reach each other."""

    @property
    def name(self) -> str:
        """The cluster's name."""
        ...

    def pod(self, name: str) -> Pod:
        """Return the pod called ``name``, made when it is first named."""
        ...

    def service(self, address: str, port: int, endpoints: Sequence[tuple[str, int]]) -> None:
        """Let clients without a sidecar reach ``endpoints`` by a Service's address."""
        ...


class Hosts(Protocol):
    """Where hosts come from, and how they end."""

    def host(self, name: str) -> Host:
        """Return a new host."""
        ...


@final
class Cluster:
    """A node and its pods."""

    def __init__(self, rig: Rig, name: str, pods: IPv4Network) -> None:
        """Make the node; ``pods`` is a /24."""
        self.name: Final = name
        self.network: Final = pods
        first, second, third, _ = pods.network_address.packed
        self.network6: Final = IPv6Network(f"fd00:{first}:{second}:{third}::/64")
        self.gateway: Final = str(pods[1])
        self.node: Final = rig.host(f"{name}/node")
        self._rig: Final = rig
        self._pods: Final[dict[str, Pod]] = {}
        _set_up_router(self.node)
        _ip(
            self.node,
            f"addr add {self.gateway}/32 dev lo",
            f"addr add {self.network6[1]}/128 dev lo",
        )

    def pod(self, name: str) -> Pod:
        """Return the pod called ``name``, made when it is first named."""
        if name not in self._pods:
            if len(self._pods) == _MAX_PODS:
                raise ConfigError(f"cluster {self.name} has {_MAX_PODS} pods; it can hold no more")
            host = self._rig.host(f"{self.name}/{name}")
            self._pods[name] = self._cabled(host, len(self._pods))
        return self._pods[name]

    def _cabled(self, host: Host, index: int) -> Pod:
        """Cable ``host`` to the node as pod number ``index``."""
        ips = tuple(str(net[_FIRST_POD + index]) for net in (self.network, self.network6))
        pod = Pod(host, ips, f"v{index}")
        node = self.node
        node.must(
            ["ip", "link", "add", pod.cable, "type", "veth", "peer", "eth0", "netns", host.path]
        )
        # Nobody else can have these addresses: no second is lost in finding that out (nodad).
        _ip(
            node,
            f"link set {pod.cable} addrgenmode none",
            f"link set {pod.cable} up",
            f"route add {pod.ip}/32 dev {pod.cable}",
            f"addr add {_NEXT_HOP}/64 dev {pod.cable} nodad",
            f"route add {pod.ip6}/128 dev {pod.cable}",
        )
        _ip(
            host,
            "link set eth0 addrgenmode none",
            f"addr add {pod.ip}/32 dev eth0",
            f"addr add {pod.ip6}/128 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {_NEXT_HOP} dev eth0 onlink",
            f"route add {self.gateway} dev eth0 scope link",
            f"route add default via {self.gateway}",
        )
        return pod

    def service(self, address: str, port: int, endpoints: Sequence[tuple[str, int]]) -> None:
        """Let clients without a sidecar reach ``endpoints`` by the ClusterIP ``address``."""
        rules = []
        for index, (pod, target) in enumerate(endpoints):
            left = len(endpoints) - index
            share = f"-m statistic --mode nth --every {left} --packet 0 " if left > 1 else ""
            rules += [
                f"-A {chain} -d {address} -p tcp --dport {port} {share}"
                f"-j DNAT --to-destination {Address(pod, target)}"
                for chain in ("PREROUTING", "OUTPUT")
            ]
            # A pod that reaches itself would take a packet from its own address for forged.
            rules.append(f"-A POSTROUTING -s {pod} -d {pod} -p tcp -j MASQUERADE")
        text = "\n".join(["*nat", *rules, "COMMIT", ""])
        program = "ip6tables-nft-restore" if ":" in address else "iptables-nft-restore"
        self.node.must([program, "-w", "5", "--noflush"], given=text)


@final
@dataclass(frozen=True, slots=True)
class Pod:
    """A host with addresses, beside the node of its cluster."""

    host: Host
    ips: tuple[str, ...]
    """One of each family."""
    cable: str = ""
    """The pod's end at the node, where its traffic can be watched."""

    @property
    def ip(self) -> str:
        """Its address of IPv4."""
        return self.ips[0]

    @property
    def ip6(self) -> str:
        """Its address of IPv6."""
        return self.ips[1]


@final
class Rig:
    """Every host of one run. Leaving its ``with`` block ends and removes all of them."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []
        self._links = 0
        self._doors: dict[str, tuple[Host, str]] = {}
        """Clusters' gateway hosts and their addresses, by the cluster's name."""

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
        """Return a new host with nothing but its loopback."""
        host = Host(name)
        self._hosts.append(host)
        _ip(host, "link set lo up")
        return host

    def cluster(self, name: str, pods: str = "10.11.0.0/24") -> Cluster:
        """Return a new cluster whose pods get addresses of the /24 ``pods``."""
        return Cluster(self, name, IPv4Network(pods))

    def join_flat(self, one: Cluster, other: Cluster) -> None:
        """Route between two clusters, so that pods reach pods."""
        _, ours, theirs = self._cable(one.node, other.node)
        _ip(one.node, f"route add {other.network} via {theirs}")
        _ip(other.node, f"route add {one.network} via {ours}")

    def join_by_gateway(self, near: Cluster, far: Cluster) -> tuple[Host, str]:
        """Return the gateway host at ``far``'s door, and the address by which it is reached.

        Every cluster that is joined to ``far`` finds the same host at the same address. It does
        not forward: a program on it is the only way across, and it can dial ``far``'s pods only.
        Nodes hide their pods behind their own address, as a cloud's NAT does.
        """
        gateway, address = self._doors.get(far.name) or self._door(far)
        cable, _, end = self._cable(near.node, gateway)
        _hide_pods(near.node, cable)
        _ip(near.node, f"route add {address} via {end}")
        return gateway, address

    def _door(self, far: Cluster) -> tuple[Host, str]:
        """Make a cluster's gateway host."""
        gateway = self.host(f"{far.name}/gateway")
        address = str(IPv4Address("10.201.0.1") + len(self._doors))
        cable, end, _ = self._cable(far.node, gateway)
        _hide_pods(far.node, cable)
        _ip(gateway, f"addr add {address}/32 dev lo", f"route add {far.network} via {end}")
        self._doors[far.name] = gateway, address
        return gateway, address

    def close(self) -> None:
        """End every program and remove every namespace; safe to call again."""
        for host in self._hosts:
            host.ask_to_end()
        deadline = time.monotonic() + _END_S
        with contextlib.ExitStack() as stack:
            for host in self._hosts:
                # One that fails to close does not keep the others from it.
                stack.callback(host.close, deadline)
        self._hosts.clear()

    def _cable(self, one: Host, other: Host) -> tuple[str, str, str]:
        """Join two hosts; return the device's name at both ends and their addresses."""
        name = f"c{self._links}"
        base = IPv4Address("10.200.0.0") + 4 * self._links
        self._links += 1
        ends = str(base + 1), str(base + 2)
        one.must(["ip", "link", "add", name, "type", "veth", "peer", name, "netns", other.path])
        for host, end in zip((one, other), ends, strict=True):
            _ip(host, f"addr add {end}/30 dev {name}", f"link set {name} up")
        return name, *ends


def _ip(host: Host, *commands: str) -> None:
    host.must(["ip", "-batch", "-"], given="\n".join(commands) + "\n")


def _hide_pods(node: Host, cable: str) -> None:
    masquerade = f"*nat\n-A POSTROUTING -o {cable} -j MASQUERADE\nCOMMIT\n"
    node.must(["iptables-nft-restore", "-w", "5", "--noflush"], given=masquerade)


def _set_up_router(node: Host) -> None:
    # No redirects: a pod that reaches itself through its node would be told of a shorter way.
    settings = (
        "ipv4/ip_forward=1",
        "ipv4/conf/all/send_redirects=0",
        "ipv4/conf/default/send_redirects=0",
        "ipv6/conf/all/forwarding=1",
    )
    lines = (
        f"echo {value} > /proc/sys/net/{name}"
        for name, value in (setting.split("=") for setting in settings)
    )
    node.must(["sh", "-ec", "\n".join(lines)])

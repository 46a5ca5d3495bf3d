"""What is measured: a pair of hops that carries bytes over mutual TLS to the backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, final

from bench.certificate import Credentials
from bench.place import Cores, reserve_addresses, reserve_ports
from bench.process import Child, Processes, wait_until_accepting
from discovery.model import Address


class Carried(Enum):
    """What the load speaks."""

    OPAQUE = "opaque"
    """Nothing the hops would know."""
    PLAIN = "plain"
    """The same without TLS: the backend is outside the mesh as far as the outbound hop knows."""
    HTTP1 = "http1"
    HTTP2 = "http2"


class Side(Enum):
    """Which of the two hops."""

    OUTBOUND = "outbound"
    """Plaintext from the client, TLS to the other hop."""
    INBOUND = "inbound"
    """TLS from the other hop, plaintext to the backend."""


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """What every candidate of a run is given."""

    directory: Path
    cores: Cores
    credentials: Credentials
    processes: Processes
    backend: Address


@final
@dataclass(frozen=True, slots=True)
class Hop:
    """One hop's job, in full."""

    side: Side
    entry: Address
    """Where the load connects to the outbound hop."""
    inner: Address
    """Where the outbound hop connects to the inbound one; its IP is the backend's."""
    backend: Address
    credentials: Credentials
    resumes: bool
    """Whether TLS sessions are resumed; otherwise every handshake is a full one."""
    is_declared: bool = True
    """Whether the backend's port is declared opaque; otherwise its protocol is to be found out."""
    carried: Carried = Carried.OPAQUE

    @property
    def is_bytes(self) -> bool:
        """Whether the load speaks nothing that the hops would know."""
        return self.carried in (Carried.OPAQUE, Carried.PLAIN)

    @property
    def listen(self) -> Address:
        """Where this hop takes connections."""
        return self.inner if self.side is Side.INBOUND else self.entry

    @property
    def forward(self) -> Address:
        """Where this hop takes them to."""
        return self.backend if self.side is Side.INBOUND else self.inner


@final
@dataclass(frozen=True, slots=True)
class Command:
    """How a hop is started."""

    arguments: list[str]
    environment: Mapping[str, str] | None = None
    """All of it; None: our own."""


@final
@dataclass(frozen=True, slots=True)
class Greeting:
    """What an inbound hop expects of an outbound one inside TLS, before the client's bytes."""

    protocol: str = ""
    """Offered by ALPN; empty: none."""
    first: bytes = b""


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """A candidate's two hops, running."""

    outbound: Child
    inbound: Child
    entry: Address
    """Where the load connects."""
    inner: Address
    """Where the outbound hop connects."""
    greeting: Greeting
    carried: Carried
    tells_pauses: bool

    @property
    def children(self) -> list[Child]:
        """Both processes."""
        return [self.outbound, self.inbound]


class Candidate(Protocol):
    """A proxy that can stand for one hop."""

    @property
    def name(self) -> str:
        """What it is called in tables and files."""
        ...

    @property
    def carries(self) -> frozenset[Carried]:
        """What it can be measured with."""
        ...

    @property
    def tells_pauses(self) -> bool:
        """Whether its hops, on SIGUSR1, tell of their garbage collector on standard output."""
        ...

    def missing(self) -> str:
        """Return what this machine lacks to run it, and how to get it; empty: nothing."""
        ...

    def command(self, hop: Hop, directory: Path) -> Command:
        """Write what configures ``hop`` into ``directory`` and return how it is started."""
        ...

    def greeting(self, backend: Address) -> Greeting:
        """Return what the inbound hop of this candidate expects."""
        ...


def start_pair(
    candidate: Candidate,
    stage: Stage,
    *,
    resumes: bool = False,
    is_declared: bool = True,
    carried: Carried = Carried.OPAQUE,
) -> Pair:
    """Start both hops, the inbound one first. Raises UnreachableError when one does not come up."""
    hops = plan_hops(stage, resumes=resumes, is_declared=is_declared, carried=carried)
    inbound, outbound = (start_hop(candidate, stage, hop) for hop in hops)
    entry, inner = (hop.listen for hop in reversed(hops))
    greeting = candidate.greeting(stage.backend)
    return Pair(outbound, inbound, entry, inner, greeting, carried, candidate.tells_pauses)


def plan_hops(
    stage: Stage,
    *,
    resumes: bool,
    is_declared: bool = True,
    carried: Carried = Carried.OPAQUE,
) -> tuple[Hop, Hop]:
    """Return the jobs of an inbound and an outbound hop on addresses of their own."""
    (entry,) = reserve_addresses(1)
    (inner,) = reserve_ports(stage.backend.ip, 1)
    inbound, outbound = (
        Hop(side, entry, inner, stage.backend, stage.credentials, resumes, is_declared, carried)
        for side in (Side.INBOUND, Side.OUTBOUND)
    )
    return inbound, outbound


def start_hop(candidate: Candidate, stage: Stage, hop: Hop) -> Child:
    """Start one hop and wait until it accepts. Raises UnreachableError when it does not."""
    name = f"{candidate.name}-{hop.side.value}-{hop.entry.ip}-{hop.inner.port}"
    directory = stage.directory / name
    directory.mkdir()
    command = candidate.command(hop, directory)
    child = stage.processes.start(name, command.arguments, stage.cores.hops, command.environment)
    wait_until_accepting(child, hop.listen)
    return child

"""What is measured: a pair of hops that carries bytes over mutual TLS to the backend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, final

from bench.certificate import Credentials
from bench.place import Cores, reserve_addresses
from bench.process import Child, Processes, wait_until_accepting
from discovery.model import Address


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
    listen: Address
    forward: Address
    credentials: Credentials
    resumes: bool
    """Whether TLS sessions are resumed; otherwise every handshake is a full one."""


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
    inbound_start_s: float
    """From starting the inbound hop until it accepted."""

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

    def missing(self) -> str:
        """Return what this machine lacks to run it, and how to get it; empty: nothing."""
        ...

    def command(self, hop: Hop, directory: Path) -> list[str]:
        """Write what configures ``hop`` into ``directory`` and return the command to run it."""
        ...


def start_pair(candidate: Candidate, stage: Stage, *, resumes: bool = False) -> Pair:
    """Start both hops, the inbound one first. Raises UnreachableError when one does not come up."""
    entry, inner = reserve_addresses(2)
    inbound, start_s = _start(
        candidate, stage, Hop(Side.INBOUND, inner, stage.backend, stage.credentials, resumes)
    )
    outbound, _ = _start(
        candidate, stage, Hop(Side.OUTBOUND, entry, inner, stage.credentials, resumes)
    )
    return Pair(outbound, inbound, entry, inner, start_s)


def _start(candidate: Candidate, stage: Stage, hop: Hop) -> tuple[Child, float]:
    name = f"{candidate.name}-{hop.side.value}-{hop.listen.ip}"
    directory = stage.directory / name
    directory.mkdir()
    command = candidate.command(hop, directory)
    child = stage.processes.start(name, command, stage.cores.hops)
    return child, wait_until_accepting(child, hop.listen)

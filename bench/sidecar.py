"""pillion as a candidate: two processes of its data plane, with everything on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, final

from bench.candidate import Carried, Command, Greeting, Hop, Side
from bench.mesh import service_address, write_mesh
from bench.place import reserve_ports
from discovery.model import Address
from proxy.config import PREFIX
from proxy.wire.transport_header import ALPN, TransportHeader, encode_header

HOP: Final = Path(__file__).with_name("hop.py")


@final
class Pillion:
    """pillion, twice."""

    tells_pauses: Final = True

    def __init__(self, name: str = "pillion", *, upgrades: bool = True) -> None:
        """``upgrades``: HTTP/1 goes from hop to hop as HTTP/2; else as HTTP/1.1."""
        self.name: Final = name
        self.carries: Final = frozenset(Carried if upgrades else (Carried.HTTP1,))
        self._upgrades = upgrades

    def missing(self) -> str:
        """Return nothing: it is what we are part of."""
        return ""

    def command(self, hop: Hop, directory: Path) -> Command:
        """Write the mesh directory of ``hop`` and return the command that serves it.

        It imports what the bench itself would import: checkout, wheel or compiled core.
        """
        write_mesh(hop, directory)
        other, admin = reserve_ports(hop.listen.ip, 2)
        is_inbound = hop.side is Side.INBOUND
        leaf = hop.credentials.server if is_inbound else hop.credentials.client
        settings = {
            "POD": f"bench/{hop.side.value}-0",
            "MESH_DIR": directory,
            "IDENTITY_DIR": leaf.material.directory,
            "IDENTITY_NAME": leaf.identity,
            "INBOUND_LISTEN_ADDR": hop.listen if is_inbound else other,
            "OUTBOUND_LISTEN_ADDR": other if is_inbound else hop.listen,
            "ADMIN_LISTEN_ADDR": admin,
            "TLS_RESUME": str(hop.resumes).lower(),
            "H2_UPGRADE": str(self._upgrades).lower(),
            "SHUTDOWN_GRACE_PERIOD": "1s",
        }
        if hop.carried is Carried.PLAIN:
            destination = hop.forward
        else:
            destination = hop.inner if is_inbound else service_address(hop.backend)
        return Command(
            [sys.executable, "-P", str(HOP), destination.ip, str(destination.port)],
            environment() | {f"{PREFIX}{name}": str(value) for name, value in settings.items()},
        )

    def greeting(self, backend: Address) -> Greeting:
        """Return the direct port's: its protocol, and the header that names the backend's port."""
        return Greeting(ALPN, encode_header(TransportHeader(backend.port)))


def environment() -> dict[str, str]:
    """Return what our interpreter is started with, so that it imports what we would."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }

"""pillion as a candidate: two processes of its data plane, with everything on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, final

from bench.candidate import Command, Greeting, Hop, Side
from bench.hop import Order
from bench.place import reserve_ports
from discovery.model import Address
from proxy.wire.transport_header import ALPN, TransportHeader, encode_header

HOP: Final = Path(__file__).with_name("hop.py")


@final
class Pillion:
    """pillion, twice."""

    name: Final = "pillion"

    def missing(self) -> str:
        """Return nothing: it is what we are part of."""
        return ""

    def command(self, hop: Hop, directory: Path) -> Command:
        """Return the command that serves ``hop``; it needs no files.

        It imports what the bench itself would import: checkout, wheel or compiled core.
        """
        own, far = hop.credentials.client, hop.credentials.server
        if hop.side is Side.INBOUND:
            own, far = far, own
        authority = hop.credentials.authority
        other, admin = reserve_ports(hop.listen.ip, 2)
        order = Order(
            listen=hop.listen,
            other=other,
            admin=admin,
            inner=hop.inner,
            backend=hop.backend,
            chain=str(own.chain),
            key=str(own.key),
            anchors=str(authority.anchors),
            trust_domain=authority.trust_domain,
            own_identity=own.identity.name,
            far_identity=far.identity.name,
            resumes=hop.resumes,
        )
        path = os.pathsep.join(entry for entry in sys.path if entry)
        return Command(
            [sys.executable, "-P", str(HOP), hop.side.value, order.to_json()],
            {"PYTHONPATH": path},
        )

    def greeting(self, backend: Address) -> Greeting:
        """Return the direct port's: its protocol, and the header that names the backend's port."""
        return Greeting(ALPN, encode_header(TransportHeader(backend.port)))

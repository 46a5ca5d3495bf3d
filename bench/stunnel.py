"""stunnel as a peer for opaque bytes: a thread a connection, stock buffers (stunnel(8), 5.68)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, final

from bench.candidate import Carried, Command, Greeting, Hop, Side
from discovery.model import Address
from identity.openssl import SUITES


@final
class Stunnel:
    """stunnel, twice."""

    name: Final = "stunnel"
    carries: Final = frozenset((Carried.OPAQUE,))
    tells_pauses: Final = False

    def missing(self) -> str:
        """Return what this machine lacks."""
        return "" if shutil.which("stunnel") else "stunnel not found (apt-get install stunnel4)"

    def command(self, hop: Hop, directory: Path) -> Command:
        """Write the hop's configuration and return how it is started."""
        file = directory / "stunnel.conf"
        file.write_text(stunnel_configuration(hop))
        return Command(["stunnel", str(file)])

    def greeting(self, backend: Address) -> Greeting:
        """Return nothing: this peer's hops pass on what they are given."""
        return Greeting()


def stunnel_configuration(hop: Hop) -> str:
    """Return the configuration of one hop.

    TLS 1.3, both certificates verified, the server's name as well. Without resumption neither
    side keeps a session.
    """
    is_inbound = hop.side is Side.INBOUND
    leaf = hop.credentials.server if is_inbound else hop.credentials.client
    name = hop.credentials.server.identity.name
    client = "" if is_inbound else f"client = yes\nsni = {name}\ncheckHost = {name}\n"
    return f"""\
foreground = yes
pid =
syslog = no
debug = err
[hop]
accept = {hop.listen}
connect = {hop.forward}
{client}cert = {leaf.chain}
key = {leaf.key}
CAfile = {hop.credentials.root}
verifyChain = yes
sslVersionMin = TLSv1.3
ciphersuites = {SUITES}
sessionResume = {"yes" if hop.resumes else "no"}
{"" if hop.resumes else "options = NO_TICKET"}
socket = a:SO_REUSEADDR=1
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
"""

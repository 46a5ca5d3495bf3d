"""haproxy as a candidate: one thread a hop, stock buffers (HAProxy 2.6 manual)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, final

from bench.candidate import Carried, Command, Greeting, Hop, Side
from discovery.model import Address
from identity.openssl import SUITES

MAX_CONNECTIONS: Final = 4096
"""Well above the 1,000 idle ones; haproxy sizes its tables by it."""


@final
class Haproxy:
    """haproxy, twice."""

    tells_pauses: Final = False

    def __init__(
        self, name: str = "haproxy", *, upgrades: bool = False, splices: bool = False
    ) -> None:
        """``upgrades``: HTTP/1 goes from hop to hop as HTTP/2; else as HTTP/1.1.

        ``splices``: where it thinks it worth it the kernel moves plaintext (splice-auto).
        """
        self.name: Final = name
        only = Carried.HTTP1 if upgrades else Carried.PLAIN if splices else None
        self.carries: Final = frozenset(Carried if only is None else (only,))
        self._upgrades = upgrades
        self._splices = splices

    def missing(self) -> str:
        """Return what this machine lacks."""
        return "" if shutil.which("haproxy") else "haproxy not found (apt-get install haproxy)"

    def command(self, hop: Hop, directory: Path) -> Command:
        """Write the hop's configuration and return how it is started."""
        file = directory / "haproxy.cfg"
        file.write_text(haproxy_configuration(hop, upgrades=self._upgrades, splices=self._splices))
        return Command(["haproxy", "-db", "-f", str(file)])

    def greeting(self, backend: Address) -> Greeting:
        """Return nothing: this peer's hops pass on what they are given."""
        return Greeting()


def haproxy_configuration(hop: Hop, *, upgrades: bool = False, splices: bool = False) -> str:
    """Return the configuration of one hop.

    TLS 1.3, both certificates verified, the server's name as well. Without resumption neither
    side keeps a session. ``upgrades``: HTTP/1 is HTTP/2 between the hops. Plaintext has none of it.
    """
    bind = f"bind {hop.listen}"
    server = f"server next {hop.forward}"
    is_http2 = hop.carried is Carried.HTTP2
    inner = " alpn h2,http/1.1" if is_http2 or upgrades else ""
    outer = " proto h2" if is_http2 else ""
    trust = f"verify required ca-file {hop.credentials.root}"
    if hop.carried is Carried.PLAIN:
        pass
    elif hop.side is Side.INBOUND:
        bind += f" ssl crt {hop.credentials.server.bundle} {trust}{inner}"
        server += outer
    else:
        bind += outer
        name = hop.credentials.server.identity.name
        server += f" ssl crt {hop.credentials.client.bundle} {trust} verifyhost {name}"
        server += f" sni str({name}){inner}"
        if not hop.resumes:
            server += " no-ssl-reuse"
    return f"""\
global
  nbthread 1
  maxconn {MAX_CONNECTIONS}
  ssl-default-bind-options ssl-min-ver TLSv1.3{"" if hop.resumes else " no-tls-tickets"}
  ssl-default-bind-ciphersuites {SUITES}
  ssl-default-server-options ssl-min-ver TLSv1.3
  ssl-default-server-ciphersuites {SUITES}
{"" if hop.resumes else "  tune.ssl.cachesize 0"}
defaults
  mode {"tcp" if hop.is_bytes else "http"}
  {"option splice-auto" if splices else ""}
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend near
  {bind}
  default_backend far
backend far
  {"" if hop.is_bytes else "http-reuse always"}
  {server}
"""

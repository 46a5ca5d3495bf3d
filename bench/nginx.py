"""nginx as a candidate: one worker a hop, stock buffers (ngx_stream_*_module, ngx_http_*_module).

It speaks no HTTP/2 to servers, so HTTP/2 is left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final, final

from bench.candidate import Carried, Command, Greeting, Hop, Side
from discovery.model import Address
from identity.openssl import SUITES

MAX_CONNECTIONS: Final = 4096
"""A relayed connection takes two; nginx sizes its tables by it."""
VERIFY_DEPTH: Final = 2
"""Leaf, issuer, root."""


@final
class Nginx:
    """nginx, twice."""

    name: Final = "nginx"
    carries: Final = frozenset((Carried.OPAQUE, Carried.PLAIN, Carried.HTTP1))
    tells_pauses: Final = False

    def missing(self) -> str:
        """Return what this machine lacks."""
        hint = "(apt-get install nginx libnginx-mod-stream)"
        if shutil.which("nginx") is None:
            return f"nginx not found {hint}"
        build = nginx_build()
        has_stream = re.search(r"--with-stream(\s|$)", build) or stream_module(build)
        return "" if has_stream else f"nginx has no stream module {hint}"

    def command(self, hop: Hop, directory: Path) -> Command:
        """Write the hop's configuration and return how it is started."""
        file = directory / "nginx.conf"
        file.write_text(nginx_configuration(hop, directory, stream_module(nginx_build())))
        return Command(["nginx", "-e", "stderr", "-c", str(file)])

    def greeting(self, backend: Address) -> Greeting:
        """Return nothing: this peer's hops pass on what they are given."""
        return Greeting()


def nginx_build() -> str:
    """Return what ``nginx -V`` says: version, OpenSSL and how it was configured."""
    said = subprocess.run(["nginx", "-V"], capture_output=True, text=True, timeout=10, check=True)
    return said.stderr


def stream_module(build: str) -> Path | None:
    """Return the file of the stream module; None when it is built in, or not there."""
    where = re.search(r"--modules-path=(\S+)", build)
    file = Path(where[1]) / "ngx_stream_module.so" if where else None
    return file if file and file.exists() else None


def nginx_configuration(hop: Hop, directory: Path, module: Path | None) -> str:
    """Return the configuration of one hop.

    TLS 1.3, both certificates verified, the server's name as well. Without resumption neither
    side keeps a session. Plaintext has none of it.
    """
    root = hop.credentials.root
    switch = "on" if hop.resumes else "off"
    listen, tls = f"listen {hop.listen};", ""
    if hop.carried is Carried.PLAIN:
        pass
    elif hop.side is Side.INBOUND:
        listen = f"listen {hop.listen} ssl;"
        tls = f"""\
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites {SUITES};
    ssl_certificate {hop.credentials.server.chain};
    ssl_certificate_key {hop.credentials.server.key};
    ssl_client_certificate {root};
    ssl_verify_client on;
    ssl_verify_depth {VERIFY_DEPTH};
    ssl_session_cache off;
    ssl_session_tickets {switch};"""
    else:
        tls = f"""\
{"    proxy_ssl on;" if hop.carried is Carried.OPAQUE else ""}
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_conf_command Ciphersuites {SUITES};
    proxy_ssl_certificate {hop.credentials.client.chain};
    proxy_ssl_certificate_key {hop.credentials.client.key};
    proxy_ssl_trusted_certificate {root};
    proxy_ssl_verify on;
    proxy_ssl_verify_depth {VERIFY_DEPTH};
    proxy_ssl_name {hop.credentials.server.identity.name};
    proxy_ssl_server_name on;
    proxy_ssl_session_reuse {switch};"""
    if hop.carried is Carried.HTTP1:
        scheme = "http" if hop.side is Side.INBOUND else "https"
        body = f"""\
http {{
  access_log off;
  keepalive_requests 100000000;
  upstream far {{
    server {hop.forward};
    keepalive 256;
    keepalive_requests 100000000;
  }}
  server {{
    {listen}
    location / {{
      proxy_pass {scheme}://far;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
    }}
{tls}
  }}
}}"""
    else:
        body = f"""\
stream {{
  access_log off;
  server {{
    {listen}
    proxy_pass {hop.forward};
    tcp_nodelay on;
{tls}
  }}
}}"""
    return f"""\
{f"load_module {module};" if module else ""}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {MAX_CONNECTIONS}; }}
{body}
"""

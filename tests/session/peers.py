"""Peers that are not ours: TLS by Python's own ``ssl``, servers that are silent or not there."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from discovery.model import Address
from tests.authority import Mesh

DIRECT: Final = "transport.l5d.io/v1"
_PATIENCE_S: Final = 5.0


def mk_files(
    mesh: Mesh, who: str, directory: Path, *, starts_s: float = 0, **times: float
) -> tuple[Path, Path]:
    """Issue a leaf, ``starts_s`` seconds from now; return its chain and key as PEM files."""
    times.setdefault("now", time.time() + starts_s)
    issued = mesh.leaf(mesh.identity(who), directory, **times)
    chain = directory / "chain.pem"
    chain.write_text(
        "".join(ssl.DER_cert_to_PEM_cert(der) for der in (issued.leaf, *issued.intermediates))
    )
    return chain, directory / "key.pem"


def mk_context(mesh: Mesh, files: tuple[Path, Path] | None, alpn: str = DIRECT) -> ssl.SSLContext:
    """Return a client's context, independent of ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=mesh.anchors.union)
    if files is not None:
        context.load_cert_chain(*files)
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


def mk_server_context(
    mesh: Mesh, files: tuple[Path, Path], alpn: str = DIRECT, *, mutual: bool = True
) -> ssl.SSLContext:
    """Return a server's context; ``mutual``: it insists on a client of ``mesh``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    if mutual:
        context.load_verify_locations(cadata=mesh.anchors.union)
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


@final
@dataclass
class TlsServer:
    """A server of Python's own ``ssl`` on blocking sockets, a thread for each connection.

    It sends its alerts and half-closes, which the event loops' own TLS does not.
    """

    address: Address
    talk: Callable[[ssl.SSLSocket], None]
    refused: list[ssl.SSLError] = field(default_factory=list)
    """Handshakes that it did not finish."""
    sessions: list[bool] = field(default_factory=list)
    """For each handshake that it finished: whether a session was resumed."""
    threads: list[threading.Thread] = field(default_factory=list)

    def serve(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        """Accept until the listener is shut down."""
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(_PATIENCE_S)
            thread = threading.Thread(target=self._one, args=(sock, context))
            self.threads.append(thread)
            thread.start()

    def _one(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        secure = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        with secure, contextlib.suppress(OSError):
            try:
                secure.do_handshake()
            except ssl.SSLError as error:
                self.refused.append(error)
                return
            self.sessions.append(bool(secure.session_reused))
            self.talk(secure)


@contextmanager
def tls_server(
    context: ssl.SSLContext, talk: Callable[[ssl.SSLSocket], None], ip: str = "127.0.0.3"
) -> Iterator[TlsServer]:
    """Run a TLS server; at the end every thread of it is waited for."""
    with socket.socket() as listener:
        listener.bind((ip, 0))
        listener.listen(64)
        server = TlsServer(Address(ip, listener.getsockname()[1]), talk)
        acceptor = threading.Thread(target=server.serve, args=(listener, context))
        acceptor.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (acceptor, *server.threads):
                thread.join(2 * _PATIENCE_S)


def echo_tls(sock: ssl.SSLSocket) -> None:
    """Send back what comes, until the client's end; then end in order."""
    while data := sock.recv(65_536):
        sock.sendall(data)
    sock.unwrap()


@contextmanager
def silent_server(ip: str = "127.0.0.3") -> Iterator[Address]:
    """Let the kernel accept, and never answer."""
    with socket.socket() as sock:
        sock.bind((ip, 0))
        sock.listen(64)
        yield Address(ip, sock.getsockname()[1])


@contextmanager
def black_hole(ip: str = "127.0.0.3") -> Iterator[Address]:
    """An address whose SYNs are dropped: its queue is full."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind((ip, 0))
        sock.listen(0)
        name = sock.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.05)
            try:
                filler.connect(name)
            except TimeoutError:
                break
        yield Address(ip, name[1])

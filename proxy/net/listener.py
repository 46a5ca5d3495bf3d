"""Accepting connections, no more than can be served.

At the bound, or when the system is out of descriptors, accepting pauses: the backlog in the
kernel holds who comes, and accepting goes on when a connection has ended or the pause is over.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable
from typing import Final, Protocol, final

from core.errors import ConfigError
from core.record import dataclass
from discovery.model import Address
from proxy.net.address import plain_ip
from proxy.net.holder import holder_of
from proxy.net.poller import READ, Pollable, Poller
from proxy.net.sockopt import TcpOptions, apply_options, drop_new_handshakes

BACKLOG: Final = 4096
HANDSHAKE_S: Final = 0.05
"""How long a handshake that has begun is waited for at the end: half of 100 ms' round trip."""
_ACCEPTS_A_TURN: Final = 64
"""So that one burst of connections does not hold up those that are open."""
_PAUSE_MIN_S: Final = 0.05
_PAUSE_MAX_S: Final = 1.0
_DEFERENCE_S: Final = 0.001
"""How long a connection is left to a worker that has fewer, which may be too busy to take it."""
_NO_IPV6: Final = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))
_TRANSIENT: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Loads(Protocol):
    """How many connections each of several workers has."""

    def tell(self, connections: int) -> None:
        """Say how many we have."""
        ...

    def is_least(self) -> bool:
        """Whether another connection is ours to take, and not somebody's who has less."""
        ...

    def retire(self) -> None:
        """Say that nobody has to leave connections to us any more."""
        ...


@final
class Admission:
    """How many user connections may be open at once, over all listeners."""

    __slots__ = ("limit", "loads", "open", "pauses", "waiting")

    def __init__(self, limit: int, loads: Loads | None = None) -> None:
        """Bound connections; ``loads`` tells other workers of them, and of theirs."""
        self.limit = limit
        self.loads = loads
        self.open = 0
        self.pauses = 0
        """How often accepting had to pause."""
        self.waiting: list[Listener] = []

    @property
    def full(self) -> bool:
        """Whether the bound is reached."""
        return self.open >= self.limit

    def enter(self) -> None:
        """Count one more connection."""
        self.open += 1
        if self.loads is not None:
            self.loads.tell(self.open)

    def retire(self) -> None:
        """Let other workers wait for us no more: we take fewer and fewer, and then none."""
        loads, self.loads = self.loads, None
        if loads is not None:
            loads.retire()

    def leave(self) -> None:
        """Count one less, and let listeners that wait go on."""
        self.open -= 1
        if self.loads is not None:
            self.loads.tell(self.open)
        if self.waiting and not self.full:
            waiting, self.waiting = self.waiting, []
            for listener in waiting:
                listener.resume()


class Accepted(Protocol):
    """Who takes accepted connections."""

    def accepted(self, sock: socket.socket, ip: str) -> None:
        """Take a connected socket, options set, from the client at ``ip``."""
        ...


@final
class Listener(Pollable):
    """One listening socket."""

    __slots__ = (
        "_accepting",
        "_admission",
        "_handler",
        "_is_deferring",
        "_is_shared",
        "_loads",
        "_pause_s",
        "_poller",
        "_sock",
        "_timer",
        "address",
    )

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        handler: Accepted,
        admission: Admission,
        options: TcpOptions,
        *,
        is_shared: bool = False,
    ) -> None:
        """Serve ``sock``; ``is_shared``: other processes accept from it, too."""
        self._poller = poller
        self._is_shared = is_shared
        self._is_deferring = False
        """Left a connection to a worker that has fewer, a moment ago."""
        self._loads = admission.loads if is_shared else None
        self._sock = sock
        self._handler = handler
        self._admission = admission
        # Accepted sockets inherit them, which saves five system calls a connection.
        apply_options(sock, options)
        self._pause_s = _PAUSE_MIN_S
        self._timer: asyncio.TimerHandle | None = None
        self._accepting = False
        name = sock.getsockname()
        self.address = Address(str(name[0]), int(name[1]))

    def start(self) -> None:
        """Begin to accept."""
        self.resume()

    def resume(self) -> None:
        """Accept again, unless closed."""
        self._timer = None
        self._is_deferring = False
        if self._accepting or self._sock.fileno() < 0:
            return
        self._accepting = True
        self._poller.watch(self._sock.fileno(), self, READ)

    async def finish(self) -> None:
        """Take all whose handshake has begun, within admission, then close.

        Closing alone would reset clients that are connected as far as they know: those in the
        kernel's queue, and those whose last segment of the handshake is on its way.
        """
        self._loads = None
        if self._is_deferring:
            self._stop_timer()
            self.resume()
        if self._accepting:
            # Where others accept, too, one that leaves alone must not shut the door for all.
            if not self._is_shared:
                drop_new_handshakes(self._sock)
            await asyncio.sleep(HANDSHAKE_S)
        while self._accepting and self._accept(_ACCEPTS_A_TURN):
            pass
        self.close()

    def close(self) -> None:
        """Accept no more; who waits in the kernel's queue is reset."""
        if self._sock.fileno() < 0:
            return
        self._stop()
        self._stop_timer()
        self._sock.close()

    def _stop(self) -> None:
        if self._accepting:
            self._accepting = False
            self._poller.forget(self._sock.fileno())

    def on_ready(self, events: int) -> None:
        """Accept those who wait."""
        del events
        self._take()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        """Accept one whom nobody else has taken, and go on as before."""
        self.resume()
        self._accept(1)

    def _take(self) -> bool:
        """Accept a turn's worth; False once nobody waits, or accepting has paused."""
        loads = self._loads
        if loads is None:
            return self._accept(_ACCEPTS_A_TURN)
        if not loads.is_least():
            self._stop()
            self._is_deferring = True
            self._timer = self._poller.loop.call_later(_DEFERENCE_S, self._late)
            return False
        for _ in range(_ACCEPTS_A_TURN):
            if not self._accept(1):
                return False
            if not loads.is_least():
                break
        return True

    def _accept(self, most: int) -> bool:
        """Accept so many; False once nobody waits, or accepting has paused."""
        for _ in range(most):
            if self._admission.full:
                self._admission.pauses += 1
                self._stop()
                self._admission.waiting.append(self)
                return False
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as error:
                if error.errno in _TRANSIENT:
                    self._back_off()
                return False
            self._pause_s = _PAUSE_MIN_S
            sock.settimeout(0)
            self._handler.accepted(sock, plain_ip(peer[0]))
        return True

    def _back_off(self) -> None:
        self._admission.pauses += 1
        self._stop()
        self._timer = self._poller.loop.call_later(self._pause_s, self.resume)
        self._pause_s = min(self._pause_s * 2, _PAUSE_MAX_S)


@final
@dataclass(frozen=True, slots=True)
class Bound:
    """Listening sockets by name, and addresses that others hold and may keep."""

    socks: list[tuple[str, socket.socket]]
    taken: list[Address]


def bind_all(wanted: Iterable[tuple[str, Address]], *, optional: str = "") -> Bound:
    """Return a listening socket for each (name, address), in order.

    Addresses under the name ``optional`` may be somebody else's.

    ``[::]`` takes connections of both families. Where the system has no IPv6, it is 0.0.0.0, and
    ``[::1]`` is left out. Connections wait in the kernel's queue until a Listener is started.
    Raises ConfigError naming every address that cannot be had; then no other stays bound either.
    """
    socks: list[tuple[str, socket.socket]] = []
    taken: list[Address] = []
    problems: list[str] = []
    for name, address in wanted:
        try:
            socks.append((name, _bind(address)))
        except OSError as error:
            if address.ip == "::1" and error.errno in _NO_IPV6:
                continue
            if name == optional and error.errno == errno.EADDRINUSE:
                taken.append(address)
                continue
            holder = holder_of(address) if error.errno == errno.EADDRINUSE else ""
            by = f" by {holder}" if holder else ""
            problems.append(f"the {name} listener cannot have {address}: {error.strerror}{by}")
    if problems:
        for _, sock in socks:
            sock.close()
        raise ConfigError(problems, hint="free the port, or choose another address in the settings")
    return Bound(socks, taken)


def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        if address.ip == "::" and error.errno in _NO_IPV6:
            return _bind(Address("0.0.0.0", address.port))  # noqa: S104  # as was asked for
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.ip == "::":
            # Whatever the system's default (net.ipv6.bindv6only) is.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address.ip, address.port))
        sock.listen(BACKLOG)
        sock.settimeout(0)
    except OSError:
        sock.close()
        raise
    return sock

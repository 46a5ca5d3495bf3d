"""A linked cluster's mesh directory, read beside our own and never in its way.

Each has a thread of its own: a directory that another cluster writes may hang, as a mount whose
server is gone does, and must then hold up nothing here. What was known last stays in force
whatever becomes of the directory; its faults are reported and decide nothing.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Final, final

from core.clock import Clock
from core.record import dataclass
from discovery.store import Change, Lookup, Store
from multicluster.links import Followed
from multicluster.offer import NOTHING, Offers, offers_of
from resources.config_map import CONFIG_KEY, ConfigMap, MeshConfig
from resources.document import Problem
from resources.kind import Meta, ObjectKey
from resources.link import MAX_GATEWAYS
from resources.registry import LINKED_KINDS
from resources.service import Service
from resources.sources.directory import DirectorySource

POLL_S: Final = 1.0
"""Between two looks; a look at what has not changed costs a system call a file.

Notices of the kernel would come sooner, but a watch on a mount that hangs hangs too, and of their
instances all sidecars of a node share 128."""
SHARE: Final = 50
"""A pause is so many times as long as the look before it took."""
MAX_PAUSE_S: Final = 30.0
RESOLVE_S: Final = 60.0
"""Names of gateways are looked up so often (mirror reference, endpoint refresh period)."""
HUNG_S: Final = 10.0
"""A look that takes longer is reported."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a linked cluster."""

    offers: Offers = NOTHING
    gateways: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@final
class LinkedCluster:
    """One linked cluster's directory, looked at again and again; used by one thread at a time."""

    def __init__(self, source: str) -> None:
        self._source = DirectorySource(source, LINKED_KINDS)
        self._services: dict[ObjectKey, Service] = {}
        self._store = Store()
        self._followed: Followed | None = None
        self._offers = NOTHING
        self._resolved: dict[str, tuple[str, ...]] = {}
        self._resolve_at = 0.0

    def look(self, followed: Followed, clock: Clock) -> Known:
        """Return what is known now of the cluster behind a link."""
        scan = self._source.scan(clock.now())
        change = Change()
        for key in scan.deleted:
            self._services.pop(key, None)
            self._store.remove(key, change)
        for each in scan.applied:
            if isinstance(each, Service):
                self._services[each.meta.key] = each
            self._store.put(each, change)
        is_new = followed != self._followed
        if is_new:
            self._followed = followed
            self._store.put(_settings(followed), change)
        if is_new or change.tags:
            services = list(self._services.values())
            self._offers = offers_of(followed.link, services, Lookup(self._store))
        if is_new or clock.monotonic() >= self._resolve_at:
            self._resolve_at = clock.monotonic() + RESOLVE_S
            self._resolve(followed.link.gateway_addresses)
        where = str(followed.link.meta.key)
        offered = (Problem(where, 0, "", each) for each in self._offers.problems)
        kept = (_kept(each) for each in scan.problems)
        return Known(
            offers=self._offers,
            gateways=self._gateways(followed.link.gateway_addresses),
            problems=(*kept, *offered),
        )

    def _resolve(self, hosts: tuple[str, ...]) -> None:
        for host in hosts:
            if _is_address(host):
                self._resolved[host] = (host,)
                continue
            try:
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except OSError:
                continue  # what it was at last stays
            self._resolved[host] = tuple(sorted({str(each[4][0]) for each in found}))

    def _gateways(self, hosts: tuple[str, ...]) -> tuple[str, ...]:
        found = {ip for host in hosts for ip in self._resolved.get(host, ())}
        return tuple(sorted(found)[:MAX_GATEWAYS])


@final
class LinkReader:
    """Looks at one linked cluster in a thread of its own and tells what is new."""

    def __init__(
        self, followed: Followed, clock: Clock, tell: Callable[[LinkReader, Known], None]
    ) -> None:
        """Prepare; ``tell`` is called in the reader's thread."""
        self.followed = followed
        self.known: Known | None = None
        """What was told last, for whoever was told; None before the first look."""
        self._clock = clock
        self._tell = tell
        self._is_over = False
        self._wake = threading.Event()
        self._looking_since = clock.monotonic()
        self._is_looking = False
        name = f"link-{followed.link.cluster}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def follow(self, followed: Followed) -> None:
        """Look by another state of the Link, whose directory is the same, and at once."""
        self.followed = followed
        self._wake.set()

    def stop(self) -> None:
        """Look no more; a thread that hangs is left behind and keeps nobody from ending."""
        self._is_over = True
        self._wake.set()

    def hung_for(self, now: float) -> float:
        """Return how long the look that is being taken has taken; 0: none is."""
        return now - self._looking_since if self._is_looking else 0.0

    def _run(self) -> None:
        cluster = LinkedCluster(self.followed.link.source)
        told: Known | None = None
        while not self._is_over:
            self._looking_since = began = self._clock.monotonic()
            self._is_looking = True
            self._wake.clear()
            try:
                known = cluster.look(self.followed, self._clock)
            except Exception as error:  # noqa: BLE001  # last known good stays; this starts anew
                cluster = LinkedCluster(self.followed.link.source)
                fault = Problem(self.followed.link.source, 0, "", f"broke its reader: {error!r}")
                known = replace(told or Known(), problems=(fault,))
            self._is_looking = False
            if known != told and not self._is_over:
                self._tell(self, known)
                told = known
            took = self._clock.monotonic() - began
            self._wake.wait(min(max(POLL_S, took * SHARE), MAX_PAUSE_S))


def _settings(followed: Followed) -> ConfigMap:
    """Return the cluster's settings as its link has them: it has no say about its own trust."""
    link = followed.link
    config = MeshConfig(
        cluster_name=link.cluster,
        cluster_domain=link.cluster_domain,
        trust_domain=followed.trust_domain,
        control_namespace=link.control_namespace,
    )
    return ConfigMap(meta=Meta(key=CONFIG_KEY), config=config)


def _kept(problem: Problem) -> Problem:
    """Say of a directory, folder or file that cannot be read what that means."""
    if problem.line or problem.path:
        return problem
    message = f"{problem.message}; what was known of the linked cluster stays in force"
    return Problem(problem.file, problem.line, problem.path, message)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

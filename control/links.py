"""Every cluster that is linked: which directories are read, what is known, what is in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, final

from control.linked import HUNG_S, Known, LinkReader
from core.clock import Clock
from discovery.model import Address
from multicluster.imports import Cluster
from multicluster.links import Choice, Followed, choose
from multicluster.model import Gateway
from resources.config_map import MeshConfig
from resources.document import Problem
from resources.link import Link

FIRST_LOOK_S: Final = 2.0
"""How long a start waits for linked directories: they may be gone, and we are wanted."""


@final
class LinkedClusters:
    """The clusters behind our Links."""

    def __init__(self, clock: Clock, news: Callable[[], None]) -> None:
        """Prepare; ``news`` is called in the loop when something is known anew."""
        self._clock = clock
        self._news = news
        self._choice = Choice()
        self._readers: dict[str, LinkReader] = {}
        """By cluster."""
        self._dead: set[str] = set()
        self._used: set[str] = set()
        """Clusters whose gateway was asked for: whoever did may go on with what it was told."""
        self._looked = asyncio.Event()

    @property
    def choice(self) -> Choice:
        """The Links that are followed."""
        return self._choice

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """What is known now, oldest link first."""
        return tuple(self._cluster(each) for each in self._choice.followed)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with Links and linked directories."""
        found = list(self._choice.problems)
        now = self._clock.monotonic()
        for reader in self._readers.values():
            if reader.known is not None:
                found += reader.known.problems
            if reader.hung_for(now) > HUNG_S:
                source = reader.followed.link.source
                message = f"does not answer for {HUNG_S:g} s; what is known stays in force"
                found.append(Problem(source, 0, "", message))
        return tuple(sorted(found))

    def follow(self, links: Iterable[Link], config: MeshConfig) -> None:
        """Follow these Links from now on; has to be called in the loop."""
        self._choice = choose(links, config)
        wanted = {each.link.cluster: each for each in self._choice.followed if each.link.source}
        for cluster, reader in list(self._readers.items()):
            is_same = cluster in wanted and (
                wanted[cluster].link.source == reader.followed.link.source
            )
            if not is_same:
                reader.stop()
                del self._readers[cluster]
                self._dead.discard(cluster)
        for cluster, followed in wanted.items():
            found = self._readers.get(cluster)
            if found is None:
                self._start(followed)
            elif found.followed != followed:
                found.follow(followed)

    async def first_look(self) -> None:
        """Wait until every directory was looked at once, but not for long."""
        try:
            async with asyncio.timeout(FIRST_LOOK_S):
                while any(each.known is None for each in self._readers.values()):
                    self._looked.clear()
                    await self._looked.wait()
        except TimeoutError:
            return

    def close(self) -> None:
        """Read nothing more; what is known stays."""
        for reader in self._readers.values():
            reader.stop()

    def use(self, cluster: str) -> bool:
        """Note that a cluster's gateway is asked for; True when it was not in use before."""
        if cluster in self._used:
            return False
        self._used.add(cluster)
        return True

    def report(self, cluster: str, *, is_usable: bool) -> None:
        """Take notice of whether a cluster's gateway lives."""
        if is_usable == (cluster not in self._dead):
            return
        if is_usable:
            self._dead.discard(cluster)
        else:
            self._dead.add(cluster)
        self._news()

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """The gateways in use: those that are to be probed."""
        found = []
        for cluster in self.clusters:
            link = cluster.link
            if link.cluster in self._used and cluster.gateways and link.gateway_identity:
                found.append(
                    Gateway(
                        cluster=link.cluster,
                        addresses=tuple(Address(ip, link.probe.port) for ip in cluster.gateways),
                        identity=link.gateway_identity,
                        trust_domain=cluster.trust_domain,
                        path=link.probe.path,
                        period_s=link.probe.period_s,
                        timeout_s=link.probe.timeout_s,
                        failure_threshold=link.probe.failure_threshold,
                    )
                )
        return tuple(found)

    def _cluster(self, followed: Followed) -> Cluster:
        link = followed.link
        reader = self._readers.get(link.cluster)
        known = reader.known if reader is not None and reader.known is not None else Known()
        return Cluster(
            link=link,
            trust_domain=followed.trust_domain,
            offers=known.offers.offers,
            gateways=known.gateways,
            is_gateway_usable=link.cluster not in self._dead,
        )

    def _start(self, followed: Followed) -> None:
        loop = asyncio.get_running_loop()

        def tell(reader: LinkReader, known: Known) -> None:
            try:
                loop.call_soon_threadsafe(self._take, reader, known)
            except RuntimeError:
                reader.stop()  # the loop has ended, and with it whoever wants to know

        reader = LinkReader(followed, self._clock, tell)
        self._readers[followed.link.cluster] = reader
        reader.start()

    def _take(self, reader: LinkReader, known: Known) -> None:
        reader.known = known
        self._looked.set()
        if self._readers.get(reader.followed.link.cluster) is reader:
            self._news()

"""The sidecar's identity: how it gets its certificate and keeps it fresh.

``LeafRenewal`` asks an issuer in Linkerd's rhythm (linkerd2-proxy, identity-client/certify.rs);
``LeafFiles`` takes a leaf that others rotate. Either follows the anchors on disk and publishes
generations; whatever goes wrong, the leaf in use stays in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, final

from control.follow import follow
from control.installer import Installer, LoadAnchors, Log
from core.clock import Clock
from core.errors import IdentityError, MeshError
from core.watch import Watch
from identity.anchors import Anchors, anchors_stamp
from identity.files import Stamp, read_private, read_settled, stamp_of
from identity.generation import Credential, Generation
from identity.material import Material, read_chain, read_token
from identity.name import Identity
from identity.request import Certified
from identity.status import IdentityStatus

MIN_REFRESH_S: Final = 10.0
"""Between two requests at least (Linkerd, MIN_REFRESH)."""
MAX_REFRESH_S: Final = 86_400.0
"""Between two requests at most (Linkerd, MAX_REFRESH)."""
REFRESH_AT: Final = 0.7
"""The part of the remaining lifetime after which a new leaf is asked for (Linkerd)."""
NAP_S: Final = 30.0
"""The longest sleep: a machine that was suspended sees by the wall clock what it has missed."""

Certify = Callable[[bytes, bytes], Awaitable[Certified]]
"""Takes CSR and token; raises MeshError or OSError."""
Sleep = Callable[[float], Awaitable[None]]


def refresh_delay(expires: float, now: float, min_s: float, max_s: float) -> float:
    """Return seconds until the next attempt: 70 % of what remains, within the two bounds."""
    return min(max((expires - now) * REFRESH_AT, min_s), max_s)


@final
class LeafRenewal:
    """Keeps a generation fresh by asking an issuer, for the life of the sidecar."""

    def __init__(  # noqa: PLR0913  settings by name, wired in one place
        self,
        directory: Path,
        identity: Identity,
        *,
        certify: Certify,
        load_anchors: LoadAnchors,
        clock: Clock,
        log: Log,
        server_name: str = "",
        token: Path | None = None,
        min_refresh_s: float = MIN_REFRESH_S,
        max_refresh_s: float = MAX_REFRESH_S,
        sleep: Sleep | None = None,
    ) -> None:
        self._material = Material(directory)
        self._token = token or self._material.token
        self._install = Installer(identity, server_name, load_anchors, log)
        self._certify = certify
        self._clock = clock
        self._min_refresh_s = min_refresh_s
        self._max_refresh_s = max_refresh_s
        self._sleep = sleep or self._nap
        self._refresh_by = 0.0
        self._asked = 0.0
        """When the issuer was asked last, in seconds since the epoch."""
        self._due = 0.0
        """When it is to be asked next."""
        self._hurry = asyncio.Event()

    @property
    def generation(self) -> Watch[Generation | None]:
        """The generation in use; None until the first certificate."""
        return self._install.generation

    @property
    def status(self) -> Watch[IdentityStatus]:
        """How it is doing."""
        return self._install.status

    async def run(self) -> None:
        """Ask, wait, and ask again, and follow the anchors, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew())
            tasks.create_task(
                follow(self._material.directory, self._material.anchor_files, self.look)
            )

    async def refresh(self) -> float:
        """Ask once; return seconds until the next time. Failures are noted, never raised."""
        self._asked = self._now()
        try:
            token = read_token(self._token)
            certified = await self._certify(self._material.read_csr(), token)
            now = self._now()
            if certified.valid_until <= now:
                raise IdentityError("the issuer's certificate has ended before it came")
            chain = (certified.leaf, *certified.intermediates)
            credential = Credential(chain, read_private(self._material.key))
            generation = self._install.prove(credential, self._install.anchors(), now)
            self._refresh_by = min(certified.valid_until, generation.not_after)
            self._due = self._after(now)
            self._install.publish(generation, now, self._due)
        except (MeshError, OSError) as error:
            now = self._now()
            # The anchors may be what changed: they count, whatever becomes of the leaf.
            self._install.trust(now)
            self._due = now + self._min_refresh_s if self._is_refused() else self._after(now)
            self._install.fail(error, now, self._due)
        return self._due - now

    def look(self) -> None:
        """Put the anchors as they are in force; ask for another leaf where ours is refused."""
        self._install.trust(self._now())
        if self._is_refused():
            self._due = min(self._due, self._asked + self._min_refresh_s)
            self._hurry.set()

    async def _renew(self) -> None:
        while True:
            await self.refresh()
            while (left := self._due - self._now()) > 0:
                await self._sleep(min(left, NAP_S))

    async def _nap(self, seconds: float) -> None:
        self._hurry.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return

    def _is_refused(self) -> bool:
        generation = self._install.generation.current
        return generation is not None and bool(generation.trouble)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _after(self, now: float) -> float:
        # After a failure the end of the leaf in use sets the pace; without one the minimum does.
        delay = refresh_delay(self._refresh_by, now, self._min_refresh_s, self._max_refresh_s)
        return now + delay


@final
class LeafFiles:
    """Takes leaf, key and anchors from files that others rotate."""

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        *,
        load_anchors: LoadAnchors,
        clock: Clock,
        log: Log,
        server_name: str = "",
    ) -> None:
        self._material = Material(directory)
        self._install = Installer(identity, server_name, load_anchors, log)
        self._clock = clock

    @property
    def generation(self) -> Watch[Generation | None]:
        """The generation in use; None until the first certificate."""
        return self._install.generation

    @property
    def status(self) -> Watch[IdentityStatus]:
        """How it is doing."""
        return self._install.status

    async def run(self) -> None:
        """Follow the files until cancelled."""
        await follow(self._material.directory, self._material.all_files, self.look)

    def look(self) -> None:
        """Take what has changed."""
        self.load()

    def load(self) -> bool:
        """Read the files; False when they could not be used and the leaf stays as it was."""
        now = self._clock.now().timestamp()
        try:
            # All of one state of the files: a rotation never leaves leaf and roots, or leaf and
            # key, of different generations together.
            credential, anchors = read_settled(self._read, self._stamp, self._material.directory)
            current = self._install.generation.current
            made_of = (current.credential, current.anchors) if current is not None else None
            if made_of == (credential, anchors) and not (current and current.trouble):
                self._install.succeed(now)
            else:
                self._install.publish(self._install.prove(credential, anchors, now), now)
        except (MeshError, OSError) as error:
            # The anchors may be what changed: they count, whatever becomes of the leaf.
            self._install.trust(now)
            self._install.fail(error, now)
            return False
        return True

    def _read(self) -> tuple[Credential, Anchors]:
        chain = read_chain(self._material.chain)
        credential = Credential(chain, read_private(self._material.key))
        return credential, self._install.anchors()

    def _stamp(self) -> Stamp:
        material = self._material
        return stamp_of([material.chain, material.key]) + anchors_stamp(material.anchors)

"""The sidecar's identity: how it gets its certificate and keeps it fresh.

``LeafRenewal`` asks an issuer in Linkerd's rhythm (linkerd2-proxy, identity-client/certify.rs);
``LeafFiles`` takes a leaf that others rotate. Either publishes generations that were proved
before anyone sees them; whatever goes wrong, the generation in use stays in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from core.clock import Clock, utc_text
from core.errors import IdentityError, MeshError
from core.watch import Watch
from identity.anchors import Anchors
from identity.generation import Generation, build_generation
from identity.material import Material, read_chain, read_token
from identity.name import Identity
from identity.request import Certified

MIN_REFRESH_S: Final = 10.0
"""Between two requests at least (Linkerd, MIN_REFRESH)."""
MAX_REFRESH_S: Final = 86_400.0
"""Between two requests at most (Linkerd, MAX_REFRESH)."""
REFRESH_AT: Final = 0.7
"""The part of the remaining lifetime after which a new leaf is asked for (Linkerd)."""

Certify = Callable[[bytes, bytes], Awaitable[Certified]]
"""Takes CSR and token; raises MeshError or OSError."""
LoadAnchors = Callable[[], Anchors]
"""Reads the anchors as they are now; raises IdentityError."""
Log = Callable[[str, str], None]
"""Takes a level (``info``, ``warn``) and a sentence."""
Sleep = Callable[[float], Awaitable[None]]


@final
@dataclass(frozen=True, slots=True)
class IdentityStatus:
    """How the sidecar's identity is doing: for readiness, metrics and people."""

    refreshes: int = 0
    """New leaves installed."""
    failures: int = 0
    """Attempts that left things as they were."""
    last_error: str = ""
    """Why the latest attempt failed; empty when it did not."""
    next_refresh: float = 0.0
    """When the next attempt is due, in seconds since the epoch; 0: none is."""
    expires: float = 0.0
    """When the leaf in use ends, in seconds since the epoch; 0: there is none."""


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
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._material = Material(directory)
        self._token = token or self._material.token
        self._install = _Installer(identity, server_name, load_anchors, log)
        self._certify = certify
        self._clock = clock
        self._min_refresh_s = min_refresh_s
        self._max_refresh_s = max_refresh_s
        self._sleep = sleep
        self._refresh_by = 0.0

    @property
    def generation(self) -> Watch[Generation | None]:
        """The generation in use; None until the first certificate."""
        return self._install.generation

    @property
    def status(self) -> Watch[IdentityStatus]:
        """How it is doing."""
        return self._install.status

    async def run(self) -> None:
        """Ask, wait, and ask again, until cancelled."""
        while True:
            await self._sleep(await self.refresh())

    async def refresh(self) -> float:
        """Ask once; return seconds until the next time. Failures are noted, never raised."""
        try:
            token = read_token(self._token)
            certified = await self._certify(self._material.read_csr(), token)
            now = self._now()
            if certified.valid_until <= now:
                raise IdentityError("the issuer's certificate has ended before it came")
            chain = (certified.leaf, *certified.intermediates)
            generation = self._install.build(chain, self._material.key, now)
            self._refresh_by = min(certified.valid_until, generation.not_after)
            self._install.publish(generation, self._next(now))
        except (MeshError, OSError) as error:
            now = self._now()
            self._install.fail(error, self._next(now))
        return self._next(now) - now

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _next(self, now: float) -> float:
        # After a failure the end of the leaf in use sets the pace; without one the minimum does.
        return now + refresh_delay(self._refresh_by, now, self._min_refresh_s, self._max_refresh_s)


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
        self._install = _Installer(identity, server_name, load_anchors, log)
        self._clock = clock

    @property
    def generation(self) -> Watch[Generation | None]:
        """The generation in use; None until the first certificate."""
        return self._install.generation

    @property
    def status(self) -> Watch[IdentityStatus]:
        """How it is doing."""
        return self._install.status

    def load(self) -> bool:
        """Read the files; False when they could not be used and things stay as they were."""
        now = self._clock.now().timestamp()
        try:
            chain = read_chain(self._material.chain)
            generation = self._install.build(chain, self._material.key, now)
        except (MeshError, OSError) as error:
            self._install.fail(error, 0.0)
            return False
        self._install.publish(generation, 0.0)
        return True


@final
class _Installer:
    """Builds generations, publishes them and keeps count."""

    def __init__(
        self, identity: Identity, server_name: str, load_anchors: LoadAnchors, log: Log
    ) -> None:
        self._identity = identity
        self._server_name = server_name
        self._load_anchors = load_anchors
        self._log = log
        self._problems: tuple[str, ...] = ()
        self.generation: Final[Watch[Generation | None]] = Watch(None)
        self.status: Final = Watch(IdentityStatus())

    def build(self, chain: tuple[bytes, ...], key: Path, now: float) -> Generation:
        """Return a proved generation under today's anchors. Raises IdentityError."""
        anchors = self._load_anchors()
        if anchors.problems != self._problems:
            self._problems = anchors.problems
            for problem in anchors.problems:
                self._log("warn", f"trust anchors: {problem}")
        return build_generation(
            leaf_chain_der=chain,
            key_path=key,
            anchors=anchors,
            identity=self._identity,
            server_name=self._server_name,
            now=now,
        )

    def publish(self, generation: Generation, next_refresh: float) -> None:
        """Make ``generation`` the one in use."""
        before = self.status.current
        self.generation.publish(generation)
        self.status.publish(
            IdentityStatus(
                refreshes=before.refreshes + 1,
                failures=before.failures,
                next_refresh=next_refresh,
                expires=generation.not_after,
            )
        )
        self._log(
            "info",
            f"certificate {generation.fingerprint[:16]} of {generation.identity} is in use, "
            f"until {utc_text(generation.not_after)}",
        )

    def fail(self, error: Exception, next_refresh: float) -> None:
        """Note that an attempt failed; the generation in use stays."""
        before = self.status.current
        reason = str(error) or type(error).__name__
        self.status.publish(
            IdentityStatus(
                refreshes=before.refreshes,
                failures=before.failures + 1,
                last_error=reason,
                next_refresh=next_refresh,
                expires=before.expires,
            )
        )
        kept = "the one in use stays" if before.expires else "there is none yet"
        self._log("warn", f"no new certificate, {kept}: {reason}")

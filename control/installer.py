"""Builds a sidecar's generations, publishes them, and says how things are.

A new leaf comes into force only when it is proved. New anchors come into force in any case, at
once and for every later handshake; where they do not vouch for our own leaf, that is said, and
whoever can get another one does. What is broken on disk leaves in force what was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from control.reminder import Reminder
from core.clock import utc_text
from core.errors import IdentityError
from core.watch import Watch
from identity.anchors import Anchors
from identity.expiry import anchor_warnings, leaf_warnings
from identity.generation import Credential, Generation, make_generation
from identity.name import Identity
from identity.status import IdentityStatus

LoadAnchors = Callable[[Anchors | None], Anchors]
"""Reads the anchors as they are now, given those in force; raises IdentityError."""
Log = Callable[[str, str], None]
"""Takes a level (``info``, ``warn``) and a sentence."""


@final
class Installer:
    """Owns the generation in use and what is known of its state."""

    def __init__(
        self, identity: Identity, server_name: str, load_anchors: LoadAnchors, log: Log
    ) -> None:
        self._identity = identity
        self._server_name = server_name
        self._load_anchors = load_anchors
        self._log = log
        self._anchors: Anchors | None = None
        self._problems: tuple[str, ...] = ()
        self._reminder = Reminder(lambda warning: log("warn", warning))
        self._reloads = 0
        self._reload_failures = 0
        self._refreshes = 0
        self._failures = 0
        self._last_error = ""
        self._refreshed = 0.0
        self._next_refresh = 0.0
        self.generation: Final[Watch[Generation | None]] = Watch(None)
        self.status: Final = Watch(IdentityStatus())

    def anchors(self) -> Anchors:
        """Read the anchors; what has become broken keeps its roots. Raises IdentityError."""
        anchors = self._load_anchors(self._anchors)
        if anchors.problems != self._problems:
            new = [problem for problem in anchors.problems if problem not in self._problems]
            self._problems = anchors.problems
            self._reload_failures += bool(new)
            for problem in new:
                self._log("warn", f"trust anchors: {problem}")
        self._anchors = anchors
        return anchors

    def prove(self, credential: Credential, anchors: Anchors, now: float) -> Generation:
        """Return a generation of a leaf under ``anchors``. Raises IdentityError."""
        return make_generation(
            credential,
            anchors=anchors,
            identity=self._identity,
            server_name=self._server_name,
            now=now,
        )

    def publish(self, generation: Generation, now: float, next_refresh: float = 0.0) -> None:
        """Put a proved generation in use."""
        before = self.generation.current
        self._reloads += before is not None and before.anchors != generation.anchors
        if before is None or before.credential != generation.credential:
            self._refreshes += 1
            self._refreshed = now
        self._next_refresh = next_refresh
        self.generation.publish(generation)
        self._log(
            "info",
            f"certificate {generation.fingerprint[:16]} of {generation.identity} is in use, "
            f"until {utc_text(generation.not_after)}",
        )
        self.succeed(now)

    def succeed(self, now: float) -> None:
        """Note that the leaf in use is the one that ought to be."""
        self._last_error = ""
        self.note(now)

    def trust(self, now: float) -> None:
        """Put the anchors as they are on disk in force, with the leaf in use."""
        generation = self.generation.current
        if generation is None:
            return
        try:
            anchors = self.anchors()
            if anchors != generation.anchors:
                self._publish_under(generation, anchors)
        except IdentityError as error:
            self._log("warn", f"trust anchors: {error}")
        self.note(now)

    def fail(self, error: Exception, now: float, next_refresh: float = 0.0) -> None:
        """Note that an attempt failed; the leaf in use stays."""
        reason = str(error) or type(error).__name__
        self._failures += 1
        if reason != self._last_error or next_refresh:
            kept = "the one in use stays" if self.generation.current else "there is none yet"
            self._log("warn", f"no new certificate, {kept}: {reason}")
        self._last_error = reason
        self._next_refresh = next_refresh
        self.note(now)

    def note(self, now: float) -> None:
        """Publish how things are, and log what is about to end, once a day."""
        generation = self.generation.current
        endings: list[str] = []
        troubles: list[str] = []
        if self._last_error:
            troubles.append(f"no new certificate: {self._last_error}")
        if generation is not None:
            if generation.trouble:
                troubles.append(f"peers refuse us under the anchors in force: {generation.trouble}")
            endings += [*leaf_warnings(generation, now), *anchor_warnings(generation, now)]
        self._reminder.remind(endings, now)
        self.status.publish(
            IdentityStatus(
                refreshes=self._refreshes,
                failures=self._failures,
                last_error=self._last_error,
                refreshed=self._refreshed,
                next_refresh=self._next_refresh,
                expires=generation.not_after if generation is not None else 0.0,
                reloads=self._reloads,
                reload_failures=self._reload_failures,
                warnings=(
                    *troubles,
                    *(f"trust anchors: {problem}" for problem in self._problems),
                    *endings,
                ),
            )
        )

    def _publish_under(self, before: Generation, anchors: Anchors) -> None:
        generation = before.under(anchors)
        self._reloads += 1
        self.generation.publish(generation)
        self._log("info", "the trust anchors changed and are in force")
        if generation.trouble:
            self._log("warn", f"peers refuse us under the new anchors: {generation.trouble}")

"""Where an authority stands between two roots, and which step may come next. Pure.

    idle       one root issues, and nothing is under way
    started    the new root is made; not every workload's bundle can hold it yet
    trusted    the authority's bundle holds both roots; leaves still come from the old one
    switched   leaves come from the new root; those of the old one live out their days

The order is the whole art: a root is trusted before anything is issued under it, and trusted
for as long as anything issued under it is in use. Both roots bear one name, so they are told
apart by fingerprint.
"""

from __future__ import annotations

from enum import Enum
from typing import final

from core.clock import utc_text
from core.record import dataclass


class Phase(Enum):
    """How far a rotation has come."""

    IDLE = "idle"
    STARTED = "started"
    TRUSTED = "trusted"
    SWITCHED = "switched"


class Step(Enum):
    """What an operator does, in this order."""

    START = "start"
    SWITCH = "switch"
    FINISH = "finish"


@final
@dataclass(frozen=True, slots=True)
class Root:
    """One trust anchor of our own domain, or one that is to become one."""

    fingerprint: str
    """SHA-256 of its DER, in hex."""
    subject: str
    not_after: float
    """Seconds since the epoch."""
    is_trusted: bool
    """Whether it is in the authority's bundle."""
    is_old: bool
    """Whether the rotation under way is to retire it."""
    is_new: bool
    """Whether the rotation under way made it."""
    issues: bool
    """Whether the issuer in use hangs on it."""

    @property
    def role(self) -> str:
        """What it is for, in a word or two."""
        words = [
            *(["old"] if self.is_old else []),
            *(["new"] if self.is_new else []),
            *(["issues"] if self.issues else []),
            *([] if self.is_trusted else ["not trusted"]),
        ]
        return ", ".join(words) or "trusted"


@final
@dataclass(frozen=True, slots=True)
class IssuerInUse:
    """An issuer whose leaves have not all ended, or that issues now."""

    fingerprint: str
    """SHA-256 of its DER, in hex."""
    roots: frozenset[str]
    """The fingerprints of the roots that it hangs on; empty: its certificate is not known."""
    leaves: int
    until: float
    """When the last of its leaves ends, in seconds since the epoch; 0: there is none."""
    is_current: bool


@final
@dataclass(frozen=True, slots=True)
class Rotation:
    """The state of one authority."""

    trust_domain: str
    phase: Phase
    roots: tuple[Root, ...]
    issuers: tuple[IssuerInUse, ...]
    broken_lines: int = 0
    """Lines of the ledger that could not be read: of a leaf that was never given out."""

    @property
    def next_step(self) -> Step:
        """The step that comes next, whether or not something is still in its way."""
        if self.phase is Phase.SWITCHED:
            return Step.FINISH
        return Step.SWITCH if self.phase is Phase.TRUSTED else Step.START

    def obstacles(self, step: Step) -> tuple[str, ...]:
        """Say why ``step`` must not be taken now; empty when it may."""
        if step is Step.START:
            return self._against_start()
        if step is Step.SWITCH:
            return self._against_switch()
        return self._against_finish()

    def _against_start(self) -> tuple[str, ...]:
        if self.phase in {Phase.IDLE, Phase.STARTED}:
            return ()
        return (f"a rotation is under way; its next step is `{self.next_step.value}`",)

    def _against_switch(self) -> tuple[str, ...]:
        if self.phase is Phase.TRUSTED:
            return ()
        if self.phase is Phase.SWITCHED:
            return ("leaves come from the new root already",)
        return ("no new root is trusted yet; `start` makes one and adds it to the bundle",)

    def _against_finish(self) -> tuple[str, ...]:
        if self.phase is not Phase.SWITCHED:
            step = self.next_step.value
            return (f"leaves do not come from a new root yet; the next step is `{step}`",)
        staying = {root.fingerprint for root in self.roots if root.is_trusted and not root.is_old}
        return tuple(
            f"{each.leaves} {'leaf' if each.leaves == 1 else 'leaves'} of the "
            f"{'old' if each.roots else 'unknown'} issuer {each.fingerprint[:16]} "
            f"may be in use until {utc_text(each.until)}"
            for each in self.issuers
            if each.leaves and not each.roots & staying
        )

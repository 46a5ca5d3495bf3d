"""How a sidecar's identity is doing, as a value: for readiness, metrics and people."""

from __future__ import annotations

from typing import final

from core.record import dataclass


@final
@dataclass(frozen=True, slots=True)
class IdentityStatus:
    """What has become of a sidecar's certificate and anchors so far."""

    refreshes: int = 0
    """New leaves installed."""
    failures: int = 0
    """Attempts that left the leaf as it was."""
    last_error: str = ""
    """Why the latest attempt failed; empty when it did not."""
    refreshed: float = 0.0
    """When the leaf in use was installed, in seconds since the epoch; 0: there is none."""
    next_refresh: float = 0.0
    """When the next attempt is due, in seconds since the epoch; 0: none is."""
    expires: float = 0.0
    """When the leaf in use ends, in seconds since the epoch; 0: there is none."""
    reloads: int = 0
    """Times that other anchors came into force while the sidecar ran."""
    reload_failures: int = 0
    """Readings of the anchors that brought a new fault to light."""
    warnings: tuple[str, ...] = ()
    """What somebody should look at, a sentence each; none of it stops the sidecar."""

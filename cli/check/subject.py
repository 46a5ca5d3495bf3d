"""What is checked: a mesh directory, a pod in it, an authority, a sidecar beside us."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

from core.record import dataclass
from discovery.model import Address
from redirect.options import INBOUND_PORT, OUTBOUND_PORT

ADMIN: Final = Address("127.0.0.1", 4191)
"""Where a sidecar with default settings is asked."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Everything that checks are told; what is None is not checked."""

    now: float
    """Seconds since the epoch."""
    is_before: bool
    """Whether the sidecar is still to be started."""
    mesh: Path | None = None
    who: tuple[str, str] | None = None
    authority: Path | None = None
    socket: Path | None = None
    """The issuer's."""
    identity_dir: Path | None = None
    inbound_port: int = INBOUND_PORT
    outbound_port: int = OUTBOUND_PORT
    admin: Address = ADMIN
    is_explicit: bool = False
    """Whether connections come without capture rules."""
    own_ip: str = ""
    """Where the sidecar listens without capture rules; empty: everywhere."""
    problems: tuple[str, ...] | None = None
    """What is wrong with the settings in the environment; None: there are none."""

"""Who speaks first on a port: learned from one try, remembered for a while.

A port whose server greets its clients would stall a sidecar that waits for the client's first
bytes. What is found out about a key (a target port inbound, a destination outbound) holds for
every later connection until it is forgotten. Time is an argument; the table is bounded.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from typing import Final, Generic, TypeVar, final

REMEMBER_S: Final = 600.0
"""How long a key is known; a redeployed server may speak otherwise."""
MAX_KEYS: Final = 4_096
GREETING_WAIT_S: Final = 1.0
"""How long a server may take for its first word on the one speculative connection."""
SILENCE_MIN_S: Final = 0.02
"""How long a client is silent before it is taken to be waiting, at least; else three RTTs."""

K = TypeVar("K", bound=Hashable)


class Speaker(Enum):
    """Whose bytes come first."""

    CLIENT = "client"
    SERVER = "server"


@final
class Speakers(Generic[K]):
    """What has been learned, by key."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[K, tuple[Speaker, float]] = {}

    def get(self, key: K, now: float) -> Speaker | None:
        """Return who speaks first, None when that is not known (any more)."""
        found = self._known.get(key)
        if found is None:
            return None
        if now >= found[1]:
            del self._known[key]
            return None
        return found[0]

    def learn(self, key: K, speaker: Speaker, now: float) -> None:
        """Remember who spoke first; at the bound the oldest is forgotten."""
        self._known.pop(key, None)
        if len(self._known) >= MAX_KEYS:
            del self._known[next(iter(self._known))]
        self._known[key] = (speaker, now + REMEMBER_S)


def is_greeting(data: bytes | bytearray) -> bool:
    """Whether a server's unasked first bytes are a greeting.

    An HTTP server may answer a silent connection with 408 before it closes it (RFC 9110,
    15.5.9): that is no protocol in which the server speaks first.
    """
    return bool(data) and not b"HTTP/".startswith(bytes(data[:5])) and data[:5] != b"HTTP/"


def silence_s(rtt_s: float) -> float:
    """Return how long a client at this round-trip time is waited for."""
    return max(SILENCE_MIN_S, 3 * rtt_s)

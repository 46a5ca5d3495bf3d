"""What a worker has told of its counters, kept for when it has ended.

Sums that fall are a restart of the whole to Prometheus: ``rate()`` would count anew all that the
other workers have counted. So each leaves its page in a file beside its socket, whenever it is
asked: others add that while nobody is in its place, and who comes there goes on from it. What was
counted after that is lost, as with any process that ends.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, final

from proxy.admin.answer import Answer
from proxy.telemetry.total import join_pages

METRICS: Final = "/metrics"
MAX_KEPT_BYTES: Final = 16 * 1024 * 1024
"""The largest page that is kept: labels of long ago add up, where workers end often, and all that
is kept takes room from who else has files there."""
_SUFFIX: Final = ".metrics"
_DRAFT: Final = ".draft"


@final
class KeptMetrics:
    """What one worker tells of its metrics, and goes on from: those of the one before it."""

    def __init__(self, directory: Path, number: int) -> None:
        """``directory``: where workers have their sockets; ``number``: which one it is."""
        self._path = directory / f"{number}{_SUFFIX}"
        self._before = read_kept(directory, number)

    async def told(self, path: str, own: Answer) -> Answer:
        """Return what is to be told of a page, which is ``own`` but for metrics."""
        status, content_type, page = own
        if path != METRICS or status != 200:
            return own
        page = await join_pages([page], self._before)
        if len(page) <= MAX_KEPT_BYTES:
            self._keep(page)
        return status, content_type, page

    def _keep(self, page: bytes) -> None:
        """Write a page, whole or not at all: where there is no room for it the sums fall."""
        draft = self._path.with_suffix(_DRAFT)
        try:
            draft.write_bytes(page)
            draft.rename(self._path)
        except OSError:
            # It would hold the last of the room.
            with contextlib.suppress(OSError):
                draft.unlink()


def read_kept(directory: Path, number: int) -> list[bytes]:
    """Return the page that a worker has told last; none where there is none, or it is too large."""
    path = directory / f"{number}{_SUFFIX}"
    with contextlib.suppress(OSError):
        if path.stat().st_size <= MAX_KEPT_BYTES:
            return [path.read_bytes()]
    return []


def forget_kept(directory: Path) -> None:
    """Remove what all workers have left."""
    for suffix in (_SUFFIX, _DRAFT):
        for path in directory.glob(f"*{suffix}"):
            path.unlink(missing_ok=True)

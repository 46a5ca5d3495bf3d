"""What the admin server answers: liveness, readiness, metrics, configuration."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Final, final

from policy.model import Client
from proxy.runtime import Runtime
from proxy.telemetry.exposition import CONTENT_TYPE, expose

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"

Answer = tuple[int, str, bytes]


@final
class AdminPages:
    """The pages of one sidecar."""

    def __init__(
        self,
        runtime: Runtime,
        config: Mapping[str, object],
        unready: Callable[[], str],
        refresh: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._config = config
        self._unready = unready
        self._refresh = refresh
        """Brings gauges that are read from elsewhere up to date before a scrape."""
        self._pages: Final[Mapping[str, Callable[[], Answer]]] = {
            "/live": self._live,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/config": self._configuration,
        }

    def answer(self, method: str, path: str, query: str, body: bytes, client: Client) -> Answer:
        """Return status, content type and body."""
        del query, body, client
        page = self._pages.get(path)
        if page is None:
            known = " ".join(self._pages)
            return 404, _TEXT, f"no page {path[:80]!a}; there are {known}\n".encode()
        if method not in {"GET", "HEAD"}:
            return 405, _TEXT, b"this page is only read: GET or HEAD\n"
        return page()

    def _live(self) -> Answer:
        return 200, _TEXT, b"live\n"

    def _ready(self) -> Answer:
        reason = self._unready()
        if reason:
            return 503, _TEXT, f"not ready: {reason}\n".encode()
        return 200, _TEXT, b"ready\n"

    def _metrics(self) -> Answer:
        self._refresh()
        for connection in self._runtime.connections:
            connection.count()
        return 200, CONTENT_TYPE, expose(self._runtime.metrics.families())

    def _configuration(self) -> Answer:
        shown = {**self._config, "time": time.time()}
        return 200, _JSON, json.dumps(shown, default=str, indent=2).encode() + b"\n"

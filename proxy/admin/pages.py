"""What the admin server answers, by path and method.

Whatever only shows something is a GET and for everybody who reaches the port. What changes
something is a PUT or POST and for local peers only: the pod's own processes, and on a machine
its own. That keeps a web page, a scanner or a neighbor from turning off a sidecar.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from identity.generation import Generation
from policy.model import Client
from proxy.admin.answer import TEXT, Answer, LongPage, Page, say, show
from proxy.admin.certificates import describe_certificates, write_certificates
from proxy.admin.policies import PolicyPages
from proxy.net.connection import OpenConnection
from proxy.runtime import Runtime
from proxy.telemetry.exposition import CONTENT_TYPE, expose
from proxy.telemetry.log import parse_level

MAX_SHOWN: Final = 500
"""Connections that /connections lists: some 250 KiB."""
MAX_WARNINGS: Final = 20
"""Warnings that /ready writes out; of more it says how many."""
MAX_LEVEL_BYTES: Final = 512
"""The longest body that can be a log level, or a filter of Linkerd's."""

_PEM: Final = "application/pem-certificate-chain"


@final
class AdminPages:
    """The pages of one sidecar."""

    def __init__(
        self,
        runtime: Runtime,
        config: Mapping[str, object],
        policies: PolicyPages,
        *,
        unready: Callable[[], str],
        refresh: Callable[[], None],
        warnings: Callable[[], Sequence[str]],
        stop: Callable[[], None] | None,
    ) -> None:
        self._runtime = runtime
        self._config = config
        self._unready = unready
        self._refresh = refresh
        """Brings gauges that are read from elsewhere up to date before a scrape."""
        self._warnings = warnings
        """What somebody should look at although all is ready."""
        self._stop = stop
        """Begins to drain; None: nobody may ask for that here."""
        self._shown_generation: Generation | None = None
        self._certificates_as: tuple[Answer, Answer] = (say(503, ""), say(503, ""))
        """/certs of that generation, as JSON and PEM: made once, asked for by anybody."""
        self._exposing = asyncio.Lock()
        self._shown: Final[Mapping[str, Page | LongPage]] = {
            "/live": self._live,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/config": self._configuration,
            "/connections": self._connections,
            "/certs": self._certificates,
            "/policy": policies.policy,
            "/explain": policies.explain,
            "/proxy-log-level": self._level,
        }
        self._changed: Final[Mapping[str, tuple[str, Page]]] = {
            "/proxy-log-level": ("PUT", self._set_level),
            "/shutdown": ("POST", self._shutdown),
        }

    async def answer(
        self, method: str, path: str, query: str, body: bytes, client: Client
    ) -> Answer:
        """Return status, content type and body."""
        show = self._shown.get(path)
        changing, change = self._changed.get(path, ("", None))
        if show is None and change is None:
            known = " ".join(sorted({*self._shown, *self._changed}))
            return say(404, f"no page {path[:80]!a}; there are {known}")
        if show is not None and method in {"GET", "HEAD"}:
            shown = show(query, body)
            return shown if isinstance(shown, tuple) else await shown
        if change is None or method != changing:
            allowed = [*(("GET", "HEAD") if show is not None else ()), changing]
            return say(405, f"{path} takes {', '.join(each for each in allowed if each)}")
        if not self._runtime.is_local(client.ip):
            return say(403, f"{method} {path} is for local peers, and {client.ip} is none")
        return change(query, body)

    def _live(self, _: str, __: bytes) -> Answer:
        return say(200, "live")

    def _ready(self, _: str, __: bytes) -> Answer:
        reason = self._unready()
        if reason:
            return say(503, f"not ready: {reason}")
        warnings = self._warnings()
        lines = ["ready", *(f"warning: {each}" for each in warnings[:MAX_WARNINGS])]
        if len(warnings) > MAX_WARNINGS:
            lines.append(f"warning: and {len(warnings) - MAX_WARNINGS} more")
        return say(200, "\n".join(lines))

    async def _metrics(self, _: str, __: bytes) -> Answer:
        """Return the page, one at a time: it is large. Connections have their turn meanwhile."""
        async with self._exposing:
            self._refresh()
            for connection in self._runtime.connections:
                connection.count()
            pieces = []
            for piece in expose(self._runtime.metrics.families()):
                pieces.append(piece)
                await asyncio.sleep(0)
            return 200, CONTENT_TYPE, b"".join(pieces)

    def _configuration(self, _: str, __: bytes) -> Answer:
        return show({**self._config, "time": time.time()})

    def _connections(self, _: str, __: bytes) -> Answer:
        """Return the open connections, oldest first, as many as there is room for."""
        now = self._runtime.clock.monotonic()
        found = self._runtime.connections
        oldest = heapq.nsmallest(MAX_SHOWN, found, key=lambda each: each.opened_at)
        return show(
            {
                "open": len(found),
                "shown": len(oldest),
                "connections": [_describe(each, now) for each in oldest],
            }
        )

    def _certificates(self, query: str, _: bytes) -> Answer:
        generation = self._runtime.generation.current
        if generation is None:
            return say(503, "no certificate has been issued to us yet")
        if self._shown_generation is not generation:
            self._shown_generation = generation
            self._certificates_as = (
                show(describe_certificates(generation)),
                (200, _PEM, write_certificates(generation)),
            )
        as_json, as_pem = self._certificates_as
        return as_pem if query == "form=pem" else as_json

    def _level(self, _: str, __: bytes) -> Answer:
        return say(200, self._runtime.log.level)

    def _set_level(self, _: str, body: bytes) -> Answer:
        if len(body) > MAX_LEVEL_BYTES:
            return say(400, f"{len(body)} bytes are no log level")
        try:
            level = parse_level(body.decode("ascii", "replace").strip())
        except ValueError as error:
            return say(400, str(error))
        log = self._runtime.log
        log.warning("log level changes", before=log.level, after=level)
        log.set_level(level)
        return 204, TEXT, b""

    def _shutdown(self, _: str, __: bytes) -> Answer:
        if self._stop is None:
            return say(404, "shutdown endpoint is not enabled")
        self._runtime.log.info("shutdown asked for by a local peer")
        self._stop()
        return say(200, "shutdown")


def _describe(connection: OpenConnection, now: float) -> dict[str, object]:
    return {**connection.describe(), "age_s": round(now - connection.opened_at, 3)}

"""Checks of the sidecar beside us, by its admin port."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final, final

from cli.check.finding import Check, Finding, bad, good, warning
from core.errors import UnreachableError
from discovery.model import Address

_TIMEOUT_S: Final = 5.0
_MAX_BYTES: Final = 4 << 20


@final
class SidecarChecks:
    """Asks one admin server."""

    def __init__(self, admin: Address) -> None:
        self._admin = admin

    def __iter__(self) -> Iterator[Check]:
        yield Check("sidecar-answers", f"a sidecar answers on {self._admin}", self._answers)
        try:
            self._get("/live")
        except UnreachableError:
            return
        yield Check("sidecar-ready", "it is ready", self._is_ready)
        yield Check("sidecar-certificate", "its certificate is believed", self._certificate)

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            self._admin.ip, self._admin.port, timeout=_TIMEOUT_S
        )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read(_MAX_BYTES).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"{self._admin} does not answer: {reason}") from error
        finally:
            connection.close()

    @cached_property
    def _ready(self) -> tuple[int, str]:
        return self._get("/ready")

    def _answers(self) -> Finding:
        try:
            status, said = self._get("/live")
        except UnreachableError as error:
            return bad(str(error), remedy="start it (pillion proxy), or name it with --admin")
        if (status, said.strip()) != (200, "live"):
            return bad(f"{status} {said[:80]!r}", remedy="name the sidecar's port with --admin")
        return good()

    def _is_ready(self) -> Finding:
        status, said = self._ready
        first, *rest = said.strip().splitlines() or [""]
        if status != 200:
            return bad(first, remedy="mend what it names; the sidecar follows by itself")
        if rest:
            return warning(*rest, remedy="mend what it names, before it becomes an error")
        return good()

    def _certificate(self) -> Finding:
        status, said = self._get("/certs")
        if status != 200:
            return bad(said.strip()[:200], remedy="see the sidecar's log, and that its issuer runs")
        try:
            found: dict[str, Any] = json.loads(said)
            trouble, ends = str(found["trouble"]), str(found["leaf"]["not_after"])
        except (ValueError, KeyError, TypeError):
            return bad(
                f"no answer of a sidecar: {said[:80]!r}", remedy="name its port with --admin"
            )
        if trouble:
            return bad(trouble, remedy="pillion identity rotate, which keeps the order")
        return good(f"{found['identity']}, until {ends}")

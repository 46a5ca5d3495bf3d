"""What is logged of a connection or a request that policy refuses, or no longer allows."""

from __future__ import annotations

from typing import Final

from discovery.model import Address, Target
from policy.model import Client, Refusal, Verdict
from proxy.telemetry.log import Logger

_MAX_PATH: Final = 200


def log_denial(
    log: Logger,
    event: str,
    refusal: Refusal,
    client: Client,
    target: Address | Target,
    *,
    direction: str,
    method: bytes = b"",
    path: bytes = b"",
) -> None:
    """Tell who was denied what, by which Server, why, and what would have let him in.

    ``method`` and ``path`` are a request's.
    """
    log.info(
        event,
        code=refusal.code,
        reason=refusal.reason,
        hint=refusal.hint,
        tried=[f"{each.authorization}: {each.failed}" for each in refusal.attempts],
        **facts_of(refusal, client, target, direction=direction, method=method, path=path),
    )


def facts_of(
    verdict: Verdict,
    client: Client,
    target: Address | Target,
    *,
    direction: str,
    method: bytes,
    path: bytes,
) -> dict[str, str]:
    """Return who asked for what, and by which Server and route that was decided."""
    facts = {
        "direction": direction,
        "client_ip": client.ip,
        "client_identity": str(client.identity or ""),
        "tls": client.tls.value,
        "target": str(target),
        "server": str(verdict.server),
    }
    if method:
        facts["method"] = method.decode("ascii")
        facts["path"] = path.decode("latin-1")[:_MAX_PATH]
        facts["route"] = str(verdict.route or "")
    return facts

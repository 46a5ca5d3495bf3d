"""What is logged of a connection that policy refuses, or no longer allows."""

from __future__ import annotations

from discovery.model import Address, Target
from policy.model import Client, Refusal
from proxy.telemetry.log import Logger


def log_denial(
    log: Logger,
    event: str,
    refusal: Refusal,
    client: Client,
    target: Address | Target,
    *,
    direction: str,
) -> None:
    """Tell who was denied what, by which Server, why, and what would have let him in."""
    log.info(
        event,
        direction=direction,
        code=refusal.code,
        client_ip=client.ip,
        client_identity=str(client.identity or ""),
        tls=client.tls.value,
        target=str(target),
        server=str(refusal.server),
        reason=refusal.reason,
        hint=refusal.hint,
        tried=[f"{each.authorization}: {each.failed}" for each in refusal.attempts],
    )

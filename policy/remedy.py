"""The smallest change that would admit a caller who was refused.

For each authorization every clause that fails is counted, not the first alone; whoever has the
fewest is nearest. A reference that leads nowhere, with a name close by, comes before all: it is
the commonest mistake. What a remedy would do is a value, so that a test can do it and ask again.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from discovery.model import Metadata
from identity.name import Identity
from policy.check import Check, address_number
from policy.decide import prepare
from policy.model import (
    Authorization,
    Clause,
    Client,
    ClientTls,
    Permit,
    Refusal,
    ServerPolicy,
    TlsAuthenticated,
    TlsUnauthenticated,
    Verdict,
)
from policy.words import title_of

MAX_REMEDIES: Final = 3


@final
@dataclass(frozen=True, slots=True)
class Widen:
    """Let an authorization admit one more identity, one more address, or both."""

    authorization: Metadata
    identity: Identity | None = None
    ip: str = ""


@final
@dataclass(frozen=True, slots=True)
class Grant:
    """A new authorization on a server or route, for one caller."""

    target: Metadata
    identity: Identity | None = None
    ip: str = ""


@final
@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do, in words, and as a change where a change of this policy would do it."""

    text: str
    change: Widen | Grant | None = None


def remedies_for(policy: ServerPolicy, client: Client, verdict: Verdict) -> tuple[Remedy, ...]:
    """Return what would turn a refusal into a permit, the smallest change first."""
    if isinstance(verdict, Permit):
        return ()
    if verdict.code == "unauthorized" and verdict.denial is None:
        return _for_unauthorized(policy, client, verdict)[:MAX_REMEDIES]
    if verdict.denial is not None:
        return (Remedy(f"make {title_of(verdict.denial)} fit fewer callers, or remove it"),)
    return (Remedy(verdict.hint),) if verdict.hint else ()


def _for_unauthorized(policy: ServerPolicy, client: Client, refusal: Refusal) -> tuple[Remedy, ...]:
    broken = [each for each in refusal.attempts if each.clause is Clause.REFERENCE]
    broken.sort(key=lambda each: "(" not in each.failed)
    found = [Remedy(f"fix the reference in {title_of(each.authorization)}") for each in broken]
    ranked = sorted(
        ((_failing(each, client), each) for each in _tried(policy, refusal)),
        key=lambda pair: len(pair[0]),
    )
    found += [_widen(failing, each, client) for failing, each in ranked[:1]]
    if not ranked and not found:
        found.append(_grant(policy, client, refusal))
    return tuple(found)


def _tried(policy: ServerPolicy, refusal: Refusal) -> list[Authorization]:
    """Return the authorizations that an operator could widen: not ``localhost``."""
    given = [*policy.authorizations]
    for route in prepare(policy).routes:
        if route.metadata == refusal.route:
            given += route.authorizations
    tried = {each.authorization for each in refusal.attempts}
    return [each for each in given if each.metadata in tried and not each.is_audit]


def _failing(authorization: Authorization, client: Client) -> list[Clause]:
    check = Check(authorization)
    wanted = authorization.authentication
    found = []
    if not check.any_network and not check.holds(address_number(client.ip)):
        found.append(Clause.NETWORK)
    if isinstance(wanted, TlsUnauthenticated | TlsAuthenticated):
        if client.tls is not ClientTls.MESH:
            found.append(Clause.TLS)
        if isinstance(wanted, TlsAuthenticated) and not _is_named(check, client):
            found.append(Clause.IDENTITY)
    return found


def _is_named(check: Check, client: Client) -> bool:
    identity = client.identity
    if identity is None:
        return False
    named = identity.name in check.names
    return named or (not identity.is_uri and identity.name.endswith(check.suffixes))


def _widen(failing: list[Clause], authorization: Authorization, client: Client) -> Remedy:
    name = title_of(authorization.metadata)
    steps = []
    if Clause.TLS in failing or (Clause.IDENTITY in failing and client.identity is None):
        steps.append("let the caller have a sidecar and an identity")
    elif Clause.IDENTITY in failing and client.identity is not None:
        steps.append(f"add {client.identity.name} to the identities of {name}")
    if Clause.NETWORK in failing:
        steps.append(f"add {client.ip} to the networks of {name}")
    if Clause.TLS in failing or client.identity is None:
        return Remedy(" and ".join(steps))
    if authorization.metadata.kind == "default":
        return Remedy(f"change the default policy {authorization.metadata.name}, or add a policy")
    change = Widen(
        authorization.metadata,
        identity=client.identity if Clause.IDENTITY in failing else None,
        ip=client.ip if Clause.NETWORK in failing else "",
    )
    return Remedy(" and ".join(steps), change)


def _grant(policy: ServerPolicy, client: Client, refusal: Refusal) -> Remedy:
    target = refusal.route or policy.metadata
    if target.kind == "default":
        target = policy.metadata
    who = client.identity.name if client.identity is not None else client.ip
    if target.kind == "default":
        return Remedy(
            f"the port has the default policy {target.name} alone: add a Server that selects it,"
            f" and an AuthorizationPolicy on it for {who}"
        )
    change = Grant(target, client.identity, "" if client.identity is not None else client.ip)
    return Remedy(f"add an AuthorizationPolicy on {title_of(target)} for {who}", change)

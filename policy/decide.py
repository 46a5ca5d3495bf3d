"""Whether a connection may happen: a pure function of a policy and a client.

In this order (linkerd2-proxy, server-policy and inbound/policy, plus our denials):

1. a policy that cannot be used refuses everyone, the pod itself included;
2. the pod's own calls (``localhost``) are never denied;
3. the first denial that matches refuses;
4. the first authorization that admits is the one named in labels; ``localhost`` comes last;
5. nothing admits: refused, with every authorization tried and the clause of it that failed.

Policies in audit mode are evaluated beside this and never change the outcome. No I/O, no
clock; this module is compiled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, final

from discovery.model import Metadata, default_metadata
from policy.check import Check, address_number, describe_client
from policy.model import (
    Attempt,
    Audit,
    Authorization,
    Client,
    Permit,
    Refusal,
    ServerPolicy,
    Verdict,
)

MAX_PREPARED: Final = 1024
"""How many policies are kept prepared at once; the oldest goes first."""

_AUDIT: Final = default_metadata("audit")


@final
class Prepared:
    """A policy with its checks and with every permit it can give, made once."""

    __slots__ = (
        "admissions",
        "audited_denials",
        "audits",
        "denials",
        "has_audits",
        "invalid",
        "localhost",
        "policy",
    )

    def __init__(self, policy: ServerPolicy) -> None:
        self.policy: Final = policy
        self.localhost: Final = None if policy.localhost is None else Check(policy.localhost)
        denials = [Check(each, is_denial=True) for each in policy.denials]
        self.denials: Final = [each for each in denials if not each.authorization.is_audit]
        self.audited_denials: Final = [each for each in denials if each.authorization.is_audit]
        enforced = [each for each in policy.authorizations if not each.is_audit]
        if policy.localhost is not None:
            enforced.append(policy.localhost)
        self.admissions: Final = [
            (Check(each), _permit(policy.metadata, each)) for each in enforced
        ]
        self.audits: Final = [Check(each) for each in policy.authorizations if each.is_audit]
        self.has_audits: Final = bool(self.audits or self.audited_denials)
        self.invalid: Final = (
            Refusal(
                code="policy-invalid",
                server=policy.metadata,
                reason=f"the policy cannot be used: {policy.invalid}",
                hint="mend the resource; until then nobody is admitted",
            )
            if policy.invalid
            else None
        )


_prepared: dict[int, Prepared] = {}


def prepare(policy: ServerPolicy) -> Prepared:
    """Return the policy's prepared form, made at its first use."""
    found = _prepared.get(id(policy))
    # The table holds the policy itself, so its id cannot come to mean another while it is there.
    if found is not None and found.policy is policy:
        return found
    if len(_prepared) >= MAX_PREPARED:
        del _prepared[next(iter(_prepared))]
    made = Prepared(policy)
    _prepared[id(policy)] = made
    return made


def decide_connection(policy: ServerPolicy, client: Client) -> Verdict:
    """Decide about one connection by the authorizations of its port."""
    prepared = prepare(policy)
    if prepared.invalid is not None:
        return prepared.invalid
    address = address_number(client.ip)
    localhost = prepared.localhost
    is_local = localhost is not None and localhost.holds(address)
    if prepared.denials and not is_local:
        for check in prepared.denials:
            if check.failure(address, client) is None:
                denied = _denied(prepared, client, check.authorization.metadata)
                return _audited(prepared, denied, client) if prepared.has_audits else denied
    attempts: list[Attempt] = []
    for check, permit in prepared.admissions:
        failed = check.failure(address, client)
        if failed is None:
            return _audited(prepared, permit, client) if prepared.has_audits else permit
        attempts.append(failed)
    refused = _refused(prepared, client, attempts)
    return _audited(prepared, refused, client) if prepared.has_audits else refused


def _permit(server: Metadata, authorization: Authorization) -> Permit:
    return Permit(
        server=server,
        authorization=authorization.metadata,
        is_audit=authorization.metadata == _AUDIT,
    )


def _denied(prepared: Prepared, client: Client, denial: Metadata) -> Refusal:
    return Refusal(
        code="unauthorized",
        server=prepared.policy.metadata,
        reason=f"{denial.name} denies {describe_client(client)}",
        denial=denial,
    )


def _refused(prepared: Prepared, client: Client, attempts: list[Attempt]) -> Refusal:
    server = prepared.policy.metadata
    return Refusal(
        code="unauthorized",
        server=server,
        reason=f"no authorization on {server} admits {describe_client(client)}",
        attempts=(*attempts, *prepared.policy.void),
    )


def _audited(prepared: Prepared, verdict: Verdict, client: Client) -> Verdict:
    """Add what the policies in audit mode would have said.

    An audited allow is asked as if it stood in the place of the port's default policy: whom
    neither it nor another named authorization admits, it would keep out. An audited denial
    would keep out whom it matches.
    """
    address = address_number(client.ip)
    localhost = prepared.localhost
    is_local = localhost is not None and localhost.holds(address)
    is_kept = is_local or (
        isinstance(verdict, Permit) and not _is_port_default(verdict.authorization)
    )
    audits = [
        Audit(
            check.authorization.metadata,
            would_allow=is_kept or check.failure(address, client) is None,
        )
        for check in prepared.audits
    ]
    audits += [
        Audit(
            check.authorization.metadata,
            would_allow=is_local or check.failure(address, client) is not None,
        )
        for check in prepared.audited_denials
    ]
    return replace(verdict, audits=tuple(audits))


def _is_port_default(authorization: Metadata) -> bool:
    return authorization.kind == "default" and authorization.name not in {"localhost", "probe"}

"""``pillion policy audit``: what policies in audit mode would refuse, if they were enforced.

From the directory: everybody known is asked for, and whoever is admitted now and would not be is
told. From sidecars' metrics: what was really seen, by the counters that their decisions keep.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import field
from pathlib import Path
from typing import Final, final

from prometheus_client.parser import text_string_to_metric_families

from cli.output import Form, Json, write
from cli.policy.case import Target
from cli.policy.survey import EVERYTHING, Caller, asks_of, callers_of, ports_of
from control.offline import OfflineMesh
from core.errors import ConfigError
from core.record import dataclass
from discovery.model import Metadata
from policy.decide import decide_connection, decide_request, prepare
from policy.match import Request
from policy.model import Client, Permit, Protocol, ServerPolicy, Verdict
from policy.words import name_of, title_of
from resources.authorization_policy import AuthorizationPolicy
from resources.rate_limit_policy import RateLimitPolicy
from resources.server_authorization import ServerAuthorization

ALLOWED_METRIC: Final = "pillion_inbound_audit_allow"
DENIED_METRIC: Final = "pillion_inbound_audit_deny"
"""Counters of the sidecar, without ``_total``; labels as ``inbound_http_authz_allow_total``'s."""
MAX_METRICS_BYTES: Final = 64 * 1024 * 1024
TIMEOUT_S: Final = 10.0

_AUDITABLE: Final = (AuthorizationPolicy, ServerAuthorization, RateLimitPolicy)


@final
@dataclass(slots=True)
class Report:
    """What one policy in audit mode would do."""

    policy: Metadata
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Who and what is admitted now and would not be."""
    admitted: list[tuple[str, str]] = field(default_factory=list)
    """Who and what is refused now and would be admitted."""
    seen_allowed: dict[str, int] = field(default_factory=dict)
    seen_denied: dict[str, int] = field(default_factory=dict)
    """By client, as counted by the sidecars asked."""


def audit_mesh(mesh: OfflineMesh, wanted: str, metrics: tuple[str, ...]) -> list[Report]:
    """Return a report for each policy in audit mode. Raises ConfigError when none is meant."""
    reports = {
        (each.kind, each.name, each.namespace): Report(each) for each in _audited(mesh)
        if not wanted or wanted == name_of(each)
    }  # fmt: skip
    if wanted and not reports:
        raise ConfigError(f"no policy {wanted} is in audit mode (annotation pillion.dev/mode)")
    policies = [
        (target, mesh.policy(workload.pod.meta.key, target.port))
        for workload in mesh.workloads
        for target in ports_of(mesh, workload)
    ]
    callers = callers_of(mesh, [policy for _, policy in policies])
    for target, policy in policies:
        if prepare(policy).has_audits:
            for caller in callers:
                _ask(reports, target, policy, caller)
    for source in metrics:
        _read_metrics(source, reports)
    return list(reports.values())


def show_audit(form: Form, reports: list[Report]) -> None:
    """Print the reports."""

    def lines(report: Report) -> list[str]:
        callers = len({caller for caller, _ in report.refused})
        effect = f"{callers} of the known callers would be refused what they have now"
        found = [f"{title_of(report.policy)}: if enforced, {effect}"]
        found += [f"  refused   {caller}   {what}" for caller, what in report.refused]
        found += [f"  admitted  {caller}   {what}" for caller, what in report.admitted]
        if report.seen_allowed or report.seen_denied:
            denied, allowed = (sum(each.values()) for each in
                               (report.seen_denied, report.seen_allowed))  # fmt: skip
            found.append(f"  seen      {denied} of {denied + allowed} would be refused")
            found += [f"  seen      {count:>8}  {who}" for who, count in report.seen_denied.items()]
        return found

    data: Json = {
        "policies": [
            {
                "kind": each.policy.kind,
                "namespace": each.policy.namespace,
                "name": each.policy.name,
                "refused": [{"caller": who, "to": what} for who, what in each.refused],
                "admitted": [{"caller": who, "to": what} for who, what in each.admitted],
                "seen": {"allowed": each.seen_allowed, "denied": each.seen_denied},
            }
            for each in reports
        ]
    }
    none = "no policy is in audit mode"
    write(
        form,
        data,
        table=lambda: "\n".join(line for each in reports for line in lines(each)) or none,
        short=lambda: "\n".join(lines(each)[0] for each in reports) or none,
    )


def _audited(mesh: OfflineMesh) -> list[Metadata]:
    found = []
    for each in mesh.resources:
        if isinstance(each, _AUDITABLE) and each.is_audit:
            key = each.meta.key
            # As decisions name them: authorizations in lower case, limits not.
            kind = key.kind if isinstance(each, RateLimitPolicy) else key.kind.lower()
            found.append(
                Metadata(kind=kind, name=key.name, group=key.group, namespace=key.namespace)
            )
    return sorted(found, key=lambda each: (each.namespace, each.kind, each.name))


def _decide(policy: ServerPolicy, client: Client, request: Request | None) -> Verdict:
    if request is None or policy.protocol in {Protocol.OPAQUE, Protocol.TLS}:
        return decide_connection(policy, client)
    return decide_request(policy, client, request)


def _ask(
    reports: dict[tuple[str, str, str], Report],
    target: Target,
    policy: ServerPolicy,
    caller: Caller,
) -> None:
    """Ask everything for one caller, and note what each audited policy would change."""
    asks = asks_of(policy)
    changed: dict[tuple[tuple[str, str, str], bool], list[str]] = {}
    for ask in asks:
        verdict = _decide(policy, caller.client, ask.request)
        for audit in verdict.audits:
            named = audit.authorization
            key = (named.kind, named.name, named.namespace)
            if key in reports and audit.would_allow is not isinstance(verdict, Permit):
                changed.setdefault((key, audit.would_allow), []).append(ask.name)
    for (key, would_allow), names in changed.items():
        told = reports[key].admitted if would_allow else reports[key].refused
        whole = len(names) == len(asks) > 1
        told += [(caller.name, f"{target} {name}") for name in ([EVERYTHING] if whole else names)]


def _read_metrics(source: str, reports: dict[tuple[str, str, str], Report]) -> None:
    # Labels have all kinds in lower case.
    by_name = {(kind.lower(), name): report for (kind, name, _), report in reports.items()}
    for family in text_string_to_metric_families(_fetch(source)):
        if family.name not in {ALLOWED_METRIC, DENIED_METRIC}:
            continue
        for sample in family.samples:
            labels = sample.labels
            report = by_name.get((labels.get("authz_kind", ""), labels.get("authz_name", "")))
            if report is None or not sample.name.endswith("_total"):
                continue
            seen = report.seen_denied if family.name == DENIED_METRIC else report.seen_allowed
            who = labels.get("client_id") or f"without identity ({labels.get('tls', 'unknown')})"
            seen[who] = seen.get(who, 0) + int(sample.value)


def _fetch(source: str) -> str:
    try:
        if source.startswith(("http://", "https://")):
            with urllib.request.urlopen(source, timeout=TIMEOUT_S) as answer:  # noqa: S310
                data: bytes = answer.read(MAX_METRICS_BYTES)
        else:
            data = Path(source).read_bytes()[:MAX_METRICS_BYTES]
        return data.decode("utf-8")
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise ConfigError(f"{source}: cannot be read: {error}") from None

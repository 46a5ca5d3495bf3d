"""``pillion policy diff``: whose access differs between two directories."""

from __future__ import annotations

from dataclasses import replace
from typing import final

from cli.output import Form, Json, write
from cli.policy.case import Target
from cli.policy.survey import EVERYTHING, Ask, Caller, asks_of, callers_of, ports_of
from control.offline import OfflineMesh
from core.record import dataclass
from policy.judge import judge
from policy.model import Permit, ServerPolicy
from policy.words import title_of, verdict_word


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One caller's access to one thing, before and after."""

    to: str
    """Workload and port: pods of one owner with equal policies are told once."""
    request: str
    caller: str
    before: str
    after: str
    why: str
    """What admits or refuses now."""


def compare(old: OfflineMesh, new: OfflineMesh) -> list[Change]:
    """Return what differs for pods that both directories have."""
    pairs: dict[tuple[str, ServerPolicy, ServerPolicy], Target] = {}
    known = {each.pod.meta.key for each in old.workloads}
    for workload in new.workloads:
        key = workload.pod.meta.key
        if key not in known:
            continue
        before = old.workload(key.namespace, key.name)
        targets = dict.fromkeys(ports_of(new, workload))
        if before is not None:
            targets |= dict.fromkeys(ports_of(old, before))
        for target in targets:
            policies = old.policy(key, target.port), new.policy(key, target.port)
            if policies[0] != policies[1]:
                kind, name = workload.owner
                place = f"{key.namespace}/{name if kind != 'pod' else key.name}:{target.port}"
                pairs.setdefault((place, *policies), target)
    changed = [policy for _, *both in pairs for policy in both]
    callers = {each.name: each for mesh in (old, new) for each in callers_of(mesh, changed)}
    found: list[Change] = []
    for place, before_policy, after_policy in pairs:
        asks = asks_of(before_policy, after_policy)
        for caller in callers.values():
            own = [_change(place, ask, caller, before_policy, after_policy) for ask in asks]
            found += _together([each for each in own if each is not None], len(asks))
    return found


def show_changes(form: Form, changes: list[Change]) -> None:
    """Print what differs."""
    gained = sum(each.after == "allow" for each in changes)
    lost = sum(each.before == "allow" for each in changes)
    summary = f"{gained} gain access, {lost} lose it, {len(changes)} differ in all"

    def table() -> str:
        lines: list[str] = []
        last = ("", "")
        for each in changes:
            if (each.to, each.request) != last:
                last = (each.to, each.request)
                lines.append(f"{each.to}  {each.request}")
            lines.append(f"    {each.before} → {each.after}  {each.caller}   ({each.why})")
        return "\n".join([*lines, summary])

    data: Json = {
        "gained": gained,
        "lost": lost,
        "changes": [
            {
                "to": each.to,
                "request": each.request,
                "caller": each.caller,
                "before": each.before,
                "after": each.after,
                "why": each.why,
            }
            for each in changes
        ],
    }
    write(form, data, table=table, short=lambda: summary)


def _together(changes: list[Change], asked: int) -> list[Change]:
    """Return changes that are the same for everything that was asked as one."""
    if len(changes) == asked > 1 and len({(each.before, each.after) for each in changes}) == 1:
        return [replace(changes[0], request=EVERYTHING)]
    return changes


def _change(
    place: str, ask: Ask, caller: Caller, before: ServerPolicy, after: ServerPolicy
) -> Change | None:
    then = judge(before, caller.client, ask.request, is_grpc=ask.is_grpc).verdict
    now = judge(after, caller.client, ask.request, is_grpc=ask.is_grpc).verdict
    if verdict_word(then) == verdict_word(now):
        return None
    why = title_of(now.authorization) if isinstance(now, Permit) else now.reason
    return Change(
        to=place,
        request=ask.name,
        caller=caller.name,
        before=verdict_word(then),
        after=verdict_word(now),
        why=why,
    )

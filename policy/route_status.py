"""The status of a route on its Services (Gateway API, RouteParentStatus): a value, nothing more.

Whoever keeps routes in a Kubernetes cluster can write it there; ``pillion check`` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, final

from core.record import dataclass
from policy.route_attach import FindService, attached_ports, bad_backend, detached
from resources.route import MirrorFilter, ParentRef, Route, RouteFilter, RouteRule, UnknownFilter

CONTROLLER: Final = "pillion.dev/route-controller"
"""Who says so (Gateway API, GatewayController: domain and path)."""
_MAX_WORDS: Final = 1024


@final
@dataclass(frozen=True, slots=True)
class Condition:
    """One of the conditions that the Gateway API names."""

    type: str
    is_true: bool
    reason: str
    message: str
    observed_generation: int | None
    """The generation of the route that this is about."""

    def __str__(self) -> str:
        if self.is_true and self.type == self.reason:
            return self.type
        return f"{self.type}={self.is_true} ({self.reason}): {self.message}"


@final
@dataclass(frozen=True, slots=True)
class ParentStatus:
    """What is said of a route on one of its parents."""

    parent: ParentRef
    conditions: tuple[Condition, ...]

    @property
    def is_fine(self) -> bool:
        """Whether the route is in force as it is written."""
        return all(each.is_true is (each.type != "PartiallyInvalid") for each in self.conditions)

    def as_data(self) -> dict[str, Any]:
        """Return it as an entry of ``status.parents``; times are the writer's to add."""
        parent = self.parent
        reference: dict[str, Any] = {
            "group": parent.group,
            "kind": parent.kind,
            "namespace": parent.namespace,
            "name": parent.name,
        }
        if parent.section:
            reference["sectionName"] = parent.section
        if parent.port is not None:
            reference["port"] = parent.port
        return {
            "parentRef": reference,
            "controllerName": CONTROLLER,
            "conditions": [_as_data(each) for each in self.conditions],
        }


def route_status(
    route: Route, routes: Iterable[Route], find: FindService
) -> tuple[ParentStatus, ...]:
    """Return a route's status, a part for each of its parents that is a Service, in their order.

    ``routes`` are all there are: a GRPCRoute on the same port puts an HTTPRoute out of force.
    """
    rivals = [
        each
        for each in routes
        if each.is_grpc and not route.is_grpc and each.meta.namespace == route.meta.namespace
    ]
    return tuple(
        ParentStatus(
            parent,
            (
                *_accepted(route, parent, rivals, find),
                _resolved(route, find),
            ),
        )
        for parent in route.parents
        if parent.is_service
    )


def _accepted(
    route: Route, parent: ParentRef, rivals: list[Route], find: FindService
) -> tuple[Condition, ...]:
    generation = route.meta.generation
    service = find(parent.namespace, parent.name)

    def refused(reason: str, message: str) -> tuple[Condition, ...]:
        return (Condition("Accepted", False, reason, message[:_MAX_WORDS], generation),)  # noqa: FBT003

    nowhere = detached(parent, service)
    if nowhere:
        return refused("NoMatchingParent", nowhere)
    ports = attached_ports(parent, service)
    for rival in rivals:
        for other in rival.parents:
            same = other.is_service and (other.namespace, other.name) == (
                parent.namespace,
                parent.name,
            )
            if same and ports <= attached_ports(other, service):
                return refused(
                    "RouteReasonConflicted",
                    f"{rival.meta.key} is attached to the same ports, and calls go first",
                )
    wrong = [_unusable(each) for each in route.rules]
    if wrong and all(wrong):
        return refused("UnsupportedValue", wrong[0])
    accepted = Condition("Accepted", True, "Accepted", "", generation)  # noqa: FBT003
    if not any(wrong):
        return (accepted,)
    first = next(each for each in wrong if each)
    message = f"Dropped Rule: {first}"
    return (
        accepted,
        Condition("PartiallyInvalid", True, "UnsupportedValue", message, generation),  # noqa: FBT003
    )


def _unusable(rule: RouteRule) -> str:
    """Say why a rule answers nothing but errors; empty when it does not."""
    for each in rule.filters:
        if isinstance(each, UnknownFilter):
            return f"nobody here can carry out {each.type}"
    return ""


def _resolved(route: Route, find: FindService) -> Condition:
    generation = route.meta.generation
    reasons: list[str] = []
    words: list[str] = []
    for rule in route.rules:
        references = [*rule.backends, *_mirrors(rule.filters)]
        for backend in rule.backends:
            references += _mirrors(backend.filters)
        for each in references:
            reason, message = bad_backend(each, find)
            if reason and message not in words:
                reasons.append(reason)
                words.append(message)
        filters = [*rule.filters, *(each for ref in rule.backends for each in ref.filters)]
        if any(isinstance(each, UnknownFilter) for each in filters):
            reasons.append("InvalidKind")
            words.append("a filter refers to what nobody here can carry out")
    if reasons:
        said = "; ".join(words)[:_MAX_WORDS]
        return Condition("ResolvedRefs", False, reasons[0], said, generation)  # noqa: FBT003
    return Condition("ResolvedRefs", True, "ResolvedRefs", "", generation)  # noqa: FBT003


def _mirrors(filters: Iterable[RouteFilter]) -> list[Any]:
    return [each.backend for each in filters if isinstance(each, MirrorFilter)]


def _as_data(condition: Condition) -> dict[str, Any]:
    data: dict[str, Any] = {
        "type": condition.type,
        "status": str(condition.is_true),
        "reason": condition.reason,
        "message": condition.message,
    }
    if condition.observed_generation is not None:
        data["observedGeneration"] = condition.observed_generation
    return data

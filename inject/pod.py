"""One pod: whether it gets a sidecar, and the patch that gives it one. A pure function.

What is to be injected and cannot be is a problem, never a silent skip: a pod that runs without its
sidecar because of a typing mistake is open to everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Final, final

from core.record import dataclass
from inject.annotation import INJECT, Annotations
from inject.container import INIT, SIDECAR, app_variables, init_container, sidecar_container
from inject.draft import Draft, is_marked
from inject.facts import Facts, read_facts
from inject.options import Options, Surroundings
from inject.patch import Json, Operation
from inject.settings import Settings, read_settings
from inject.volume import RULES_LOCK, sidecar_mounts

CONTROL_LABEL: Final = "linkerd.io/control-plane-ns"
NAMESPACE_LABEL: Final = "linkerd.io/workload-ns"

_MODES: Final = ("enabled", "disabled", "ingress")
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_SIDECARS: Final = re.compile(r"(?:.*/)?(?:linkerd/proxy(?:-init)?|istio/proxyv2)(?:[:@].*)?")
"""Images of other sidecars (linkerd2, pkg/healthcheck/sidecar.go)."""
_SIDECAR_NAMES: Final = frozenset({"istio-proxy", "istio-init"})


class Skip(Enum):
    """Why a pod gets no sidecar, in Linkerd's words where it has one."""

    HOST_NETWORK = "host_network_enabled"
    SIDECAR = "sidecar_already_exists"
    DISABLED = "injection_disable_annotation_present"
    NOT_ASKED = "injection_enable_annotation_absent"
    WRONG_AT_WORKLOAD = "invalid_inject_annotation_at_workload"
    WRONG_AT_NAMESPACE = "invalid_inject_annotation_at_ns"
    WINDOWS = "windows_node"


REASONS: Final = {
    Skip.HOST_NETWORK: "the pod is on the host's network, which is not the pod's to capture",
    Skip.SIDECAR: "there is a sidecar already",
    Skip.DISABLED: f"{INJECT} is disabled",
    Skip.NOT_ASKED: f"neither the pod nor its namespace has {INJECT}",
    Skip.WRONG_AT_WORKLOAD: f"the pod's {INJECT} is none of {', '.join(_MODES)}",
    Skip.WRONG_AT_NAMESPACE: f"the namespace's {INJECT} is none of {', '.join(_MODES)}",
    Skip.WINDOWS: "the pod runs on Windows, and the sidecar does not",
}
"""Each reason for people."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """What comes of one pod: a patch, or the reason why there is none, or what is wrong."""

    operations: tuple[Operation, ...] = ()
    skipped: Skip | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was done, and what has no effect."""


def inject_pod(pod: dict[str, Json], around: Surroundings, options: Options) -> Injection:
    """Return what becomes of a pod, or of a pod template, in its surroundings."""
    facts, problems = read_facts(pod)
    if is_marked(pod):
        return Injection(skipped=Skip.SIDECAR)
    if problems:
        return Injection(problems=tuple(problems))
    skipped = _skip(facts, around, options)
    if skipped is not None:
        return Injection(skipped=skipped)
    annotations = Annotations(facts.annotations, around.annotations)
    settings, problems = read_settings(annotations, facts, options)
    problems = [*problems, *_conflicts(facts, settings, options)]
    if problems:
        return Injection(problems=tuple(problems))
    operations = _write(pod, facts, annotations, settings, around, options)
    notes = (*_done(settings, facts, options), *_remarks(facts, annotations))
    return Injection(operations=operations, notes=notes)


def _skip(facts: Facts, around: Surroundings, options: Options) -> Skip | None:
    own, namespace = facts.annotations.get(INJECT), around.annotations.get(INJECT)
    if facts.is_host_network:
        return Skip.HOST_NETWORK
    if facts.is_windows:
        return Skip.WINDOWS
    if any(_is_sidecar(each.name, each.image) for each in facts.all_containers):
        return Skip.SIDECAR
    if own is not None and own not in _MODES:
        return Skip.WRONG_AT_WORKLOAD
    if namespace is not None and namespace not in _MODES and own is None:
        return Skip.WRONG_AT_NAMESPACE
    mode = own or namespace
    if mode == "disabled":
        return Skip.DISABLED
    return Skip.NOT_ASKED if mode is None and options.needs_annotation else None


def _is_sidecar(name: str, image: str) -> bool:
    return name in _SIDECAR_NAMES or _SIDECARS.fullmatch(image) is not None


def _conflicts(facts: Facts, settings: Settings, options: Options) -> Iterator[str]:
    """Yield why the sidecar cannot stand beside what is in the pod."""
    ours = {SIDECAR} if settings.is_explicit else {SIDECAR, INIT}
    for each in facts.all_containers:
        if each.name in ours:
            yield (
                f"there is a container {each.name} already, of the image {each.image[:80]!r}: "
                "rename it, or if it is a sidecar, uninject what put it there"
            )
    mounts = {each.name for each in sidecar_mounts(settings, options)}
    for name in sorted((mounts | {RULES_LOCK.name}) & {*facts.volumes}):
        yield f"there is a volume {name} already: rename it"
    own = {settings.inbound_port, settings.outbound_port, settings.admin_port}
    for each in facts.all_containers:
        for port in each.ports:
            if port.number in own and port.protocol == "TCP":
                yield (
                    f"container {each.name} has port {port.number}, which is the sidecar's: choose "
                    "others by config.linkerd.io/inbound-port, outbound-port or admin-port"
                )
        if each.run_as_user == settings.uid and not settings.is_explicit:
            yield (
                f"container {each.name} runs as user {settings.uid}, the sidecar's own: nothing of "
                "it would be captured; choose another by config.linkerd.io/proxy-uid"
            )
    if not options.controller and facts.fs_group is None and facts.claims:
        yield (
            f"the pod keeps data ({', '.join(facts.claims)}) and has no securityContext.fsGroup: "
            "the sidecar reads its Secret by that group, which also becomes that of the data's "
            f"files; set it yourself ({settings.gid} will do where nothing else is needed)"
        )


def _write(
    pod: dict[str, Json],
    facts: Facts,
    annotations: Annotations,
    settings: Settings,
    around: Surroundings,
    options: Options,
) -> tuple[Operation, ...]:
    draft = Draft(pod)
    for name, value in annotations.inherited().items():
        draft.put(("metadata", "annotations"), name, value)
    draft.put(("metadata", "annotations"), "linkerd.io/created-by", options.created_by)
    for name, value in _labels(around, options).items():
        draft.put(("metadata", "labels"), name, value)
    if not options.controller and facts.fs_group is None:
        draft.put(("spec", "securityContext"), "fsGroup", settings.gid)
    if settings.is_explicit:
        _tell_apps(draft, facts, settings)
    for mount in sidecar_mounts(settings, options):
        draft.append(("spec", "volumes"), mount.volume())
    sidecar = sidecar_container(settings, options)
    init = None if settings.is_explicit else init_container(settings, options)
    if settings.is_native:
        draft.prepend(("spec", "initContainers"), sidecar)
        if init is not None:
            draft.prepend(("spec", "initContainers"), init)
    else:
        draft.prepend(("spec", "containers"), sidecar)
        if init is not None:
            # Last: until the sidecar runs, nothing that is captured goes anywhere.
            draft.append(("spec", "initContainers"), init)
    if init is not None:
        draft.append(("spec", "volumes"), RULES_LOCK.volume())
    return draft.finish()


def _tell_apps(draft: Draft, facts: Facts, settings: Settings) -> None:
    """Tell the pod's programs where the sidecar listens; what they have already stays."""
    kinds = {"containers": facts.containers}
    if settings.is_native:
        kinds["initContainers"] = facts.init_containers
    for kind, containers in kinds.items():
        for index, container in enumerate(containers):
            for variable in reversed(app_variables(settings)):
                if variable["name"] not in container.variables:
                    draft.prepend(("spec", kind, str(index), "env"), variable)


def _labels(around: Surroundings, options: Options) -> dict[str, str]:
    labels = {
        CONTROL_LABEL: options.control_namespace,
        NAMESPACE_LABEL: around.namespace,
        f"linkerd.io/proxy-{around.owner_kind.lower()}": around.owner_name,
    }
    if around.owner_kind == "Pod":
        labels.popitem()
    return {name: value for name, value in labels.items() if _LABEL_VALUE.fullmatch(value)}


def _done(settings: Settings, facts: Facts, options: Options) -> Iterator[str]:
    """Yield what was done, in a line, and what it means for the rest of the pod."""
    form = "native sidecar" if settings.is_native else "ordinary container"
    capture = "explicit capture" if settings.is_explicit else f"{INIT} sets the capture rules"
    control = f"controlled by {options.controller}" if options.controller else "embedded control"
    yield f"{SIDECAR} as {form}; {capture}; {control}"
    if not options.controller and facts.fs_group is None:
        yield f"securityContext.fsGroup is {settings.gid} now, for the identity's Secret"
    if not settings.is_native and facts.init_containers and settings.is_explicit:
        yield "init containers run before the sidecar, and have no way out by it"


def _remarks(facts: Facts, annotations: Annotations) -> Iterator[str]:
    ports = [port for each in facts.all_containers for port in each.ports]
    other = sorted({f"{each.number}/{each.protocol}" for each in ports if each.protocol != "TCP"})
    if other:
        yield f"{', '.join(other)} stays outside the mesh, which carries TCP"
    if annotations.get(INJECT) == "ingress":
        yield f"{INJECT}: ingress is taken as enabled"
    yield from annotations.remarks()

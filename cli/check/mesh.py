"""Checks of the mesh directory and of our pod in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import final

from cli.check.finding import Check, Finding, bad, good, warning
from control.offline import OfflineMesh
from core.nearest import nearest_name
from policy.lint import lint
from policy.route_status import route_status
from policy.traffic import traffic_of
from resources.route import Route
from resources.service import Service


@final
class MeshChecks:
    """Reads the directory once, for all of them."""

    def __init__(self, directory: Path, who: tuple[str, str] | None, now: float) -> None:
        self._directory = directory
        self._who = who
        self._now = now

    def __iter__(self) -> Iterator[Check]:
        yield Check("mesh-readable", "the mesh directory can be read", self._readable)
        if not self._directory.is_dir():
            return
        yield Check("mesh-clean", "every document in it can be used", self._clean)
        yield Check("mesh-policies", "every policy in it has an effect", self._policies)
        yield Check("mesh-routes", "every route on a Service is in force", self._routes)
        if self._who is not None:
            name = "/".join(self._who)
            yield Check("mesh-pod", f"{name} is a meshed pod with an address", self._pod)

    @property
    def trust_domain(self) -> str:
        """The mesh's, as its settings or their defaults say."""
        return self._mesh.config.trust_domain

    @cached_property
    def _mesh(self) -> OfflineMesh:
        return OfflineMesh(str(self._directory), datetime.fromtimestamp(self._now, UTC))

    def _readable(self) -> Finding:
        if not self._directory.exists():
            return bad(
                f"{self._directory} is not there",
                remedy="make it, or name another with --mesh or PILLION_MESH_DIR",
            )
        if not self._directory.is_dir():
            return bad(f"{self._directory} is no directory", remedy="name the directory it is in")
        closed = [str(path) for path in _tree(self._directory) if not _is_open(path)]
        if closed:
            return warning(
                *(f"{path} is closed to the sidecar's user, who is in no group" for path in closed),
                remedy=f"chmod -R o+rX {self._directory}",
            )
        return good(f"{len(self._mesh.resources)} objects in {self._directory}")

    def _clean(self) -> Finding:
        mesh = self._mesh
        problems = [str(problem) for problem in mesh.problems]
        if mesh.blocks:
            closed = {each.namespace or "every namespace" for each in mesh.blocks}
            return bad(
                *problems,
                f"a sidecar that starts now closes the ports of {', '.join(sorted(closed))}",
                remedy="mend or remove the documents that are named",
            )
        if problems:
            return warning(*problems, remedy="mend or remove what is named")
        return good()

    def _policies(self) -> Finding:
        found = [str(each) for each in lint(self._mesh.resources)]
        if found:
            return warning(*found, remedy=f"pillion policy lint --mesh {self._directory}")
        return good()

    def _routes(self) -> Finding:
        resources = self._mesh.resources
        routes = [each for each in resources if isinstance(each, Route)]
        services = {
            (each.meta.namespace, each.meta.name): each
            for each in resources
            if isinstance(each, Service)
        }
        held: list[str] = []
        wrong: list[str] = []
        for route in routes:
            said = route_status(route, routes, lambda *name: services.get(name))
            for each in said:
                parent = each.parent
                on = f"{route.meta.key} on Service {parent.namespace}/{parent.name}"
                words = ", ".join(str(condition) for condition in each.conditions)
                (held if each.is_fine else wrong).append(f"{on}: {words}")
            if said and route.hostnames:
                wrong.append(f"{route.meta.key}: hostnames mean nothing on a Service; match Host")
            if said:
                problems = traffic_of(route.meta.annotations).problems
                wrong += [f"{route.meta.key}: {each}" for each in problems]
        if wrong:
            return warning(*wrong, *held, remedy="see docs/routes.md for what is named")
        return good(*held)

    def _pod(self) -> Finding:
        who = self._who or ("", "")
        name = "/".join(who)
        workload = self._mesh.workload(*who)
        if workload is None:
            others = [
                f"{each.pod.meta.namespace}/{each.pod.meta.name}" for each in self._mesh.workloads
            ]
            near = nearest_name(name, others)
            hint = f"did you mean {near}?" if near else f"there are {len(others)} others"
            return bad(f"it has no usable manifest; {hint}", remedy="write its manifest")
        if workload.identity is None:
            return bad(
                "it is not meshed: its service account gets no identity",
                remedy="annotate it, or its Namespace, with linkerd.io/inject: enabled",
            )
        if not workload.pod.ips:
            return bad("it has no address", remedy="set status.podIPs in its manifest")
        return good(f"{workload.identity}, at {', '.join(workload.pod.ips)}")


def _tree(directory: Path) -> Iterator[Path]:
    yield directory
    for path in sorted(directory.rglob("*")):
        if not any(part.startswith(".") for part in path.relative_to(directory).parts):
            yield path


def _is_open(path: Path) -> bool:
    """Whether everybody, and so the sidecar's user, may read a file or list a folder."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return bool(mode & 0o004 and (mode & 0o001 or not path.is_dir()))

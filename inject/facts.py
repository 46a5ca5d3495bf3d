"""What injection has to know of a pod, read from its JSON; what cannot be read is a problem.

Everything else of a pod is left alone and never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from core.record import dataclass
from inject.patch import Json

DEFAULT_GRACE_S: Final = 30
"""Kubernetes' own ``terminationGracePeriodSeconds``."""
MAX_CONTAINERS: Final = 500
"""Containers of one pod that are looked at, either kind."""

_CLAIMS: Final = ("persistentVolumeClaim", "ephemeral")


@final
@dataclass(frozen=True, slots=True)
class Port:
    """A container's port."""

    name: str
    number: int
    protocol: str


@final
@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod."""

    name: str
    image: str
    ports: tuple[Port, ...]
    run_as_user: int | None
    """Its own, or else the pod's; None: the image decides."""
    mounts: tuple[str, ...]
    variables: frozenset[str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A pod, as far as injection needs it."""

    annotations: dict[str, str]
    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...]
    volumes: tuple[str, ...]
    claims: tuple[str, ...]
    """Volumes that outlive the pod, and those that the template does not hold itself."""
    fs_group: int | None
    grace_s: int
    is_host_network: bool
    is_windows: bool

    @property
    def all_containers(self) -> tuple[Container, ...]:
        """Return containers of both kinds."""
        return (*self.containers, *self.init_containers)

    def numbers_of(self, name: str) -> tuple[int, ...]:
        """Return the numbers of the ports of this name."""
        found = (port for each in self.all_containers for port in each.ports if port.name == name)
        return tuple(dict.fromkeys(port.number for port in found))


def read_facts(pod: dict[str, Json]) -> tuple[Facts, list[str]]:
    """Return the facts and what could not be read."""
    read = _Reader()
    metadata = read.map(pod, "metadata", "metadata")
    spec = read.map(pod, "spec", "spec")
    security = read.map(spec, "securityContext", "spec.securityContext")
    user = read.number(security, "runAsUser", "spec.securityContext")
    containers = tuple(read.containers(spec, "containers", user))
    if not containers and not read.problems:
        read.problems.append("spec.containers: wanted at least one container")
    init_containers = tuple(read.containers(spec, "initContainers", user))
    volumes = [
        each
        for index, each in enumerate(read.items(spec, "volumes", "spec"))
        if read.name(each, f"spec.volumes[{index}]")
    ]
    names = tuple(str(each["name"]) for each in volumes)
    mounts = {mount for each in (*containers, *init_containers) for mount in each.mounts}
    claimed = {str(each["name"]) for each in volumes if any(each.get(key) for key in _CLAIMS)}
    grace = read.number(spec, "terminationGracePeriodSeconds", "spec")
    system = read.map(spec, "os", "spec.os").get("name")
    selector = read.map(spec, "nodeSelector", "spec.nodeSelector")
    read.texts(metadata, "labels", "metadata")
    facts = Facts(
        annotations=read.texts(metadata, "annotations", "metadata"),
        containers=containers,
        init_containers=init_containers,
        volumes=names,
        claims=tuple(sorted(claimed | (mounts - set(names)))),
        fs_group=read.number(security, "fsGroup", "spec.securityContext"),
        grace_s=DEFAULT_GRACE_S if grace is None else grace,
        is_host_network=spec.get("hostNetwork") is True,
        is_windows=system == "windows" or selector.get("kubernetes.io/os") == "windows",
    )
    return facts, read.problems


@final
class _Reader:
    """Reads maps and lists of JSON, noting what is none."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def map(self, owner: dict[str, Json], key: str, path: str) -> dict[str, Json]:
        value = owner.get(key)
        if value is not None and not isinstance(value, dict):
            self.problems.append(f"{path}: wanted a map")
        return value if isinstance(value, dict) else {}

    def items(self, owner: dict[str, Json], key: str, path: str) -> list[dict[str, Json]]:
        value = owner.get(key)
        elements = value if isinstance(value, list) else []
        found = [each for each in elements if isinstance(each, dict)]
        if (value is not None and not isinstance(value, list)) or len(found) < len(elements):
            self.problems.append(f"{path}.{key}: wanted a list of maps")
        return found

    def texts(self, owner: dict[str, Json], key: str, path: str) -> dict[str, str]:
        found = self.map(owner, key, f"{path}.{key}")
        wrong = [name for name, value in found.items() if not isinstance(value, str)]
        self.problems += [f"{path}.{key}.{name}: wanted a string; quote it" for name in wrong]
        return {name: value for name, value in found.items() if isinstance(value, str)}

    def number(self, owner: dict[str, Json], key: str, path: str) -> int | None:
        value = owner.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.problems.append(f"{path}.{key}: wanted a number")
            return None
        return value

    def name(self, owner: dict[str, Json], path: str) -> str:
        value = owner.get("name")
        if not isinstance(value, str) or not value:
            self.problems.append(f"{path}.name: wanted a name")
            return ""
        return value

    def containers(self, spec: dict[str, Json], key: str, user: int | None) -> Iterator[Container]:
        elements = self.items(spec, key, "spec")
        if len(elements) > MAX_CONTAINERS:
            self.problems.append(f"spec.{key}: has more than {MAX_CONTAINERS} containers")
            return
        for index, each in enumerate(elements):
            path = f"spec.{key}[{index}]"
            security = self.map(each, "securityContext", f"{path}.securityContext")
            own = self.number(security, "runAsUser", f"{path}.securityContext")
            image = each.get("image")
            variables = self.items(each, "env", path)
            yield Container(
                name=self.name(each, path),
                image=image if isinstance(image, str) else "",
                ports=tuple(self._ports(each, path)),
                run_as_user=user if own is None else own,
                mounts=tuple(
                    str(mount.get("name")) for mount in self.items(each, "volumeMounts", path)
                ),
                variables=frozenset(str(variable.get("name")) for variable in variables),
            )

    def _ports(self, container: dict[str, Json], path: str) -> Iterator[Port]:
        for index, each in enumerate(self.items(container, "ports", path)):
            number = self.number(each, "containerPort", f"{path}.ports[{index}]")
            if number is None or not 1 <= number <= 65_535:
                self.problems.append(f"{path}.ports[{index}].containerPort: wanted a port")
                continue
            name, protocol = each.get("name"), each.get("protocol")
            yield Port(
                name if isinstance(name, str) else "",
                number,
                protocol if isinstance(protocol, str) else "TCP",
            )

"""Everything that decides about one pod's sidecar, read and checked as a whole."""

from __future__ import annotations

import json
from typing import Final, final

from core.duration import parse_duration
from core.record import dataclass
from inject.annotation import ALPHA, CONFIG, OURS, Annotations
from inject.facts import Facts
from inject.options import CAPTURES, Options
from inject.patch import Json
from inject.read import MAX_ID, Reader
from resources.ports import parse_ports

PROXY_UID: Final = 2102
DEFAULT_SKIP_PORTS: Final = "4567,4568"
"""Galera's cluster ports, as Linkerd and ``pillion redirect`` have it."""
CPU: Final = ("100m", "")
"""The sidecar's request and limit without annotations; empty: none."""
MEMORY: Final = ("64Mi", "256Mi")
GRACE_MARGIN_S: Final = 5
"""How much earlier than the kubelet's kill the sidecar gives up draining."""
MAX_ADDED_VARIABLES: Final = 100

MAX_APP_PORTS: Final = 256
"""As many as the sidecar takes."""

_WAIT_BEFORE_EXIT: Final = "proxy-wait-before-exit-seconds"


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """Request and limit of a resource; empty: none."""

    request: str
    limit: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the sidecar and its init container are made from."""

    image: str
    init_image: str
    pull_policy: str
    inbound_port: int
    outbound_port: int
    admin_port: int
    skip_inbound: str
    skip_outbound: str
    skip_subnets: str
    cpu: Limits
    memory: Limits
    storage: Limits
    uid: int
    gid: int
    has_own_group: bool
    """Whether the group is the sidecar's alone, and exempt from capture like its user."""
    log_level: str
    log_format: str
    access_log: str
    """``json`` or ``apache``; empty: requests are not logged."""
    outbound_connect_timeout: str
    inbound_connect_timeout: str
    detects_for_ever: bool
    """Whether a client may take its time to show what it speaks."""
    is_gateway: bool
    is_awaited: bool
    has_shutdown: bool
    grace: str
    is_native: bool
    wait_before_exit_s: int
    added: tuple[dict[str, Json], ...]
    """Variables that an annotation adds."""
    is_explicit: bool
    app_ports: str
    """Of explicit capture, as the sidecar's setting has it."""
    mesh_only_inbound: bool
    identity_secret: str
    mesh_config_map: str


def read_settings(
    annotations: Annotations, facts: Facts, options: Options
) -> tuple[Settings, list[str]]:
    """Return the settings, and what is wrong with the annotations."""
    read = Reader(annotations)
    version = read.image("proxy-version", options.version)
    init_version = read.image("init-image-version", version)
    gid = read.number("proxy-gid", 0, 1, MAX_ID)
    settings = Settings(
        image=_image(read.image("proxy-image", options.image), version),
        init_image=_image(read.image("init-image", options.init_image), init_version),
        pull_policy=read.choice(
            "image-pull-policy", ("Always", "IfNotPresent", "Never"), options.pull_policy
        ),
        inbound_port=read.number("inbound-port", 4143, 1, 65_535),
        outbound_port=read.number("outbound-port", 4140, 1, 65_535),
        admin_port=read.number("admin-port", 4191, 1, 65_535),
        skip_inbound=_ports(read, "skip-inbound-ports", facts),
        skip_outbound=_ports(read, "skip-outbound-ports", facts),
        skip_subnets=read.subnets("skip-subnets"),
        cpu=Limits(*read.limits("cpu", "cpu", CPU)),
        memory=Limits(*read.limits("bytes", "memory", MEMORY)),
        storage=Limits(*read.limits("bytes", "ephemeral-storage", ("", ""))),
        uid=read.number("proxy-uid", PROXY_UID, 1, MAX_ID),
        gid=gid or PROXY_UID,
        has_own_group=bool(gid),
        log_level=read.log_level("proxy-log-level"),
        log_format=read.choice("proxy-log-format", ("plain", "json"), ""),
        access_log=read.choice("access-log", ("json", "apache"), ""),
        outbound_connect_timeout=read.duration("proxy-outbound-connect-timeout"),
        inbound_connect_timeout=read.duration("proxy-inbound-connect-timeout"),
        detects_for_ever=read.flag("proxy-disable-inbound-protocol-detect-timeout", default=False),
        is_gateway=read.flag("enable-gateway", default=False),
        is_awaited=read.flag("proxy-await", default=True),
        has_shutdown=read.flag("proxy-admin-shutdown", default=False),
        grace=_grace(read, facts),
        is_native=read.flag("proxy-enable-native-sidecar", default=options.native_sidecar),
        wait_before_exit_s=read.number(_WAIT_BEFORE_EXIT, 0, 0, 3600),
        added=_added(read, annotations.config("proxy-additional-env")),
        is_explicit=read.ours("capture", CAPTURES, options.capture) == "explicit",
        app_ports=_app_ports(read, facts),
        mesh_only_inbound=read.ours("mesh-only-inbound", ("true", "false"), "false") == "true",
        identity_secret=read.object_name("identity-secret", options.identity_secret),
        mesh_config_map=read.object_name("mesh-config-map", options.mesh_config_map),
    )
    return settings, [*read.problems, *_contradictions(settings, annotations, facts, options)]


def _image(name: str, version: str) -> str:
    """Return the image with its tag; one that has a tag or digest keeps it."""
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:{version}"


def _ports(read: Reader, name: str, facts: Facts) -> str:
    """Return the list with names as numbers, as the capture rules want it."""
    given = read.text(name)
    if not given:
        return DEFAULT_SKIP_PORTS
    found = parse_ports(given, facts.numbers_of)
    if found.wrong:
        read.problems.append(
            f"{CONFIG}{name} has {found.wrong[0]!r}; wanted ports, ranges lo-hi, or names of ports"
        )
    return ",".join(
        str(low) if low == high else f"{low}-{high}" for low, high in dict.fromkeys(found.ranges)
    )


def _app_ports(read: Reader, facts: Facts) -> str:
    """Return where explicit capture finds the application: every declared port, and those given.

    Told in full, because a sidecar may start before the mesh has its own Pod's manifest.
    """
    declared = (port for each in facts.all_containers for port in each.ports)
    ports = {port.number: port.number for port in declared if port.protocol == "TCP"}
    ports |= read.app_ports("app-ports")
    return ",".join(
        str(outer) if outer == inner else f"{outer}:{inner}" for outer, inner in ports.items()
    )


def _grace(read: Reader, facts: Facts) -> str:
    """Return how long draining may take: less than the kubelet waits before it kills."""
    given = read.duration("shutdown-grace-period")
    if given:
        return given
    return f"{max(facts.grace_s - GRACE_MARGIN_S, min(facts.grace_s, 1))}s"


def _added(read: Reader, text: str) -> tuple[dict[str, Json], ...]:
    """Return the variables of ``proxy-additional-env``: a JSON list as ``env`` has it."""
    if not text:
        return ()
    wanted = f"{CONFIG}proxy-additional-env: wanted a JSON list of environment variables"
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, list) or len(given) > MAX_ADDED_VARIABLES:
        read.problems.append(wanted)
        return ()
    if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in given):
        read.problems.append(wanted)
        return ()
    return tuple(given)


def _contradictions(
    settings: Settings, annotations: Annotations, facts: Facts, options: Options
) -> list[str]:
    """Return what single values cannot show."""
    ports = {
        "inbound-port": settings.inbound_port,
        "outbound-port": settings.outbound_port,
        "admin-port": settings.admin_port,
    }
    problems = [
        f"{CONFIG}{name} and {CONFIG}{other} are both {port}; they must differ"
        for name, port in ports.items()
        for other, same in ports.items()
        if name < other and port == same
    ]
    problems += _explicit(settings, annotations)
    held = settings.app_ports.count(",") + 1
    if settings.is_explicit and held > MAX_APP_PORTS:
        problems.append(f"the pod has {held} ports; {MAX_APP_PORTS} at most can be held")
    if options.controller and annotations.ours("identity-secret"):
        problems.append(
            f"{OURS}identity-secret: with a controller ({options.controller}) the identity is the "
            "controller's to issue; leave the annotation or the controller's address out"
        )
    if not options.controller and not settings.identity_secret:
        problems.append(
            f"{OURS}identity-secret is not set: without a controller the identity is in a Secret "
            "that it names (tls.key and tls.crt)"
        )
    grace_s = parse_duration(settings.grace)
    if annotations.config("shutdown-grace-period") and grace_s >= facts.grace_s > 0:
        problems.append(
            f"{CONFIG}shutdown-grace-period is {settings.grace}; the pod is killed after its "
            f"terminationGracePeriodSeconds, {facts.grace_s}"
        )
    if settings.wait_before_exit_s and settings.wait_before_exit_s >= facts.grace_s:
        problems.append(
            f"{ALPHA}{_WAIT_BEFORE_EXIT} is {settings.wait_before_exit_s}; the pod is killed after "
            f"its terminationGracePeriodSeconds, {facts.grace_s}"
        )
    return problems


def _explicit(settings: Settings, annotations: Annotations) -> list[str]:
    """Return annotations that go with the other kind of capture only."""
    if settings.is_explicit:
        rules = ("skip-inbound-ports", "skip-outbound-ports", "skip-subnets")
        given = [CONFIG + name for name in rules if annotations.config(name)]
        why = "explicit, which has no rules to leave something out of"
    else:
        names = ("app-ports", "mesh-only-inbound")
        given = [OURS + name for name in names if annotations.ours(name)]
        why = "redirect, where the application keeps its own address and ports"
    return [f"{name} is set, and {OURS}capture is {why}" for name in given]

"""The two containers: what sets the capture rules, and the sidecar.

Names, ports and probes are those of Linkerd's, so that its tools and dashboards find them
(linkerd2, charts/partials/templates/_proxy.tpl and _proxy-init.tpl). The sidecar passes the
restricted Pod Security Standard; only the other one needs capabilities, and so root.
"""

from __future__ import annotations

from typing import Final

from inject.options import Options
from inject.patch import Json
from inject.settings import Limits, Settings
from inject.volume import (
    IDENTITY,
    ISSUED_IDENTITY,
    MESH,
    RULES_LOCK,
    TOKEN_NAME,
    TOKENS,
    sidecar_mounts,
)

SIDECAR: Final = "linkerd-proxy"
INIT: Final = "linkerd-init"
ADMIN_PORT: Final = "linkerd-admin"

_COMMAND: Final = "/opt/pillion/bin/pillion"
_PYTHON: Final = "/opt/pillion/bin/python"
_SECCOMP: Final[Json] = {"type": "RuntimeDefault"}
_AWAIT: Final = "2m"
_FOR_EVER: Final = "365d"
"""As Linkerd's injector has it."""
_STARTUP_FAILURES: Final = 120
_INIT_LIMITS: Final[dict[str, Json]] = {
    "requests": {"cpu": "10m", "memory": "32Mi"},
    "limits": {"memory": "128Mi"},
}
_OWN_PORTS: Final = (4190, 4191)
"""Never captured by ``pillion redirect``, whatever is asked for."""


def init_container(settings: Settings, options: Options) -> dict[str, Json]:
    """Return the container that sets the capture rules and ends."""
    inbound = settings.skip_inbound
    if settings.admin_port not in _OWN_PORTS:
        inbound = f"{inbound},{settings.admin_port}"
    arguments: list[Json] = [
        *("redirect", "install", "--output", "short"),
        *("--inbound-port", str(settings.inbound_port)),
        *("--outbound-port", str(settings.outbound_port)),
        *("--proxy-uid", str(settings.uid)),
    ]
    if settings.has_own_group:
        arguments += ["--proxy-gid", str(settings.gid)]
    arguments += ["--skip-inbound-ports", inbound]
    arguments += ["--skip-outbound-ports", settings.skip_outbound]
    if options.iptables_mode:
        arguments += ["--iptables-mode", options.iptables_mode]
    if settings.skip_subnets:
        arguments += ["--skip-subnets", settings.skip_subnets]
    return {
        "name": INIT,
        "image": settings.init_image,
        "imagePullPolicy": settings.pull_policy,
        "args": arguments,
        "resources": _INIT_LIMITS,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
            "seccompProfile": _SECCOMP,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [RULES_LOCK.mount()],
    }


def sidecar_container(settings: Settings, options: Options) -> dict[str, Json]:
    """Return the sidecar, as a native one or an ordinary container."""
    container: dict[str, Json] = {
        "name": SIDECAR,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "args": ["proxy"],
        "env": [*_environment(settings, options), *settings.added],
        "ports": [
            {"name": SIDECAR, "containerPort": settings.inbound_port},
            {"name": ADMIN_PORT, "containerPort": settings.admin_port},
        ],
        "livenessProbe": _probe("/live", {"initialDelaySeconds": 10}),
        "readinessProbe": _probe("/ready", {"initialDelaySeconds": 2}),
        "resources": _resources(settings),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsGroup": settings.gid,
            "runAsNonRoot": True,
            "runAsUser": settings.uid,
            "seccompProfile": _SECCOMP,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [each.mount() for each in sidecar_mounts(settings, options)],
    }
    lifecycle: dict[str, Json] = {}
    if settings.wait_before_exit_s:
        sleep = f"import time; time.sleep({settings.wait_before_exit_s})"
        lifecycle["preStop"] = _run(_PYTHON, "-c", sleep)
    if settings.is_native:
        container["restartPolicy"] = "Always"
        if settings.is_awaited:
            container["startupProbe"] = _probe(
                "/ready", {"periodSeconds": 1, "failureThreshold": _STARTUP_FAILURES}
            )
    elif settings.is_awaited:
        # The kubelet starts the next container only when this command has ended.
        lifecycle["postStart"] = _run(_COMMAND, "ready", "--wait", _AWAIT)
    if lifecycle:
        container["lifecycle"] = lifecycle
    return container


def _environment(settings: Settings, options: Options) -> list[Json]:
    """Return the variables; what is a default of the sidecar's is not repeated."""
    control, domain = options.control_namespace, options.trust_domain
    values = {
        "PILLION_POD": "$(_pod_ns)/$(_pod_name)",
        "PILLION_IDENTITY_NAME": "$(_pod_sa).$(_pod_ns).serviceaccount.identity."
        f"{control}.{domain}",
    }
    if options.controller:
        values["PILLION_CONTROLLER_ADDR"] = options.controller
        values["PILLION_IDENTITY_DIR"] = ISSUED_IDENTITY
        values["PILLION_IDENTITY_TOKEN_FILE"] = f"{TOKENS}/{TOKEN_NAME}"
    else:
        values["PILLION_MESH_DIR"] = MESH
        values["PILLION_IDENTITY_DIR"] = IDENTITY
    inbound, outbound = settings.inbound_port, settings.outbound_port
    if inbound != 4143:
        values["PILLION_INBOUND_LISTEN_ADDR"] = f"[::]:{inbound}"
    if outbound != 4140:
        values["PILLION_OUTBOUND_LISTEN_ADDR"] = f"127.0.0.1:{outbound},[::1]:{outbound}"
    if settings.admin_port != 4191:
        values["PILLION_ADMIN_LISTEN_ADDR"] = f"[::]:{settings.admin_port}"
    values["PILLION_SHUTDOWN_GRACE_PERIOD"] = settings.grace
    suffix = f"svc.{options.cluster_domain}"
    optional = {
        "PILLION_IDENTITY_TRUST_ANCHORS": options.trust_anchors,
        "PILLION_CAPTURE": "explicit" if settings.is_explicit else "",
        "PILLION_APP_PORTS": settings.app_ports if settings.is_explicit else "",
        "PILLION_MESH_ONLY_INBOUND": "true" if settings.mesh_only_inbound else "",
        "PILLION_SHUTDOWN_ENDPOINT_ENABLED": "true" if settings.has_shutdown else "",
        "PILLION_OUTBOUND_CONNECT_TIMEOUT": settings.outbound_connect_timeout,
        "PILLION_INBOUND_CONNECT_TIMEOUT": settings.inbound_connect_timeout,
        "PILLION_INBOUND_DETECT_TIMEOUT": _FOR_EVER if settings.detects_for_ever else "",
        "PILLION_INBOUND_GATEWAY_SUFFIXES": suffix if settings.is_gateway else "",
        "PILLION_LOG": settings.log_level,
        "PILLION_LOG_FORMAT": {"plain": "pretty"}.get(settings.log_format, settings.log_format),
        "PILLION_ACCESS_LOG": settings.access_log,
    }
    values |= {name: value for name, value in optional.items() if value}
    plain: list[Json] = [{"name": name, "value": value} for name, value in values.items()]
    return [
        _field("_pod_name", "metadata.name"),
        _field("_pod_ns", "metadata.namespace"),
        _field("_pod_sa", "spec.serviceAccountName"),
        _field("PILLION_POD_IPS", "status.podIPs"),
        *plain,
    ]


def app_variables(settings: Settings) -> tuple[dict[str, Json], ...]:
    """Return what an application's container needs where nothing is captured for it."""
    return (
        _field("_pod_ip", "status.podIP"),
        {"name": "ALL_PROXY", "value": f"socks5h://$(_pod_ip):{settings.outbound_port}"},
        {"name": "NO_PROXY", "value": "localhost,127.0.0.1,::1"},
    )


def _field(name: str, path: str) -> dict[str, Json]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(path: str, timing: dict[str, Json]) -> dict[str, Json]:
    return {"httpGet": {"path": path, "port": ADMIN_PORT}, **timing}


def _run(*command: str) -> dict[str, Json]:
    return {"exec": {"command": [*command]}}


def _resources(settings: Settings) -> dict[str, Json]:
    kinds = {
        "cpu": settings.cpu,
        "memory": settings.memory,
        "ephemeral-storage": settings.storage,
    }

    def chosen(limits: dict[str, Limits], which: str) -> dict[str, Json]:
        found = {name: getattr(each, which) for name, each in limits.items()}
        return {name: value for name, value in found.items() if value}

    found = {"requests": chosen(kinds, "request"), "limits": chosen(kinds, "limit")}
    return {name: value for name, value in found.items() if value}

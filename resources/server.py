"""Server (policy.linkerd.io): one port of some pods, what it speaks, and who may call by default.

``accessPolicy`` exists from v1beta3 on; in older versions the API server drops it, so it is not
read there. Without it a Server denies.
"""

from __future__ import annotations

import re
from typing import Final, final

from core.record import dataclass
from resources.config_map import DEFAULT_POLICIES
from resources.fields import Fields
from resources.kind import Meta
from resources.selector import Selector, parse_selector

PROTOCOLS: Final = ("unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS")
"""What ``proxyProtocol`` can say."""

_PORT_NAME: Final = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9](?:[a-z0-9-]{0,13}[a-z0-9])?", re.ASCII)
_WITH_ACCESS_POLICY: Final = "v1beta3"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A Server; ``pods`` is None when it selects external workloads."""

    meta: Meta
    pods: Selector | None
    port: int | str
    protocol: str = "unknown"
    access_policy: str = "deny"


def parse_server(meta: Meta, body: Fields) -> Server:
    """Read a Server."""
    spec = body.map("spec", required=True)
    spec.only("podSelector", "externalWorkloadSelector", "port", "proxyProtocol", "accessPolicy")
    selectors = [name for name in ("podSelector", "externalWorkloadSelector") if spec.has(name)]
    pods = parse_selector(spec.map("podSelector"))
    parse_selector(spec.map("externalWorkloadSelector"))
    if len(selectors) == 2:
        spec.problem("externalWorkloadSelector", "cannot stand beside podSelector; keep one")
    elif not selectors:
        spec.problem("podSelector", "is missing; {} selects every pod of the namespace")
    port = spec.port_or_name("port", required=True)
    if isinstance(port, str) and not _PORT_NAME.fullmatch(port):
        spec.problem("port", f"{port[:80]!r} is no port's name: at most 15 of a-z, 0-9 and -")
    access_policy = "deny"
    if body.text("apiVersion").endswith(_WITH_ACCESS_POLICY):
        access_policy = spec.choice("accessPolicy", DEFAULT_POLICIES, "deny")
    return Server(
        meta=meta,
        pods=pods if "podSelector" in selectors else None,
        port=0 if port is None else port,
        protocol=spec.choice("proxyProtocol", PROTOCOLS, "unknown"),
        access_policy=access_policy,
    )

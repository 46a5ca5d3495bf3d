"""How an application's connections come to its sidecar, and what each of them needs for that."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from core.errors import ConfigError
from redirect.options import PROXY_UID
from redirect.runner import read_rules


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What a way of capture asks of both."""

    sidecar_uid: int | None = None
    """Whom the sidecar runs as; None: as we do."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """For the sidecar's environment."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For the application's."""


def by_redirection(pod_ips: tuple[str, ...]) -> Arrangement:
    """Return the arrangement for capture by rules that are installed here.

    Raises ConfigError with all that is missing.
    """
    problems = []
    if os.geteuid() != 0:
        problems.append(
            f"this is uid {os.geteuid()}, and only root can start the sidecar as uid {PROXY_UID}, "
            "which the capture rules exempt"
        )
    elif not any(each.found.installed for each in read_rules()):
        problems.append(
            "there are no capture rules in this network namespace: "
            "`pillion redirect install` sets them"
        )
    missing = [ip for ip in pod_ips if not _is_here(ip)]
    if missing:
        problems.append(f"{' and '.join(missing)}, the pod's own, is on no interface here")
    if problems:
        raise ConfigError(
            problems,
            hint="run it in a network namespace that is the pod's (ip netns exec NAME pillion "
            "run …): the rules redirect everything there, so never set them on the machine itself",
        )
    return Arrangement(sidecar_uid=PROXY_UID)


def _is_here(ip: str) -> bool:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True

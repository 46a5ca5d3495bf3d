"""How an application's connections come to its sidecar, and what each of them needs for that."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import field
from typing import Final, final

from core.errors import ConfigError
from core.record import dataclass
from discovery.model import Address
from redirect.options import PROXY_UID
from redirect.runner import read_rules

_HTTP_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY")
_OTHER_PROXIES: Final = ("FTP_PROXY",)
_NEVER_BY_PROXY: Final = "localhost,127.0.0.1,::1"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What a way of capture asks of both."""

    sidecar_uid: int | None = None
    """Whom the sidecar runs as; None: as we do."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """For the sidecar's environment."""


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
    problems += _missing(pod_ips)
    if problems:
        raise ConfigError(
            problems,
            hint="run it in a network namespace that is the pod's (ip netns exec NAME pillion "
            "run …): the rules redirect everything there, so never set them on the machine itself; "
            "or do without them, by --capture explicit",
        )
    return Arrangement(sidecar_uid=PROXY_UID)


def by_proxy(pod_ips: tuple[str, ...]) -> Arrangement:
    """Return the arrangement without rules: the sidecar holds the pod's ports, and is a proxy.

    Raises ConfigError when an address of the pod is not this machine's.
    """
    problems = _missing(pod_ips)
    if problems:
        raise ConfigError(
            problems,
            hint="give the pod an address of this machine in its manifest (status.podIPs); any "
            "of 127.0.0.0/8 will do where all of the mesh is on it",
        )
    return Arrangement(
        sidecar_uid=PROXY_UID if os.geteuid() == 0 else None,
        settings={"PILLION_CAPTURE": "explicit"},
    )


def proxy_environment(outbound: Address) -> Mapping[str, str]:
    """Return what tells an application's libraries to go out by the sidecar at ``outbound``.

    In both spellings that are in use; other proxies are unset, since they would win.
    """
    told = {
        "ALL_PROXY": f"socks5h://{outbound}",
        **dict.fromkeys(_HTTP_PROXIES, f"http://{outbound}"),
        "NO_PROXY": _NEVER_BY_PROXY,
        **dict.fromkeys(_OTHER_PROXIES, ""),
    }
    return {**told, **{name.lower(): value for name, value in told.items()}}


def _missing(pod_ips: tuple[str, ...]) -> list[str]:
    missing = [ip for ip in pod_ips if not _is_here(ip)]
    return [f"{' and '.join(missing)}, the pod's own, is on no interface here"] if missing else []


def _is_here(ip: str) -> bool:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True

"""Settings, once: a table from environment to value, with every mistake reported at once.

Names begin with ``PILLION_``; where the meaning is the same, Linkerd's name is taken as an
alias. Nothing else reads the environment.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Generic, TypeVar, final

from core.duration import parse_duration
from core.errors import ConfigError
from core.nearest import nearest_name
from discovery.model import Address
from proxy.telemetry.log import LEVELS

T = TypeVar("T")

PREFIX: Final = "PILLION_"
LINKERD_PREFIX: Final = "LINKERD2_PROXY_"
BYTES_A_CONNECTION: Final = 2 * 34 * 1024
"""What a relayed connection is counted with when the memory limit bounds admission."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[T]):
    """One row of the table."""

    name: str
    """Without the prefix."""
    parse: Callable[[str], T]
    default: str
    """As it would be written; empty: there is none."""
    reason: str
    alias: str = ""
    """Linkerd's name without its prefix."""
    required: bool = False


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    return Path(value)


def _address(value: str) -> Address:
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise ValueError(f"{value!r} is no address; write IP:PORT with a port from 1 to 65535")
    return Address(str(ip_address(host.strip("[]"))), int(port))


def _ips(value: str) -> tuple[str, ...]:
    return tuple(str(ip_address(each.strip())) for each in value.split(",") if each.strip())


def _count(value: str) -> int:
    if not value.isdecimal() or len(value) > 9:
        raise ValueError(f"{value!r} is no count; write an integer from 0 to 999999999")
    return int(value)


def _flag(value: str) -> bool:
    if value not in {"true", "false", "1", "0"}:
        raise ValueError(f"{value!r} is neither true nor false")
    return value in {"true", "1"}


def _level(value: str) -> str:
    if value not in LEVELS:
        raise ValueError(f"{value!r} is no log level; one of {', '.join(LEVELS)}")
    return value


def _form(value: str) -> str:
    if value not in {"auto", "json", "pretty"}:
        raise ValueError(f"{value!r} is no log format; one of auto, json, pretty")
    return value


def _workload(value: str) -> tuple[str, str]:
    namespace, slash, name = value.partition("/")
    if not (slash and namespace and name) or "/" in name:
        raise ValueError(f"{value!r} names no pod; write NAMESPACE/POD")
    return namespace, name


POD: Final = Setting(
    name="POD", parse=_workload, default="", required=True, reason="The pod we stand beside."
)
POD_IPS: Final = Setting(
    name="POD_IPS",
    parse=_ips,
    default="",
    alias="INBOUND_IPS",
    reason="The pod's own addresses; empty: those of its Pod manifest.",
)
MESH_DIR: Final = Setting(
    name="MESH_DIR",
    parse=_path,
    default="",
    required=True,
    reason="The directory of manifests that is the mesh.",
)
IDENTITY_DIR: Final = Setting(
    name="IDENTITY_DIR",
    parse=_path,
    default="",
    required=True,
    alias="IDENTITY_DIR",
    reason="Key, CSR and anchors/<trust-domain>.pem.",
)
IDENTITY_SOCKET: Final = Setting(
    name="IDENTITY_SOCKET",
    parse=_path,
    default="",
    reason="The issuer's Unix socket; empty: the leaf is read from files.",
)
IDENTITY_TOKEN_FILE: Final = Setting(
    name="IDENTITY_TOKEN_FILE",
    parse=_path,
    default="",
    alias="IDENTITY_TOKEN_FILE",
    reason="The token that says who we are to the issuer.",
)
IDENTITY_NAME: Final = Setting(
    name="IDENTITY_NAME",
    parse=_text,
    default="",
    alias="IDENTITY_LOCAL_NAME",
    reason="Our identity; empty: that of the Pod manifest's service account.",
)
IDENTITY_MIN_REFRESH: Final = Setting(
    name="IDENTITY_MIN_REFRESH",
    parse=parse_duration,
    default="10s",
    alias="IDENTITY_MIN_REFRESH",
    reason="The least time between two renewals.",
)
IDENTITY_MAX_REFRESH: Final = Setting(
    name="IDENTITY_MAX_REFRESH",
    parse=parse_duration,
    default="1d",
    alias="IDENTITY_MAX_REFRESH",
    reason="The most time between two renewals.",
)
INBOUND_LISTEN_ADDR: Final = Setting(
    name="INBOUND_LISTEN_ADDR",
    parse=_address,
    default="0.0.0.0:4143",
    alias="INBOUND_LISTEN_ADDR",
    reason="Where inbound connections are redirected to; also the direct port.",
)
OUTBOUND_LISTEN_ADDR: Final = Setting(
    name="OUTBOUND_LISTEN_ADDR",
    parse=_address,
    default="127.0.0.1:4140",
    alias="OUTBOUND_LISTEN_ADDR",
    reason="Where outbound connections are redirected to.",
)
ADMIN_LISTEN_ADDR: Final = Setting(
    name="ADMIN_LISTEN_ADDR",
    parse=_address,
    default="0.0.0.0:4191",
    alias="ADMIN_LISTEN_ADDR",
    reason="Liveness, readiness, metrics, configuration.",
)
DETECT_TIMEOUT: Final = Setting(
    name="INBOUND_DETECT_TIMEOUT",
    parse=parse_duration,
    default="10s",
    alias="INBOUND_DETECT_TIMEOUT",
    reason="How long a client may take to show what it speaks, and for a TLS handshake.",
)
INBOUND_CONNECT_TIMEOUT: Final = Setting(
    name="INBOUND_CONNECT_TIMEOUT",
    parse=parse_duration,
    default="300ms",
    alias="INBOUND_CONNECT_TIMEOUT",
    reason="How long the application beside us may take to accept.",
)
OUTBOUND_CONNECT_TIMEOUT: Final = Setting(
    name="OUTBOUND_CONNECT_TIMEOUT",
    parse=parse_duration,
    default="1s",
    alias="OUTBOUND_CONNECT_TIMEOUT",
    reason="How long an endpoint may take for TCP, TLS and header together.",
)
TLS_RESUME: Final = Setting(
    name="TLS_RESUME",
    parse=_flag,
    default="true",
    reason="Take up TLS sessions when a peer is dialled again.",
)
KEEPALIVE: Final = Setting(
    name="TCP_KEEPALIVE",
    parse=parse_duration,
    default="10s",
    alias="OUTBOUND_CONNECT_KEEPALIVE",
    reason="Idle time before a connection is probed; 0 leaves it to the system.",
)
USER_TIMEOUT: Final = Setting(
    name="TCP_USER_TIMEOUT",
    parse=parse_duration,
    default="30s",
    alias="OUTBOUND_CONNECT_USER_TIMEOUT",
    reason="How long sent bytes may stay unacknowledged; 0 leaves it to the system.",
)
MAX_CONNECTIONS: Final = Setting(
    name="MAX_CONNECTIONS",
    parse=_count,
    default="0",
    reason="Connections open at once; 0: what descriptors and memory allow.",
)
GRACE_PERIOD: Final = Setting(
    name="SHUTDOWN_GRACE_PERIOD",
    parse=parse_duration,
    default="2m",
    alias="SHUTDOWN_GRACE_PERIOD",
    reason="How long open connections may take to end after SIGTERM.",
)
LOG: Final = Setting(name="LOG", parse=_level, default="info", reason="The least level logged.")
LOG_FORMAT: Final = Setting(
    name="LOG_FORMAT",
    parse=_form,
    default="auto",
    reason="json, pretty, or auto: pretty on a terminal.",
)
DEV_ISSUER: Final = Setting(
    name="DEV_ISSUER",
    parse=_flag,
    default="false",
    reason="Issue our own leaf in this process: for development only.",
)
DEV_AUTHORITY: Final = Setting(
    name="DEV_AUTHORITY",
    parse=_path,
    default="",
    reason="The authority's directory, for the development issuer.",
)

TABLE: Final[tuple[Setting[object], ...]] = tuple(
    row for row in list(globals().values()) if isinstance(row, Setting)
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, read and checked."""

    pod_namespace: str
    pod_name: str
    pod_ips: tuple[str, ...]
    mesh_dir: Path
    identity_dir: Path
    identity_socket: Path | None
    identity_token_file: Path | None
    identity_name: str
    identity_min_refresh_s: float
    identity_max_refresh_s: float
    inbound_listen: Address
    outbound_listen: Address
    admin_listen: Address
    detect_timeout_s: float
    inbound_connect_timeout_s: float
    outbound_connect_timeout_s: float
    tls_resume: bool
    keepalive_s: int
    user_timeout_ms: int
    max_connections: int
    grace_period_s: float
    log_level: str
    log_format: str
    dev_issuer: bool
    dev_authority: Path | None


class _Reader:
    """Reads rows, keeping every problem."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def value(self, setting: Setting[T]) -> T | None:
        """Return the row's value, its default's, or None where there is neither."""
        name = PREFIX + setting.name
        text = self._environment.get(name, "")
        if not text and setting.alias:
            alias = LINKERD_PREFIX + setting.alias
            if self._environment.get(alias, ""):
                name, text = alias, self._environment[alias]
        if not text:
            if setting.required:
                self.problems.append(f"{name} is not set: {setting.reason}")
                return None
            text = setting.default
        if not text:
            return None
        try:
            return setting.parse(text)
        except ValueError as error:
            self.problems.append(f"{name}: {error}")
            return None

    def present(self, setting: Setting[T]) -> T:
        """Return the value of a row that has a default."""
        value = self.value(setting)
        return setting.parse(setting.default) if value is None else value

    def unknown_names(self) -> None:
        """Report names of ours that no row has."""
        known = {PREFIX + row.name for row in TABLE}
        for name in sorted(self._environment):
            if name.startswith(PREFIX) and name not in known:
                near = nearest_name(name, known)
                advice = f"; did you mean {near}?" if near else ""
                self.problems.append(f"{name} is no setting{advice}")


def read_config(environment: Mapping[str, str]) -> Config:
    """Read every setting. Raises ConfigError with all mistakes."""
    read = _Reader(environment)
    read.unknown_names()
    pod = read.value(POD) or ("", "")
    config = Config(
        pod_namespace=pod[0],
        pod_name=pod[1],
        pod_ips=read.value(POD_IPS) or (),
        mesh_dir=read.value(MESH_DIR) or Path(),
        identity_dir=read.value(IDENTITY_DIR) or Path(),
        identity_socket=read.value(IDENTITY_SOCKET),
        identity_token_file=read.value(IDENTITY_TOKEN_FILE),
        identity_name=read.value(IDENTITY_NAME) or "",
        identity_min_refresh_s=read.present(IDENTITY_MIN_REFRESH),
        identity_max_refresh_s=read.present(IDENTITY_MAX_REFRESH),
        inbound_listen=read.present(INBOUND_LISTEN_ADDR),
        outbound_listen=read.present(OUTBOUND_LISTEN_ADDR),
        admin_listen=read.present(ADMIN_LISTEN_ADDR),
        detect_timeout_s=read.present(DETECT_TIMEOUT),
        inbound_connect_timeout_s=read.present(INBOUND_CONNECT_TIMEOUT),
        outbound_connect_timeout_s=read.present(OUTBOUND_CONNECT_TIMEOUT),
        tls_resume=read.present(TLS_RESUME),
        keepalive_s=int(read.present(KEEPALIVE)),
        user_timeout_ms=int(read.present(USER_TIMEOUT) * 1000),
        max_connections=read.present(MAX_CONNECTIONS) or affordable_connections(),
        grace_period_s=read.present(GRACE_PERIOD),
        log_level=read.present(LOG),
        log_format=read.present(LOG_FORMAT),
        dev_issuer=read.present(DEV_ISSUER),
        dev_authority=read.value(DEV_AUTHORITY),
    )
    if config.identity_socket is not None and config.identity_token_file is None:
        read.problems.append(
            f"{PREFIX}{IDENTITY_TOKEN_FILE.name} is not set: the issuer's socket asks for a token"
        )
    if config.dev_issuer and config.dev_authority is None:
        read.problems.append(
            f"{PREFIX}{DEV_AUTHORITY.name} is not set: the development issuer needs an authority"
        )
    if read.problems:
        raise ConfigError(read.problems)
    return config


def affordable_connections(descriptors: int | None = None, memory_bytes: int | None = None) -> int:
    """Return how many connections descriptors and memory allow, at least 16.

    A connection has two descriptors; 64 are kept for everything else. Half of the memory limit
    may go to connections.
    """
    if descriptors is None:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if memory_bytes is None:
        memory_bytes = _memory_limit()
    by_descriptors = (descriptors - 64) // 2
    by_memory = memory_bytes // 2 // BYTES_A_CONNECTION
    return max(16, min(by_descriptors, by_memory))


def _memory_limit() -> int:
    """Return the container's memory limit in bytes, or the machine's memory."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < 1 << 60:
            return int(text)
    return _machine_memory()


def _machine_memory() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 1 << 30

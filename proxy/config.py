"""Settings, once: a table from environment to value, with every mistake reported at once.

Names begin with ``PILLION_``; where the meaning is the same, Linkerd's name is taken as an
alias. Nothing else reads the environment.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar, final

from core.errors import ConfigError
from core.memory import memory_limit
from core.nearest import nearest_name
from core.record import dataclass
from discovery.model import Address
from proxy.crew import MAX_WORKERS
from proxy.elsewhere import ELSEWHERE
from proxy.net.splice import affordable_pipes
from proxy.setting import (
    ADDRESS,
    ADDRESSES,
    APP_PORT_PAIRS,
    FLAG,
    IDENTITY,
    IPS,
    LEVEL,
    PATH,
    ROOTS,
    SELECTOR,
    SERVER_NAME,
    SUFFIXES,
    WORKLOAD,
    Form,
    Setting,
    count,
    duration,
    one_of,
    shown,
)
from proxy.telemetry.access_line import FORMS as ACCESS_FORMS
from proxy.telemetry.log import FORMS
from proxy.wire.tls_library import TLS_ENGINES

T = TypeVar("T")

PREFIX: Final = "PILLION_"
LINKERD_PREFIX: Final = "LINKERD2_PROXY_"
BYTES_A_CONNECTION: Final = 2 * 34 * 1024
"""What a relayed connection is counted with when the memory limit bounds admission."""


POD: Final = Setting(
    name="POD",
    form=WORKLOAD,
    default="",
    required=True,
    aliases=("POLICY_WORKLOAD",),
    reason="The pod we stand beside.",
)
POD_IPS: Final = Setting(
    name="POD_IPS",
    form=IPS,
    default="",
    aliases=("INBOUND_IPS",),
    reason="The pod's own addresses; empty: those of its Pod manifest.",
)
MESH_DIR: Final = Setting(
    name="MESH_DIR",
    form=PATH,
    default="",
    required=True,
    reason="The directory of manifests that is the mesh.",
)
CONTROLLER_ADDR: Final = Setting(
    name="CONTROLLER_ADDR",
    form=Form("DNS name or IP address", str),
    default="",
    reason="The controller that control comes from. There is none yet: set, it is a mistake.",
)
IDENTITY_DIR: Final = Setting(
    name="IDENTITY_DIR",
    form=PATH,
    default="",
    required=True,
    aliases=("IDENTITY_DIR",),
    reason="Where key, CSR and `anchors/<trust-domain>.pem` are.",
)
IDENTITY_TRUST_ANCHORS: Final = Setting(
    name="IDENTITY_TRUST_ANCHORS",
    form=ROOTS,
    default="",
    aliases=("IDENTITY_TRUST_ANCHORS",),
    reason="Roots of our own trust domain, for as long as `anchors/` has no file of them: the "
    "file rotates, this cannot.",
)
IDENTITY_SOCKET: Final = Setting(
    name="IDENTITY_SOCKET",
    form=PATH,
    default="",
    reason="The issuer's Unix socket; empty: the leaf is read from files.",
)
IDENTITY_TOKEN_FILE: Final = Setting(
    name="IDENTITY_TOKEN_FILE",
    form=PATH,
    default="",
    aliases=("IDENTITY_TOKEN_FILE",),
    reason="The token that says who we are to the issuer.",
)
IDENTITY_NAME: Final = Setting(
    name="IDENTITY_NAME",
    form=IDENTITY,
    default="",
    aliases=("IDENTITY_LOCAL_NAME", "IDENTITY_SERVER_ID"),
    reason="Our identity; empty: that of the Pod manifest's service account.",
)
IDENTITY_SERVER_NAME: Final = Setting(
    name="IDENTITY_SERVER_NAME",
    form=SERVER_NAME,
    default="",
    aliases=("IDENTITY_SERVER_NAME",),
    reason="The TLS server name (SNI) that is ours; empty: our identity, unless that is a URI.",
)
IDENTITY_MIN_REFRESH: Final = Setting(
    name="IDENTITY_MIN_REFRESH",
    form=duration("100ms", "1d"),
    default="10s",
    aliases=("IDENTITY_MIN_REFRESH",),
    reason="The least time between two renewals.",
)
IDENTITY_MAX_REFRESH: Final = Setting(
    name="IDENTITY_MAX_REFRESH",
    form=duration("100ms", "365d"),
    default="1d",
    aliases=("IDENTITY_MAX_REFRESH",),
    reason="The most time between two renewals.",
)
INBOUND_LISTEN_ADDR: Final = Setting(
    name="INBOUND_LISTEN_ADDR",
    form=ADDRESS,
    default="[::]:4143",
    aliases=("INBOUND_LISTEN_ADDR",),
    reason="Where inbound connections are redirected to; also the direct port. `[::]` is both "
    "families, or IPv4 where the system has no other.",
)
OUTBOUND_LISTEN_ADDR: Final = Setting(
    name="OUTBOUND_LISTEN_ADDR",
    form=ADDRESSES,
    default="127.0.0.1:4140,[::1]:4140",
    aliases=("OUTBOUND_LISTEN_ADDRS", "OUTBOUND_LISTEN_ADDR"),
    reason="Where outbound connections are redirected to. Without IPv6 here, `[::1]` is left out.",
)
CAPTURE: Final = Setting(
    name="CAPTURE",
    form=one_of(("redirect", "explicit")),
    default="redirect",
    reason="How connections come here: redirected by rules of the kernel, or without privileges: "
    "the sidecar holds the pod's ports, and its programs go out by it as their proxy. Of the "
    "listeners' addresses only the ports count then, all on the pod's own.",
)
APP_PORTS: Final = Setting(
    name="APP_PORTS",
    form=APP_PORT_PAIRS,
    default="",
    reason="Explicit capture: ports of the pod and the application's own on 127.0.0.1; those of "
    "the Pod's manifest are there already, each with its own number.",
)
MESH_ONLY_INBOUND: Final = Setting(
    name="MESH_ONLY_INBOUND",
    form=FLAG,
    default="false",
    reason="Explicit capture: start although the application holds a declared port on the pod's "
    "address itself. Clients outside the mesh then reach it past the sidecar.",
)
ADMIN_LISTEN_ADDR: Final = Setting(
    name="ADMIN_LISTEN_ADDR",
    form=ADDRESS,
    default="[::]:4191",
    aliases=("ADMIN_LISTEN_ADDR",),
    reason="Liveness, readiness, metrics, configuration.",
)
DETECT_TIMEOUT: Final = Setting(
    name="INBOUND_DETECT_TIMEOUT",
    form=duration("1ms"),
    default="10s",
    aliases=("INBOUND_DETECT_TIMEOUT",),
    reason="How long a client may take to show what it speaks, and for a TLS handshake.",
)
INBOUND_CONNECT_TIMEOUT: Final = Setting(
    name="INBOUND_CONNECT_TIMEOUT",
    form=duration("1ms"),
    default="300ms",
    aliases=("INBOUND_CONNECT_TIMEOUT",),
    reason="How long the application beside us may take to accept.",
)
OUTBOUND_CONNECT_TIMEOUT: Final = Setting(
    name="OUTBOUND_CONNECT_TIMEOUT",
    form=duration("1ms"),
    default="1s",
    aliases=("OUTBOUND_CONNECT_TIMEOUT",),
    reason="How long an endpoint may take for TCP, TLS and header together.",
)
H2_UPGRADE: Final = Setting(
    name="H2_UPGRADE",
    form=FLAG,
    default="true",
    reason="Carry HTTP/1 to other sidecars on a shared HTTP/2 connection; false: as HTTP/1.1 over "
    "TLS, a connection for each request on its way.",
)
TLS_ENGINE: Final = Setting(
    name="TLS_ENGINE",
    form=one_of(TLS_ENGINES),
    default="auto",
    reason="Whose OpenSSL encrypts: the interpreter's (python), that of the cryptography wheel "
    "(cryptography), or whichever is newer (auto).",
)
TLS_HYBRID: Final = Setting(
    name="TLS_HYBRID",
    form=FLAG,
    default="false",
    reason="Prefer the key exchange X25519MLKEM768, which no quantum computer breaks: "
    "8 KiB a connection, 0.2 ms a handshake. Without it clients that prefer it have it all the "
    "same, unless the engine is python.",
)
TLS_RESUME: Final = Setting(
    name="TLS_RESUME",
    form=FLAG,
    default="true",
    reason="Let TLS sessions be taken up when a peer dials again, ours and others'.",
)
KEEPALIVE: Final = Setting(
    name="TCP_KEEPALIVE",
    form=duration("0", "9h", whole_seconds=True),
    default="10s",
    aliases=("OUTBOUND_CONNECT_KEEPALIVE",),
    reason="Idle time before a connection is probed; 0 leaves it to the system.",
)
USER_TIMEOUT: Final = Setting(
    name="TCP_USER_TIMEOUT",
    form=duration("0", "1d"),
    default="30s",
    aliases=("OUTBOUND_CONNECT_USER_TIMEOUT",),
    reason="How long sent bytes may stay unacknowledged; 0 leaves it to the system.",
)
MAX_CONNECTIONS: Final = Setting(
    name="MAX_CONNECTIONS",
    form=count(999_999),
    default="0",
    reason="Connections open at once; 0: what descriptors and memory allow.",
)
WORKERS: Final = Setting(
    name="WORKERS",
    form=count(MAX_WORKERS, least=1),
    default="1",
    reason="Processes that serve, no more of them than cores may be used. Each has its share of "
    "rate limits and of connections ([workers](workers.md)).",
)
GRACE_PERIOD: Final = Setting(
    name="SHUTDOWN_GRACE_PERIOD",
    form=duration(),
    default="2m",
    aliases=("SHUTDOWN_GRACE_PERIOD",),
    reason="How long open connections may take to end after SIGTERM.",
)
GATEWAY_SUFFIXES: Final = Setting(
    name="INBOUND_GATEWAY_SUFFIXES",
    form=SUFFIXES,
    default="",
    aliases=("INBOUND_GATEWAY_SUFFIXES",),
    reason="Domains of the names that this sidecar carries for other clusters; empty: it is no "
    "gateway, unless run as `pillion gateway`, and then the domain of the cluster's Services.",
)
GATEWAY_EXPORT_SELECTOR: Final = Setting(
    name="GATEWAY_EXPORT_SELECTOR",
    form=SELECTOR,
    default="",
    reason="Services that a gateway leads to beside those with an export label, as "
    "`team=shop,tier in (web,api)`.",
)
SHUTDOWN_ENDPOINT: Final = Setting(
    name="SHUTDOWN_ENDPOINT_ENABLED",
    form=FLAG,
    default="false",
    aliases=("SHUTDOWN_ENDPOINT_ENABLED",),
    reason="Whether a local POST to the admin server's /shutdown is a SIGTERM.",
)
LOG: Final = Setting(
    name="LOG",
    form=LEVEL,
    default="info",
    aliases=("LOG",),
    reason="The least level logged. Of Linkerd's filters the level of `linkerd` counts.",
)
LOG_FORMAT: Final = Setting(
    name="LOG_FORMAT",
    form=one_of(FORMS),
    default="auto",
    reason="json, pretty, or auto: pretty on a terminal.",
)
ACCESS_LOG: Final = Setting(
    name="ACCESS_LOG",
    form=one_of(ACCESS_FORMS),
    default="",
    aliases=("ACCESS_LOG",),
    reason="Whether each HTTP request is logged on stderr, and how; none: they are not.",
)
DEV_ISSUER: Final = Setting(
    name="DEV_ISSUER",
    form=FLAG,
    default="false",
    reason="Issue our own leaf in this process: for development only.",
)
DEV_AUTHORITY: Final = Setting(
    name="DEV_AUTHORITY",
    form=PATH,
    default="",
    reason="The authority's directory, for the development issuer.",
)

TABLE: Final[tuple[Setting[object], ...]] = tuple(
    row for row in list(globals().values()) if isinstance(row, Setting)
)

_SERVICE_LINK: Final = re.compile(
    r"[A-Z0-9_]+_(?:SERVICE_HOST=.*|SERVICE_PORT(?:_[A-Z0-9_]+)?=\d+"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP))?=(?:tcp|udp|sctp)://.*"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)_(?:PROTO|PORT|ADDR)=.*)"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, read and checked."""

    pod_namespace: str
    pod_name: str
    pod_ips: tuple[str, ...]
    mesh_dir: Path
    controller: str
    """Empty: the mesh directory controls us."""
    identity_dir: Path
    trust_anchors: str
    """PEM; empty: anchors are files alone."""
    identity_socket: Path | None
    identity_token_file: Path | None
    identity_name: str
    identity_server_name: str
    identity_min_refresh_s: float
    identity_max_refresh_s: float
    inbound_listen: Address
    outbound_listens: tuple[Address, ...]
    admin_listen: Address
    is_explicit: bool
    app_ports: Mapping[int, int]
    mesh_only_inbound: bool
    detect_timeout_s: float
    inbound_connect_timeout_s: float
    outbound_connect_timeout_s: float
    h2_upgrade: bool
    tls_engine: str
    tls_hybrid: bool
    tls_resume: bool
    keepalive_s: int
    user_timeout_ms: int
    max_connections: int
    workers: int
    grace_period_s: float
    gateway_suffixes: tuple[str, ...]
    gateway_export_selector: str
    shutdown_endpoint: bool
    log_level: str
    log_format: str
    log_colors: bool | None
    """From NO_COLOR and FORCE_COLOR; None: neither is set."""
    access_log: str
    """One of the forms; empty: requests are not logged."""
    dev_issuer: bool
    dev_authority: Path | None
    ignored: tuple[str, ...]
    """Names of Linkerd's that are set and not read, each with what is read instead if anything."""

    @property
    def outbound_listen(self) -> Address:
        """The first of the outbound addresses; all have its port."""
        return self.outbound_listens[0]


def is_ours(name: str, text: str) -> bool:
    """Whether a variable of the environment is meant for us.

    Kubernetes describes each Service of the namespace by variables whose names begin with the
    Service's (Kubernetes, "Discovering Services"); those of one called pillion-… are not.
    """
    return name.startswith(PREFIX) and not _SERVICE_LINK.fullmatch(f"{name}={text}")


class _Reader:
    """Reads rows, keeping every problem."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def value(self, setting: Setting[T]) -> T | None:
        """Return the row's value, its default's, or None where there is neither."""
        name, text = self._given(setting)
        if not text:
            if setting.required:
                self.problems.append(
                    f"{name} is not set, and has no default ({setting.form.name}): {setting.reason}"
                )
                return None
            text = setting.default
        if not text:
            return None
        try:
            return setting.form.parse(text)
        except ValueError as error:
            self.problems.append(f"{name}: {error}")
            return None

    def _given(self, setting: Setting[T]) -> tuple[str, str]:
        """Return the name under which the row is set, and its text; empty: it is not."""
        ours = PREFIX + setting.name
        for name in (ours, *(LINKERD_PREFIX + alias for alias in setting.aliases)):
            text = self._environment.get(name, "")
            if text:
                return name, text
        return ours, ""

    def present(self, setting: Setting[T]) -> T:
        """Return the value of a row that has a default."""
        value = self.value(setting)
        return setting.form.parse(setting.default) if value is None else value

    def unknown_names(self) -> None:
        """Report names of ours that no row has."""
        known = {PREFIX + row.name for row in TABLE}
        aliases = {PREFIX + alias: PREFIX + row.name for row in TABLE for alias in row.aliases}
        for name in sorted(self._environment):
            if is_ours(name, self._environment[name]) and name not in known:
                near = aliases.get(name) or nearest_name(name, known)
                advice = f"did you mean {near}?" if near else "see docs/configuration.md"
                self.problems.append(f"{shown(name)} is no setting; {advice}")

    def ignored_names(self) -> Iterator[str]:
        """Yield names of Linkerd's that are set and that no row has."""
        known = {LINKERD_PREFIX + alias for row in TABLE for alias in row.aliases}
        for name in sorted(self._environment):
            if name.startswith(LINKERD_PREFIX) and name not in known:
                instead = ELSEWHERE.get(name.removeprefix(LINKERD_PREFIX), "")
                yield f"{name} (instead: {instead})" if instead else name


def read_config(environment: Mapping[str, str]) -> Config:
    """Read every setting; an empty value is none. Raises ConfigError with all mistakes."""
    read = _Reader(environment)
    read.unknown_names()
    pod = read.value(POD) or ("", "")
    config = Config(
        pod_namespace=pod[0],
        pod_name=pod[1],
        pod_ips=read.value(POD_IPS) or (),
        mesh_dir=read.value(MESH_DIR) or Path(),
        controller=read.value(CONTROLLER_ADDR) or "",
        identity_dir=read.value(IDENTITY_DIR) or Path(),
        trust_anchors=read.value(IDENTITY_TRUST_ANCHORS) or "",
        identity_socket=read.value(IDENTITY_SOCKET),
        identity_token_file=read.value(IDENTITY_TOKEN_FILE),
        identity_name=read.value(IDENTITY_NAME) or "",
        identity_server_name=read.value(IDENTITY_SERVER_NAME) or "",
        identity_min_refresh_s=read.present(IDENTITY_MIN_REFRESH),
        identity_max_refresh_s=read.present(IDENTITY_MAX_REFRESH),
        inbound_listen=read.present(INBOUND_LISTEN_ADDR),
        outbound_listens=read.present(OUTBOUND_LISTEN_ADDR),
        admin_listen=read.present(ADMIN_LISTEN_ADDR),
        is_explicit=read.present(CAPTURE) == "explicit",
        app_ports=read.value(APP_PORTS) or {},
        mesh_only_inbound=read.present(MESH_ONLY_INBOUND),
        detect_timeout_s=read.present(DETECT_TIMEOUT),
        inbound_connect_timeout_s=read.present(INBOUND_CONNECT_TIMEOUT),
        outbound_connect_timeout_s=read.present(OUTBOUND_CONNECT_TIMEOUT),
        h2_upgrade=read.present(H2_UPGRADE),
        tls_engine=read.present(TLS_ENGINE),
        tls_hybrid=read.present(TLS_HYBRID),
        tls_resume=read.present(TLS_RESUME),
        keepalive_s=int(read.present(KEEPALIVE)),
        user_timeout_ms=int(read.present(USER_TIMEOUT) * 1000),
        max_connections=read.present(MAX_CONNECTIONS) or affordable_connections(),
        workers=read.present(WORKERS),
        grace_period_s=read.present(GRACE_PERIOD),
        gateway_suffixes=read.value(GATEWAY_SUFFIXES) or (),
        gateway_export_selector=read.value(GATEWAY_EXPORT_SELECTOR) or "",
        shutdown_endpoint=read.present(SHUTDOWN_ENDPOINT),
        log_level=read.present(LOG),
        log_format=read.present(LOG_FORMAT),
        log_colors=_colors(environment),
        access_log=read.value(ACCESS_LOG) or "",
        dev_issuer=read.present(DEV_ISSUER),
        dev_authority=read.value(DEV_AUTHORITY),
        ignored=tuple(read.ignored_names()),
    )
    read.problems += _contradictions(config)
    if environment.get(f"{LINKERD_PREFIX}IDENTITY_DISABLED"):
        read.problems.append(
            f"{LINKERD_PREFIX}IDENTITY_DISABLED is set: there is no mesh without identity"
        )
    if read.problems:
        raise ConfigError(read.problems)
    return config


def _contradictions(config: Config) -> list[str]:
    """Return what single values cannot show: settings that do not go together."""
    problems = []
    if config.controller:
        problems.append(
            f"{PREFIX}{CONTROLLER_ADDR.name} is {shown(config.controller)}: there is no controller "
            f"yet that could be asked; leave it out, and set {PREFIX}{MESH_DIR.name}"
        )
    if config.identity_socket is not None and config.identity_token_file is None:
        problems.append(
            f"{PREFIX}{IDENTITY_TOKEN_FILE.name} is not set: the issuer's socket asks for a token"
        )
    if config.dev_issuer and config.dev_authority is None:
        problems.append(
            f"{PREFIX}{DEV_AUTHORITY.name} is not set: the development issuer needs an authority"
        )
    if config.dev_issuer and config.identity_socket is not None:
        problems.append(
            f"{PREFIX}{DEV_ISSUER.name} and {PREFIX}{IDENTITY_SOCKET.name} are both set: "
            "a leaf has one issuer"
        )
    if config.identity_name.startswith("spiffe://") and not config.identity_server_name:
        problems.append(
            f"{PREFIX}{IDENTITY_SERVER_NAME.name} is not set: {config.identity_name} is no server "
            "name, and clients would take us for another one's TLS"
        )
    if config.identity_min_refresh_s > config.identity_max_refresh_s:
        problems.append(
            f"{PREFIX}{IDENTITY_MIN_REFRESH.name} is {config.identity_min_refresh_s:g} s, more "
            f"than the {config.identity_max_refresh_s:g} s of {PREFIX}{IDENTITY_MAX_REFRESH.name}"
        )
    if not config.is_explicit and (config.app_ports or config.mesh_only_inbound):
        names = [PREFIX + each.name for each in (APP_PORTS, MESH_ONLY_INBOUND)]
        problems.append(f"{' and '.join(names)} have a meaning with {PREFIX}CAPTURE=explicit only")
    listeners = {
        INBOUND_LISTEN_ADDR.name: config.inbound_listen.port,
        OUTBOUND_LISTEN_ADDR.name: config.outbound_listen.port,
        ADMIN_LISTEN_ADDR.name: config.admin_listen.port,
    }
    for port in sorted({*listeners.values()}):
        names = [f"{PREFIX}{name}" for name, each in listeners.items() if each == port]
        if len(names) > 1:
            problems.append(f"{' and '.join(names)} have the same port, {port}")
    return problems


def _colors(environment: Mapping[str, str]) -> bool | None:
    # https://no-color.org: set and not empty. It wins: who asks for none cannot read them.
    if environment.get("NO_COLOR"):
        return False
    return True if environment.get("FORCE_COLOR") else None


def affordable_connections(descriptors: int | None = None, memory_bytes: int | None = None) -> int:
    """Return how many connections descriptors and memory allow, at least 16.

    A connection has two descriptors, and so has a pipe; 64 are kept for everything else. Half of
    the memory limit may go to connections.
    """
    if descriptors is None:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if memory_bytes is None:
        memory_bytes = memory_limit()
    by_memory = memory_bytes // 2 // BYTES_A_CONNECTION
    if descriptors == resource.RLIM_INFINITY:
        return max(16, by_memory)
    by_descriptors = (descriptors - 64) // 2 - affordable_pipes(descriptors)
    return max(16, min(by_descriptors, by_memory))

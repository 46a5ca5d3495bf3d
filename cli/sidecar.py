"""A sidecar from its environment: embedded control and the identity's source, wired into it.

What a sidecar seldom needs is imported where it is used: its start is short, and it is small.
Exit status: 0 drained, 2 settings, 3 the drain deadline was hit. Where several processes are to
serve, this is each of them, and ``cli.workers`` who starts them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Final, NoReturn

from control.embedded import EmbeddedControl
from control.exports import Exports
from control.identity import Certify, LeafFiles, LeafRenewal
from core.clock import Clock, SystemClock
from core.errors import ConfigError
from discovery.model import Labels
from identity.anchors import Anchors, load_anchors, parse_roots
from identity.material import Material
from identity.name import Identity, parse_identity
from proxy.app import Providers, Sidecar
from proxy.config import Config, read_config
from proxy.crew import CUT, Crew
from proxy.explicit import Explicit, plan_explicit
from proxy.net.capture import ExplicitCapture, RedirectCapture
from proxy.net.loop import Loop
from proxy.providers import IdentityProvider
from proxy.telemetry.log import Logger, make_logger
from resources.config_map import DEFAULT_CONFIG
from resources.selector import selector_of

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
Service = tuple[str, Callable[[], Awaitable[None]]]


def run(*, is_gateway: bool, crew: Crew | None = None) -> NoReturn:
    """Run a sidecar until it is asked to end, and exit with its status.

    ``is_gateway``: it stands for a whole cluster, beside no application: what comes to it was
    dialled as it comes. ``crew``: it is one of several workers.
    """
    for each in _ENDING:
        # Until there is something to drain, there is nothing to lose.
        signal.signal(each, lambda *_: sys.exit(0))
    config = read_config(os.environ)
    log = make_logger(
        config.log_level,
        config.log_format,
        colors=config.log_colors,
        always=None if crew is None else {"worker": crew.number},
    )
    if crew is None and config.workers > 1:
        from cli.workers import Workers, usable_workers  # noqa: PLC0415 - most are one process

        # Each may have one connection at least.
        count = min(usable_workers(config.workers, log), config.max_connections)
        if count > 1:
            gc.enable()
            with Workers(config, _planned_explicit(config), log, is_gateway=is_gateway) as workers:
                sys.exit(workers.run(count))
    if config.ignored and (crew is None or crew.number == 1):
        log.info("settings ignored", names=list(config.ignored))
    clock = SystemClock()
    with asyncio.Runner(loop_factory=Loop) as runner:
        control = EmbeddedControl(
            str(config.mesh_dir), config.pod_namespace, config.pod_name, clock
        )
        runner.run(control.start())
        identity, own_ips = _who_we_are(config, control)
        explicit = _explicit(config, control, own_ips) if config.is_explicit else None
        trust_domain = _trust_domain(identity, control)
        source, services = _identity_source(
            config, identity, trust_domain, control, clock, log, os.environ
        )
        providers = Providers(
            identity=source,
            policies=control,
            discovery=control,
            names=control,
            readiness=(control,),
            exports=_exports(config, control, clock, is_gateway=is_gateway),
            gateways=control,
            services=(("mesh directory", control.run), *services),
            build=_build,
        )
        is_dialled = is_gateway or explicit is not None
        sidecar = Sidecar(
            config,
            providers,
            ExplicitCapture() if is_dialled else RedirectCapture(),
            own_ips,
            log,
            clock,
            explicit,
            crew,
        )
        # All that is there by now would be looked at before the first connection is served.
        gc.freeze()
        gc.enable()
        sys.exit(runner.run(_serve(sidecar, log, control, is_worker=crew is not None)))


def _planned_explicit(config: Config) -> Explicit | None:
    """Return the ports to hold for the application, as whoever starts the workers sees them."""
    if not config.is_explicit:
        return None
    control = EmbeddedControl(
        str(config.mesh_dir), config.pod_namespace, config.pod_name, SystemClock()
    )
    try:
        asyncio.run(control.start())
        return _explicit(config, control, _who_we_are(config, control)[1])
    finally:
        control.close()


def _exports(
    config: Config, control: EmbeddedControl, clock: Clock, *, is_gateway: bool
) -> Exports | None:
    """Return what other clusters may reach through us; None: we are no gateway."""
    if not is_gateway and not config.gateway_suffixes:
        return None
    text = config.gateway_export_selector
    try:
        more = selector_of(text) if text else None
    except ValueError as error:
        raise ConfigError(f"PILLION_GATEWAY_EXPORT_SELECTOR: {error}") from error
    if more is not None and not more.requirements:
        more = None
    return Exports(control.index, clock, config.gateway_suffixes, more)


def _who_we_are(config: Config, control: EmbeddedControl) -> tuple[Identity, frozenset[str]]:
    """Return our identity and addresses, from settings or else from our Pod's manifest.

    Raises ConfigError when neither says it: a sidecar that does not know whom it stands beside
    cannot even refuse on its behalf.
    """
    problems = []
    workload = control.own_workload
    identity = parse_identity(config.identity_name) if config.identity_name else None
    if identity is None and workload is not None:
        identity = workload.identity
    ips = config.pod_ips or (workload.pod.ips if workload is not None else ())
    pod = f"{config.pod_namespace}/{config.pod_name}"
    if workload is None:
        problems.append(f"{config.mesh_dir} has no usable manifest of our pod {pod} (PILLION_POD)")
    elif identity is None:
        problems.append(f"{pod} is not meshed: its manifest gives it no identity")
    if identity is None or not ips:
        found = [str(problem) for problem in control.problems.current]
        raise ConfigError(
            [*found, *problems],
            hint="without a manifest PILLION_IDENTITY_NAME and PILLION_POD_IPS say who we are",
        )
    return identity, frozenset(ips)


def _trust_domain(identity: Identity, control: EmbeddedControl) -> str:
    """Return the domain whose anchors vouch for us: the name's own, or else the mesh's."""
    workload = control.own_workload
    mesh = workload.config if workload is not None else DEFAULT_CONFIG
    return identity.trust_domain or mesh.trust_domain


def _explicit(config: Config, control: EmbeddedControl, own_ips: frozenset[str]) -> Explicit:
    """Return the ports to hold, and let the pod's own programs in as such."""
    workload = control.own_workload
    declared = [each.number for each in workload.pod.ports] if workload is not None else []
    own_ports = (config.inbound_listen, config.outbound_listen, config.admin_listen)
    ports = {address.port for address in own_ports}
    # On loopback others may have 127.0.0.1 too: only its own address tells the pod from them.
    is_shared = any(ip_address(ip).is_loopback for ip in own_ips)
    control.admit_from(own_ips if is_shared else {*own_ips, "127.0.0.1", "::1"})
    return plan_explicit(own_ips, declared, config.app_ports, ports)


def _identity_source(
    config: Config,
    identity: Identity,
    trust_domain: str,
    control: EmbeddedControl,
    clock: Clock,
    log: Logger,
    environment: Mapping[str, str],
) -> tuple[IdentityProvider, list[Service]]:
    """Return where generations come from, and what has to run for that."""
    directory = config.identity_dir
    given = _given_anchors(config, trust_domain)

    def anchors(before: Anchors | None) -> Anchors:
        named = dict(control.anchor_files.current)
        return load_anchors(Material(directory).anchors, trust_domain, before or given, named)

    def say(level: str, message: str) -> None:
        (log.warning if level == "warn" else log.info)("identity", message=message)

    certify: Certify
    if config.identity_socket is not None:
        from control.issuer_client import IssuerClient  # noqa: PLC0415 - and with it protobuf

        certify = IssuerClient(config.identity_socket, identity).certify
    elif config.dev_issuer and config.dev_authority is not None:
        # Only here is the issuing code, and with it the cryptography library, loaded.
        from control.dev_issuer import open_dev_issuer  # noqa: PLC0415

        certify = open_dev_issuer(
            config.dev_authority,
            directory,
            identity,
            environment=environment,
            clock=clock,
            log=say,
        )
    else:
        files = LeafFiles(
            directory,
            identity,
            load_anchors=anchors,
            clock=clock,
            log=say,
            server_name=config.identity_server_name,
        )
        files.load()
        control.anchor_files.subscribe(lambda _: files.look())
        return files, [("identity", files.run)]
    from control.launch import prepare_material  # noqa: PLC0415 - not for leaves of others

    prepare_material(directory, identity)
    renewal = LeafRenewal(
        directory,
        identity,
        certify=certify,
        load_anchors=anchors,
        clock=clock,
        log=say,
        server_name=config.identity_server_name,
        token=config.identity_token_file,
        min_refresh_s=config.identity_min_refresh_s,
        max_refresh_s=config.identity_max_refresh_s,
    )
    control.anchor_files.subscribe(lambda _: renewal.look())
    return renewal, [("identity", renewal.run)]


def _given_anchors(config: Config, trust_domain: str) -> Anchors | None:
    """Return the roots that the environment has, in force until there is a file; None: none."""
    if not config.trust_anchors:
        return None
    roots = parse_roots(config.trust_anchors.encode(), "the environment").roots
    return Anchors(trust_domain.lower(), {trust_domain.lower(): roots})


def _obey(sidecar: Sidecar, log: Logger, *, is_worker: bool) -> None:
    """Let the first signal to end begin the drain, and the second end it; a worker's is CUT."""
    loop = asyncio.get_running_loop()
    seen: list[str] = []

    def cut(name: str) -> None:
        log.warning("asked to end at once", signal=name)
        sidecar.cut()

    def obey(name: str) -> None:
        seen.append(name)
        if len(seen) == 1:
            log.info("asked to end", signal=name)
            sidecar.stop()
        elif not is_worker:
            cut(name)

    for each in _ENDING:
        loop.add_signal_handler(each, obey, each.name)
    if is_worker:
        loop.add_signal_handler(CUT, cut, CUT.name)


def _build() -> Labels:
    # Reading an installation's version loads what a sidecar nobody scrapes can do without.
    from cli.version import build_labels  # noqa: PLC0415

    return build_labels()


async def _serve(
    sidecar: Sidecar, log: Logger, control: EmbeddedControl, *, is_worker: bool
) -> int:
    for problem in control.problems.current:
        log.warning("manifest problem", problem=str(problem))
    forget = control.problems.subscribe(
        lambda problems: log.warning("manifest problems", problems=[str(each) for each in problems])
    )
    _obey(sidecar, log, is_worker=is_worker)
    try:
        return await sidecar.run()
    finally:
        forget()
        control.close()

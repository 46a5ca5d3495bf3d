"""One hop of pillion: ``python bench/hop.py IP PORT``, its settings in the environment.

The real data plane on a mesh directory. On loopback nothing is redirected, so the capture says of
every connection that it was going to IP and PORT. Everything else is as in a pod: the outbound
hop finds the endpoint by Service and policy, dials its direct port with mutual TLS and a
transport header; the inbound one reads the header, asks policy for the client's identity, counts
and logs. On SIGUSR1 it prints the garbage collector's longest pause since the last one, as JSON.
"""

from __future__ import annotations

import gc

# As ``pillion proxy`` starts (cli/start.py): what is loaded stays.
gc.disable()

import asyncio
import json
import os
import signal
import sys
import time
from typing import final

from control.embedded import EmbeddedControl
from control.identity import LeafFiles
from core.clock import SystemClock
from core.errors import ConfigError
from discovery.model import Address
from identity.anchors import load_anchors
from identity.material import Material
from identity.name import parse_identity
from proxy.app import Providers, Sidecar
from proxy.config import Config, read_config
from proxy.net.capture import FixedCapture
from proxy.net.loop import Loop
from proxy.telemetry.log import make_logger


@final
class Pauses:
    """Times the garbage collector's runs; called by it, not by what is measured."""

    def __init__(self) -> None:
        self._began = 0.0
        self._longest_s = 0.0

    def __call__(self, phase: str, _info: dict[str, int]) -> None:
        """Take notice of a run that begins or ends (``gc.callbacks``)."""
        now = time.perf_counter()
        if phase == "start":
            self._began = now
        else:
            self._longest_s = max(self._longest_s, now - self._began)

    def tell(self) -> None:
        """Print the longest run, and forget it."""
        print(json.dumps({"longest_pause_us": self._longest_s * 1e6}), flush=True)
        self._longest_s = 0.0


def load_identity(config: Config, clock: SystemClock) -> LeafFiles:
    """Return the identity whose leaf others issued. Raises ConfigError."""
    material = Material(config.identity_dir)
    identity = parse_identity(config.identity_name)
    leaf = LeafFiles(
        config.identity_dir,
        identity,
        load_anchors=lambda old: load_anchors(material.anchors, identity.trust_domain, old),
        clock=clock,
        log=lambda _level, _text: None,
    )
    if not leaf.load():
        raise ConfigError(leaf.status.current.last_error)
    return leaf


async def load_control(config: Config, clock: SystemClock) -> EmbeddedControl:
    """Return the mesh directory, read. Raises ConfigError with every mistake in it."""
    control = EmbeddedControl(str(config.mesh_dir), config.pod_namespace, config.pod_name, clock)
    await control.start()
    problems = [str(problem) for problem in control.problems.current]
    if control.unready.current:
        problems.append(control.unready.current)
    if problems:
        raise ConfigError(problems)
    return control


async def serve(config: Config, destination: Address) -> int:
    """Serve until SIGTERM; return the sidecar's exit status."""
    clock = SystemClock()
    control = await load_control(config, clock)
    sidecar = Sidecar(
        config,
        Providers(
            identity=load_identity(config, clock),
            policies=control,
            discovery=control,
            readiness=(control,),
            services=(("mesh directory", control.run),),
        ),
        FixedCapture(destination),
        frozenset({config.inbound_listen.ip}),
        make_logger(config.log_level, "json"),
        clock,
    )
    pauses = Pauses()
    gc.callbacks.append(pauses)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sidecar.stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, pauses.tell)
    gc.freeze()
    gc.enable()
    return await sidecar.run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=Loop) as running:
        work = serve(read_config(os.environ), Address(sys.argv[1], int(sys.argv[2])))
        sys.exit(running.run(work))

"""Asking the gateways of other clusters whether they live, from this sidecar and by its own way.

The rules are Linkerd's probe worker's: a GET over mutual TLS in the link's rhythm; 200 is a yes.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final, final

from core.errors import HandshakeError, MeshError
from discovery.model import Address, Endpoint, Path, PathKind
from multicluster.liveness import ProbeState, after_probe, pause_s
from multicluster.model import Gateway, GatewayLiveness
from proxy.outbound.dial import dial
from proxy.providers import GatewayProvider
from proxy.runtime import Runtime
from proxy.telemetry.metric import Metrics

MAX_ANSWER_BYTES: Final = 4096
"""Of an answer only its first line is read; it has to come within so many bytes."""


@final
class Prober:
    """Probes each gateway in use for as long as it is."""

    def __init__(self, runtime: Runtime, gateways: GatewayProvider) -> None:
        self._runtime = runtime
        self._provider = gateways
        self._probed: dict[str, tuple[Gateway, asyncio.Task[None]]] = {}
        self._random = random.Random()  # noqa: S311  # spreads probes, keeps no secret

    async def run(self) -> None:
        """Probe until cancelled."""
        watch = self._provider.gateways
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    version = watch.version
                    self._follow(tasks, watch.current)
                    await watch.changed(version)
        finally:
            self._probed.clear()

    def _follow(self, tasks: asyncio.TaskGroup, gateways: tuple[Gateway, ...]) -> None:
        wanted = {each.cluster: each for each in gateways}
        for cluster, (gateway, task) in list(self._probed.items()):
            if wanted.get(cluster) != gateway:
                task.cancel()
                del self._probed[cluster]
        enabled = self._runtime.metrics.gateway_enabled
        for cluster, gateway in wanted.items():
            enabled.child((("target_cluster_name", cluster),)).value = 1
            if cluster not in self._probed:
                self._probed[cluster] = gateway, tasks.create_task(self._probe(gateway))

    async def _probe(self, gateway: Gateway) -> None:
        state = ProbeState()
        counts = _Counts(self._runtime.metrics, gateway.cluster)
        clock = self._runtime.clock
        while True:
            began = clock.monotonic()
            succeeded = await self._ask(gateway)
            counts.probed(clock.monotonic() - began, succeeded=succeeded)
            before, state = (
                state,
                after_probe(
                    state, succeeded=succeeded, failure_threshold=gateway.failure_threshold
                ),
            )
            counts.alive(state.liveness is GatewayLiveness.ALIVE)
            if state.liveness is not before.liveness:
                self._runtime.log.info(
                    "gateway", cluster=gateway.cluster, liveness=state.liveness.value
                )
                self._provider.gateway_probed(gateway.cluster, is_usable=state.is_usable)
            await asyncio.sleep(pause_s(gateway.period_s, self._random.random()))

    async def _ask(self, gateway: Gateway) -> bool:
        """Whether one of the gateway's addresses says that it is ready."""
        try:
            async with asyncio.timeout(gateway.timeout_s):
                for address in gateway.addresses:
                    try:
                        if await self._ask_at(gateway, address):
                            return True
                    except MeshError as error:
                        self._runtime.log.debug(
                            "gateway probe failed",
                            cluster=gateway.cluster,
                            endpoint=str(address),
                            code=error.code,
                            reason=str(error),
                        )
        except TimeoutError:
            return False
        return False

    async def _ask_at(self, gateway: Gateway, address: Address) -> bool:
        endpoint = Endpoint(
            address=address,
            identity=gateway.identity,
            path=Path(PathKind.GATEWAY, gateway.cluster, gateway.trust_domain),
        )
        dialled = await dial(self._runtime, endpoint)
        stream, inbox = dialled.stream, dialled.inbox
        try:
            head = f"GET {gateway.path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
            stream.write(head.encode("ascii"))
            stream.resume()
            while b"\r\n" not in inbox.data:
                if len(inbox.data) > MAX_ANSWER_BYTES or not await inbox.more(len(inbox.data)):
                    raise HandshakeError("the gateway's answer has no first line")
            line = bytes(inbox.data).partition(b"\r\n")[0].split(b" ")
            return len(line) > 1 and line[0].startswith(b"HTTP/1.") and line[1] == b"200"
        finally:
            stream.abort()


@final
class _Counts:
    """What is counted of one gateway, under the names of Linkerd's service mirror."""

    def __init__(self, metrics: Metrics, cluster: str) -> None:
        label = ("target_cluster_name", cluster)
        self._alive = metrics.gateway_alive.child((label,))
        self._latency = metrics.gateway_latency.child((label,))
        self._probes = {
            succeeded: metrics.gateway_probes.child((label, ("probe_successful", text)))
            for succeeded, text in ((True, "true"), (False, "false"))
        }

    def probed(self, seconds: float, *, succeeded: bool) -> None:
        """Count a probe."""
        self._probes[succeeded].value += 1
        if succeeded:
            self._latency.value = round(seconds * 1000)

    def alive(self, is_alive: bool) -> None:  # noqa: FBT001  # what is said of it
        """Tell whether the gateway lives."""
        self._alive.value = int(is_alive)

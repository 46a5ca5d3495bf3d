"""Pods behind Services, as the conformance suite of the Gateway API has them, on this machine.

``echo-v1`` and ``echo-v2``, each with a sidecar; Services of these names, and ``echo`` over both;
and clients' sidecars in any namespace, all told by one mesh directory what to do. The pods say what
they were sent, in JSON; what ``?`` says of faults they do first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from control.embedded import EmbeddedControl
from core.clock import SystemClock
from core.watch import Watch
from discovery.model import Address, EndpointSet, Profile, Target
from policy.model import OutboundPolicy
from proxy.net.capture import FixedCapture
from tests.authority import Mesh
from tests.session.apps import serve
from tests.sidecars import Control, Running, free_address, run_sidecar
from tests.support import manifests

MESH_NS: Final = "gateway-conformance-mesh"
CONSUMER_NS: Final = "gateway-conformance-mesh-consumer"
SERVICES: Final = {"echo": "10.96.1.0", "echo-v1": "10.96.1.1", "echo-v2": "10.96.1.2"}
GATEWAY: Final = "gateway.networking.k8s.io/v1"
DOMAIN: Final = "cluster.local"


@dataclass
class Pod:
    """An application, and what it was asked."""

    name: str
    seen: list[dict[str, Any]] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        start, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = start.split(" ")
        headers = [tuple(each.split(": ", 1)) for each in lines]
        length = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
        chunked = any(k.lower() == "transfer-encoding" for k, _ in headers)
        body = await reader.readexactly(length)
        while chunked:
            size = int((await reader.readline()).strip() or b"0", 16)
            body += await reader.readexactly(size)
            await reader.readline()
            chunked = size > 0
        said = {
            "pod": self.name,
            "namespace": MESH_NS,
            "method": method,
            "path": target,
            "headers": headers,
            "body": body.decode(),
        }
        self.seen.append(said)
        query = {key: value[-1] for key, value in parse_qs(urlsplit(target).query).items()}
        return await self._answer(query, said, writer)

    async def _answer(
        self, query: Mapping[str, str], said: dict[str, Any], writer: asyncio.StreamWriter
    ) -> bool:
        key = query.get("key", "")
        self.tries[key] += 1
        fails = self.tries[key] <= int(query.get("fails", "0"))
        is_meant = query.get("only", self.name) == self.name
        if is_meant and "delay" in query and (fails or "fails" not in query):
            await asyncio.sleep(float(query["delay"]))
            if writer.is_closing():
                return False
        if fails and query.get("status") == "reset":
            writer.transport.abort()
            return False
        status = query["status"] if fails and "status" in query else "200"
        extra = "".join(f"{each}\r\n" for each in query.get("say", "").split("|") if each)
        content = b"" if said["method"] == "HEAD" else json.dumps(said).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n{extra}\r\n".encode()
            + content
        )
        return True


@dataclass
class Routed(Control):
    """What a client's sidecar is told, by a mesh directory."""

    directory: EmbeddedControl | None = None

    @property
    def _directory(self) -> EmbeddedControl:
        assert self.directory is not None
        return self.directory

    def outbound(self, destination: Address) -> Watch[OutboundPolicy | None]:
        """Return the destination's policy."""
        return self._directory.outbound(destination)

    def profile(self, destination: Address) -> Watch[Profile | None]:
        """Return the destination's profile."""
        return self._directory.profile(destination)

    def endpoints(self, target: Target) -> Watch[EndpointSet]:
        """Return the target's endpoints."""
        return self._directory.endpoints(target)


@dataclass
class SourceCapture:
    """Tells connections' destinations by the client's own address, so that they can mix."""

    by_port: dict[int, Address] = field(default_factory=dict)

    def original_destination(self, sock: socket.socket) -> Address:
        """Return where this client was going."""
        return self.by_port[sock.getpeername()[1]]


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        """What the pod says it was asked."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def pod(self) -> str:
        """Who answered; empty: no pod did."""
        return str(self.said["pod"]) if self.body else ""

    def header(self, name: str) -> str | None:
        """Return a header of the answer, its lines joined as the conformance suite joins them."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ",".join(found) if found else None

    def seen(self, name: str) -> str | None:
        """Return a header of the request as the pod saw it, joined."""
        found = [value for key, value in self.said["headers"] if key.lower() == name.lower()]
        return ",".join(found) if found else None


@dataclass
class Client:
    """A pod that calls others through its sidecar."""

    running: Running
    capture: SourceCapture

    async def get(
        self,
        path: str = "/",
        *,
        to: str = "echo",
        port: int = 80,
        host: str = "",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send one request on a connection of its own to a Service, or to an address."""
        destination = Address(SERVICES.get(to, to), port)
        fields = {"Host": host or (to if port == 80 else f"{to}:{port}"), **(headers or {})}
        if body:
            fields["Content-Length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self.capture.by_port[sock.getsockname()[1]] = destination
        listen = self.running.config.outbound_listen
        await asyncio.get_running_loop().sock_connect(sock, (listen.ip, listen.port))
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            async with asyncio.timeout(10):
                writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
                return await _read(reader, method)
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader, method: str) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = [(name, value) for name, _, value in (each.partition(": ") for each in head[1:])]
    length = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
    body = b"" if method == "HEAD" else await reader.readexactly(length)
    return Answer(int(head[0].split(" ")[1]), headers, body)


@dataclass
class EchoMesh:
    """The mesh of a test."""

    folder: Path
    mesh: Mesh
    pods: dict[str, Pod]
    addresses: dict[str, Address]
    stack: contextlib.AsyncExitStack
    controls: list[EmbeddedControl] = field(default_factory=list)

    async def client(self, namespace: str = MESH_NS) -> Client:
        """Run another client's sidecar."""
        control = EmbeddedControl(str(self.folder), namespace, "client", SystemClock())
        await control.start()
        task = asyncio.ensure_future(control.run())
        self.stack.push_async_callback(_cancel, task)
        generation = self.mesh.generation(f"{namespace}/default")
        routed = Routed(Watch(generation), directory=control)
        capture = SourceCapture()
        running = await self.stack.enter_async_context(
            run_sidecar(generation, capture, control=routed)
        )
        self.controls.append(control)
        return Client(running, capture)

    async def apply(self, *objects: dict[str, Any]) -> None:
        """Put objects in force, in place of what the file said before; waits until they are."""
        temporary = self.folder / ".new"
        temporary.write_text("\n---\n".join(json.dumps(each) for each in objects))
        marker = f"10.250.{random.randrange(256)}.{random.randrange(1, 255)}"
        done = manifests.service("marker", marker, {"port": 80}, namespace=MESH_NS)
        text = temporary.read_text()
        temporary.write_text(f"{text}\n---\n{json.dumps(done)}" if text else json.dumps(done))
        temporary.rename(self.folder / "routes.json")
        async with asyncio.timeout(10):
            for control in self.controls:
                while control.addresses(f"marker.{MESH_NS}.svc.cluster.local", 80) != (
                    Address(marker, 80),
                ):
                    await asyncio.sleep(0.005)
                assert control.problems.current == (), control.problems.current


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@contextlib.asynccontextmanager
async def run_echo_mesh(mesh: Mesh, folder: Path) -> AsyncIterator[EchoMesh]:
    """Run the pods and their sidecars."""
    pods = {name: Pod(name) for name in ("echo-v1", "echo-v2")}
    addresses: dict[str, Address] = {}
    net = f"127.{random.randrange(20, 250)}.{random.randrange(250)}"
    objects = [manifests.namespace(MESH_NS), manifests.namespace(CONSUMER_NS)]
    async with contextlib.AsyncExitStack() as stack:
        for number, (name, app) in enumerate(pods.items(), 1):
            ip = f"{net}.{number}"
            address = await stack.enter_async_context(serve(app, ip))
            addresses[name] = address
            inbound = free_address(ip)
            generation = mesh.generation(f"{MESH_NS}/default")
            await stack.enter_async_context(
                run_sidecar(generation, FixedCapture(inbound), ip=ip, inbound=inbound)
            )
            objects.append(
                manifests.pod(
                    f"{name}-0",
                    ip,
                    namespace=MESH_NS,
                    labels={"app": "echo", "version": name[-2:]},
                    annotations={
                        **manifests.MESHED,
                        "config.linkerd.io/inbound-port": str(inbound.port),
                    },
                    ports={"http": address.port},
                )
            )
        objects += [_service(name, ip) for name, ip in SERVICES.items()]
        for namespace in (MESH_NS, CONSUMER_NS):
            objects.append(
                manifests.pod(
                    "client", "10.1.9.9", namespace=namespace, annotations=manifests.MESHED
                )
            )
        (folder / "mesh.json").write_text("\n---\n".join(json.dumps(each) for each in objects))
        yield EchoMesh(folder, mesh, pods, addresses, stack)


def _service(name: str, ip: str) -> dict[str, Any]:
    selector = {"app": "echo"} | ({} if name == "echo" else {"version": name[-2:]})
    ports = (
        {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"},
        {"name": "http-alt", "port": 8080, "targetPort": "http", "appProtocol": "http"},
    )
    return manifests.service(name, ip, *ports, namespace=MESH_NS, selector=selector)


def route(
    name: str,
    *rules: dict[str, Any],
    parent: str = "echo",
    port: int | None = 80,
    namespace: str = MESH_NS,
    kind: str = "HTTPRoute",
    group: str = GATEWAY,
    annotations: Mapping[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    **spec: Any,
) -> dict[str, Any]:
    """Return a route on a Service of the mesh's namespace."""
    reference: dict[str, Any] = {"group": "", "kind": "Service", "name": parent}
    if namespace != MESH_NS:
        reference["namespace"] = MESH_NS
    if port is not None:
        reference["port"] = port
    return {
        "apiVersion": group,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "generation": 1,
            **({"annotations": dict(annotations)} if annotations else {}),
        },
        "spec": {"parentRefs": [reference], "rules": list(rules), **spec},
    }


def to(name: str, port: int = 8080, **more: Any) -> dict[str, Any]:
    """Return a backend reference."""
    return {"name": name, "port": port, **more}


def rule(
    *matches: dict[str, Any],
    v: int = 0,
    filters: list[dict[str, Any]] | None = None,
    backends: list[dict[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a rule to ``echo-v1`` or ``echo-v2``, by number, or to ``backends``."""
    found: dict[str, Any] = dict(more)
    if matches:
        found["matches"] = list(matches)
    if filters:
        found["filters"] = filters
    if v:
        found["backendRefs"] = [to(f"echo-v{v}")]
    if backends is not None:
        found["backendRefs"] = backends
    return found


def prefix(value: str, **more: Any) -> dict[str, Any]:
    """Return a match of a path's beginning."""
    return {"path": {"type": "PathPrefix", "value": value}, **more}


def exact(value: str, **more: Any) -> dict[str, Any]:
    """Return a match of a path."""
    return {"path": {"type": "Exact", "value": value}, **more}


def header(name: str, value: str) -> dict[str, Any]:
    """Return a match of a header."""
    return {"headers": [{"name": name, "value": value}]}


def query(value: str, name: str = "animal") -> dict[str, Any]:
    """Return a match of a query parameter."""
    return {"queryParams": [{"name": name, "value": value}]}

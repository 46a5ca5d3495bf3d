"""GRPCRoutes: a real gRPC client and server, with two sidecars between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from discovery.model import Address
from proxy.net.capture import FixedCapture
from tests.authority import Mesh
from tests.session.echo_pods import MESH_NS, EchoMesh, Routed, route, run_echo_mesh
from tests.sidecars import run_sidecar
from tests.support import manifests

GRPC = Address("10.96.1.50", 7070)
Metadata = list[tuple[str, str]]
Call = Callable[..., dict[str, Any]]


def _raw(data: bytes) -> bytes:
    return data


class _Echo(grpc.GenericRpcHandler):
    def __init__(self, name: str) -> None:
        self.name = name

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            headers = [(each[0], str(each[1])) for each in context.invocation_metadata()]
            said = {"pod": self.name, "method": handler_call_details.method, "headers": headers}
            return json.dumps(said).encode()

        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=_raw, response_serializer=_raw
        )


@contextlib.contextmanager
def serve_grpc(name: str, ip: str) -> Iterator[int]:
    """Run a gRPC server; yields its port."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=[_Echo(name)])
    port = server.add_insecure_port(f"{ip}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@pytest.fixture
async def echo(mesh: Mesh, tmp_path: Path) -> AsyncIterator[EchoMesh]:
    """Run the pods, and gRPC servers beside their HTTP ones."""
    async with run_echo_mesh(mesh, tmp_path) as running:
        slices = []
        for name, address in running.addresses.items():
            port = running.stack.enter_context(serve_grpc(name, address.ip))
            ready = {"addresses": [address.ip], "conditions": {"ready": True}}
            reference = {"kind": "Pod", "name": f"{name}-0", "namespace": MESH_NS}
            named = {"name": "grpc", "port": port}
            for service in (name, "echo"):
                slices.append(
                    manifests.endpoint_slice(
                        f"grpc-{service}-{name}",
                        f"grpc-{service}",
                        {**ready, "targetRef": reference},
                        namespace=MESH_NS,
                        ports=(named,),
                    )
                )
        ports = {"name": "grpc", "port": 7070, "targetPort": "grpc", "appProtocol": "grpc"}
        for service, ip in (
            ("grpc-echo", GRPC.ip), ("grpc-echo-v1", "10.96.1.51"), ("grpc-echo-v2", "10.96.1.52")
        ):  # fmt: skip
            slices.append(manifests.service(service, ip, ports, namespace=MESH_NS, selector={}))
        text = "\n---\n".join(json.dumps(each) for each in slices)
        (running.folder / "grpc.json").write_text(text)
        yield running


@pytest.fixture
async def call(echo: EchoMesh) -> AsyncIterator[Call]:
    """Run a client's sidecar; returns a function that makes one call from another thread."""
    client = await echo.client()
    control = client.running.control
    assert isinstance(control, Routed)
    generation = control.generation.current
    async with run_sidecar(generation, FixedCapture(GRPC), control=control) as running:
        with grpc.insecure_channel(str(running.config.outbound_listen)) as channel:

            def one(method: str = "/echo.Echo/Say", metadata: Metadata | None = None) -> Any:
                stub = channel.unary_unary(
                    method, request_serializer=_raw, response_deserializer=_raw
                )
                return json.loads(stub(b"", metadata=tuple(metadata or ()), timeout=10))

            yield one


def grpc_route(*rules: dict[str, Any]) -> dict[str, Any]:
    """Return a GRPCRoute on the Service of gRPC."""
    return route("calls", *rules, parent="grpc-echo", port=7070, kind="GRPCRoute")


def to(version: int, **more: Any) -> dict[str, Any]:
    """Return a reference to a version's Service."""
    return {"name": f"grpc-echo-v{version}", "port": 7070, **more}


async def test_weight(echo: EchoMesh, call: Call) -> None:
    """Seventy to thirty over 500 calls; a Service that is not there weighs nothing."""
    backends = [to(1, weight=70), to(2, weight=30), to(3, weight=0)]
    await echo.apply(grpc_route({"backendRefs": backends}))

    def batch() -> Counter[str]:
        with ThreadPoolExecutor(20) as pool:
            return Counter(pool.map(lambda _: call()["pod"], range(500)))

    counted = await asyncio.to_thread(batch)
    assert set(counted) == {"echo-v1", "echo-v2"}
    assert sum(counted.values()) == 500
    assert abs(counted["echo-v1"] / 500 - 0.7) <= 0.05


def modifier(**actions: Any) -> list[dict[str, Any]]:
    """Return a RequestHeaderModifier alone."""
    edits = {
        action: given
        if action == "remove"
        else [{"name": name, "value": value} for name, value in given.items()]
        for action, given in actions.items()
    }
    return [{"type": "RequestHeaderModifier", "requestHeaderModifier": edits}]


def case(name: str) -> list[dict[str, Any]]:
    """Return a match of a test case's header."""
    return [{"headers": [{"name": "x-test-case", "value": name}]}]


async def test_request_header_modifier(echo: EchoMesh, call: Call) -> None:
    """Set, added and removed, by a header's value."""
    one, two = [to(1)], [to(2)]
    await echo.apply(
        grpc_route(
            {
                "matches": case("set"),
                "backendRefs": one,
                "filters": modifier(set={"x-header-set": "set-overwrites-values"}),
            },
            {
                "matches": case("add"),
                "backendRefs": one,
                "filters": modifier(add={"x-header-add": "add-appends-values"}),
            },
            {
                "matches": case("remove"),
                "backendRefs": one,
                "filters": modifier(remove=["x-header-remove"]),
            },
            {
                "matches": case("multi"),
                "backendRefs": two,
                "filters": modifier(
                    set={"x-header-set-1": "header-set-1", "x-header-set-2": "header-set-2"},
                    add={"x-header-add-1": "header-add-1", "x-header-add-2": "header-add-2"},
                    remove=["x-header-remove-1", "x-header-remove-2"],
                ),
            },
        )
    )
    cases: list[tuple[str, dict[str, str], str, dict[str, str], list[str]]] = [
        ("set", {"some-other-header": "kept", "x-header-set": "over"}, "echo-v1",
         {"some-other-header": "kept", "x-header-set": "set-overwrites-values"}, []),
        ("add", {"x-header-add": "first"}, "echo-v1",
         {"x-header-add": "first,add-appends-values"}, []),
        ("remove", {"x-header-remove": "gone"}, "echo-v1", {}, ["x-header-remove"]),
        ("multi",
         {"x-header-set-2": "over", "x-header-add-2": "first", "x-header-remove-2": "gone"},
         "echo-v2",
         {"x-header-set-1": "header-set-1", "x-header-set-2": "header-set-2",
          "x-header-add-1": "header-add-1", "x-header-add-2": "first,header-add-2"},
         ["x-header-remove-1", "x-header-remove-2"]),
    ]  # fmt: skip
    for name, sent, pod, wanted, absent in cases:
        metadata = [("x-test-case", name), *sent.items()]
        said = await asyncio.to_thread(call, metadata=metadata)
        seen: dict[str, str] = {}
        for key, value in said["headers"]:
            seen[key] = f"{seen[key]},{value}" if key in seen else value
        assert said["pod"] == pod
        assert seen["x-test-case"] == name
        assert {key: seen.get(key) for key in wanted} == wanted
        assert not set(absent) & set(seen)


def called(**method: str) -> list[dict[str, Any]]:
    """Return a match of a call."""
    return [{"method": method}]


async def code_of(call: Call, method: str) -> grpc.StatusCode | str:
    """Return who answers a call, or the code that it fails with."""
    try:
        return str((await asyncio.to_thread(call, method))["pod"])
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code


async def test_services_and_methods(echo: EchoMesh, call: Call) -> None:
    """The more exact match counts; what none is for is UNIMPLEMENTED, a bad backend UNAVAILABLE."""
    await echo.apply(
        grpc_route(
            {"matches": called(service="a.B"), "backendRefs": [to(1)]},
            {"matches": called(service="a.B", method="Two"), "backendRefs": [to(2)]},
            {"matches": called(method="Any"), "backendRefs": [to(2)]},
            {
                "matches": called(type="RegularExpression", service="r[.]X+", method="M.*"),
                "backendRefs": [to(1)],
            },
            {"matches": called(service="broken"), "backendRefs": [to(9)]},
            {"matches": called(service="empty")},
        )
    )
    for method, wanted in (
        ("/a.B/One", "echo-v1"),
        ("/a.B/Two", "echo-v2"),
        ("/x.Y/Any", "echo-v2"),
        ("/r.XX/My", "echo-v1"),
        ("/x.Y/One", grpc.StatusCode.UNIMPLEMENTED),
        ("/broken/One", grpc.StatusCode.UNAVAILABLE),
        ("/empty/One", grpc.StatusCode.UNAVAILABLE),
    ):
        assert await code_of(call, method) == wanted, method


async def test_calls_go_before_requests(echo: EchoMesh, call: Call) -> None:
    """An HTTPRoute on the same port is out of force."""
    other = route(
        "requests", {"backendRefs": [to(2)]}, parent="grpc-echo", port=7070,
        created="2020-01-01T00:00:00Z",
    )  # fmt: skip
    await echo.apply(other)
    assert await code_of(call, "/a.B/C") == "echo-v2"
    await echo.apply(other, grpc_route({"backendRefs": [to(1)]}))
    assert await code_of(call, "/a.B/C") == "echo-v1"

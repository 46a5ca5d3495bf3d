"""Three clusters in a full mesh, on a flat network and behind gateways: all sorts of traffic.

And one dies, or is cut off, and the others do not notice.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import permutations

import pytest

from tests.netns.polyglot import BIG, GREETING, PORTS
from tests.netns.three_clusters import (
    ADDRESSES,
    FEDERATED,
    HAS_GATEWAYS,
    IS_FLAT,
    NETWORKS,
    OWN,
    Scene,
    end_of,
    stopped,
    three_clusters,
)
from tests.support.clusters import bytes_carried, identity
from tests.support.processes import wait_until
from tests.support.sockets import connect_in

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

RATES = {IS_FLAT: 500, HAS_GATEWAYS: 250}
"""GETs a second: what two busy processors carry of each."""
COUNTS = {IS_FLAT: 20_000, HAS_GATEWAYS: 5_000}
CUTS_S = (0.4,) * 9 + (4.0,)


@pytest.fixture(scope="module", params=[IS_FLAT, HAS_GATEWAYS])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """All three."""
    with three_clusters(request.param) as made:
        yield made


def ask(scene: Scene, protocol: str) -> dict[str, str]:
    """Call the west's server as it is called; return the fields that it was sent, if any."""
    address, port = ADDRESSES["west"], PORTS[protocol]
    url = f"http://{address}:{port}/seen"
    curl = ("curl", "-sS", "-m", "15")
    if protocol == "HTTP/1":
        seen = json.loads(scene.run("east", *curl, url))
        assert seen["version"] == "1.1"
        content = scene.run("east", *curl, f"http://{address}:{port}/bytes/{BIG}")
        assert len(content) == BIG
        return dict(seen["fields"])
    if protocol == "HTTP/2":
        fields: dict[str, str] = json.loads(
            scene.run("east", *curl, "--http2-prior-knowledge", "-d", "x" * 99_999, url)
        )
        assert (fields[":method"], fields["length"]) == ("POST", "99999")
        return fields
    if protocol in {"gRPC", "WebSocket"}:
        program = ("-m", "tests.netns.polyglot", "ask", protocol, address, str(port))
        asked: dict[str, str] = json.loads(scene.run("east", *scene.python, *program))
        return asked
    data = bytes(range(256)) * 1_000
    with closing(connect_in(scene.pod("east").host, address, port, wait_s=15)) as near:
        if protocol == "greeting":
            assert near.recv(64) == GREETING
        near.sendall(data)
        heard = b""
        while len(heard) < len(data) and (part := near.recv(65_536)):
            heard += part
        assert heard == data
    return {}


@pytest.mark.parametrize("protocol", PORTS)
def test_every_protocol(scene: Scene, protocol: str) -> None:
    """Whoever is called knows the caller itself, or the gateway, which names the caller."""
    door = scene.gateway("west")
    before = bytes_carried(door)
    fields = ask(scene, protocol)
    web, gateway = identity("web", "east"), identity("gateway", "west")
    client = web if scene.path == "direct" else gateway
    far = f"{scene.meshes['west'].pods['api-0'].ip}:{PORTS[protocol]}"
    seen = scene.sidecars["west/api-0"].find(
        10, event="connection", direction="inbound", target=far, client_identity=client
    )
    assert seen is not None
    assert seen["tls"] == "mesh"
    carried = bytes_carried(door) - before
    if protocol not in {"bytes", "greeting"}:
        assert fields["l5d-client-id"] == client
    if scene.path == "direct":
        assert carried == 0
        assert "forwarded" not in fields
        assert not [each for each in door.events() if each.get("direction") == "gateway"]
        assert scene.packets_to_gateway("west") == 0
        return
    assert carried > 100
    target = f"api.shop.svc.cluster.local:{PORTS[protocol]}"
    passed = door.find(10, event="connection", direction="gateway", target=target)
    assert passed is not None
    assert passed["client_identity"] == web
    if fields:
        assert f"by={gateway};for={web};" in fields["forwarded"]


def test_every_cluster_calls_every_other(scene: Scene) -> None:
    """By mutual TLS, each known by its own name or by the gateway's."""
    for near, far in permutations(NETWORKS, 2):
        url = f"http://{ADDRESSES[far]}/"
        assert scene.run(near, "curl", "-sS", "-m", "15", url) == f"{far}\n"
        caller = identity("web" if near == "east" else "api", near)
        client = caller if scene.path == "direct" else identity("gateway", far)
        seen = scene.sidecars[f"{far}/{scene.server(far)}"].find(
            10, event="connection", direction="inbound", client_identity=client
        )
        assert seen is not None
        assert seen["tls"] == "mesh"
        if scene.path == "gateway":
            passed = scene.gateway(far).find(
                10, event="connection", direction="gateway", client_identity=caller
            )
            assert passed is not None


def test_a_cluster_dies(scene: Scene) -> None:
    """Everything in the west is killed: no GET of others fails, and it comes back.

    Not of neighbours, not between the two clusters that are left, and not of what all three have.
    """
    rate, count = RATES[scene.network], COUNTS[scene.network]
    near, federated = scene.load(OWN, count, rate), scene.load(FEDERATED, count, rate)
    across = scene.load(ADDRESSES["east"], count // 10, rate / 10, source="south")
    pause(federated, count / rate / 4)
    pods = scene.kill("west", meanwhile=lambda: pause(federated, 2))
    pause(federated, count / rate / 4)
    scene.start_server("west")
    for pod in pods:
        scene.start("west", pod)
    told, around = end_of(federated), (end_of(near), end_of(across))
    assert told["outcomes"] == {"200": count}, (told, scene.troubles())
    assert set(told["answers"]) == {"west", "south"}
    for each, asked in zip(around, (count, count // 10), strict=True):
        assert each["outcomes"] == {"200": asked}, (each, scene.troubles())
    for pod in pods:
        scene.sidecars[f"west/{pod}"].await_ready()
    wait_until(lambda: serves_again(scene), seconds=60, what="the west serves again")
    # It knows who calls.
    client = identity("web", "east") if scene.path == "direct" else identity("gateway", "west")
    seen = scene.sidecars["west/api-0"].find(
        10, event="connection", direction="inbound", client_identity=client
    )
    assert seen is not None


def pause(load: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait while a load goes on."""
    with pytest.raises(subprocess.TimeoutExpired):
        load.wait(seconds)


def serves_again(scene: Scene) -> bool:
    """Whether both the west and the south answer."""
    rate = RATES[scene.network]
    return set(end_of(scene.load(FEDERATED, rate, rate))["answers"]) == {"west", "south"}


def test_a_cluster_is_cut_off(scene: Scene) -> None:
    """Ten times the way to the west swallows all packets, then does not: no GET fails."""
    rate = RATES[scene.network]
    count = int(10 * sum(CUTS_S) * rate)
    near, federated = scene.load(OWN, count, rate), scene.load(FEDERATED, count, rate)
    for seconds in CUTS_S:
        pause(federated, 0.5)
        swallow(scene, "-I")
        pause(federated, seconds)
        swallow(scene, "-D")
    for each in [stopped(load) for load in (federated, near)]:
        assert set(each["outcomes"]) == {"200"}, (each, scene.troubles())
        assert each["outcomes"]["200"] >= sum(CUTS_S) * rate
    wait_until(lambda: serves_again(scene), seconds=90, what="the west serves again")
    # As before: each by its own name too, and the way as it was.
    for far in ("west", "south"):
        url = f"http://{ADDRESSES[far]}/"
        assert scene.run("east", "curl", "-sS", "-m", "15", url) == f"{far}\n"
    last = scene.sidecars["east/web-0"].find(10, event="connection", direction="outbound")
    assert last is not None


def swallow(scene: Scene, verb: str) -> None:
    """Begin (``-I``) or end (``-D``) to lose what comes from the west, at the east's node."""
    for source in (NETWORKS["west"], scene.meshes["west"].pods["gateway-0"].ip):
        scene.nodes["east"].must(
            ["iptables-nft", "-w", "5", verb, "FORWARD", "-s", source, "-j", "DROP"]
        )

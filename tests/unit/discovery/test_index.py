"""The index: any order, one whole change at a time, and nothing computed that need not be."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.index import Index
from discovery.model import Address, EndpointSet, Target
from discovery.resolve import Viewpoint
from resources.kind import ObjectKey, Resource
from tests.support import manifests

APP = {"app": "web"}
WEB = Target("web.shop.svc.cluster.local", 80)


def _variants() -> list[list[dict[str, Any]]]:
    """Return, for each object, the states it may be in."""
    deny = {"config.linkerd.io/skip-inbound-ports": "8080"}
    going = {"deletionTimestamp": "2024-01-01T00:00:00Z"}
    entry = {"addresses": ["10.1.0.1"], "targetRef": {"kind": "Pod", "name": "web-1"}}
    server = {
        "apiVersion": "policy.linkerd.io/v1beta3",
        "kind": "Server",
        "metadata": {"name": "s", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": APP}, "port": 8080, "proxyProtocol": "opaque"},
    }
    return [
        [manifests.namespace("shop"), manifests.namespace("shop", manifests.MESHED),
         manifests.namespace("shop", deny)],
        [manifests.config(), manifests.config(trustDomain="a.b", clusterNetworks="192.0.2.0/24")],
        [manifests.pod("web-1", "10.1.0.1", labels=APP),
         manifests.pod("web-1", "10.1.0.1", "fd00::1", labels=APP, annotations=manifests.MESHED),
         manifests.pod("web-1", "10.1.0.9", labels={"app": "db"}),
         manifests.pod("web-1", "10.1.0.1", labels=APP, meta=going)],
        [manifests.pod("web-2", "10.1.0.1", labels=APP, created="2024-01-01T00:00:00Z"),
         manifests.pod("web-2", "10.1.0.2", labels=APP, status={"hostIP": "10.1.0.9"},
                       container={"ports": [{"containerPort": 8080, "hostPort": 80}]})],
        [manifests.service("web", "10.2.0.1", {"port": 80, "targetPort": 8080}),
         manifests.service("web", "10.2.0.1", {"port": 80}, {"port": 81}, selector={}),
         manifests.service("web", "None", {"port": 80})],
        [manifests.service("aaa", "10.2.0.1", {"port": 80}, namespace="z"),
         manifests.service("aaa", "10.2.0.2", {"port": 80}, namespace="z",
                           created="2024-01-01T00:00:00Z")],
        [manifests.endpoint_slice("a", "web", entry),
         manifests.endpoint_slice("a", "other", entry),
         manifests.endpoint_slice("a", "web", {**entry, "zone": "a", "nodeName": "n1"})],
        [server],
    ]  # fmt: skip


VARIANTS = [[manifests.one(state) for state in states] for states in _variants()]
Step = tuple[int, int | None]
"""Which object, and its new state; None: deleted."""

_steps = st.lists(
    st.integers(0, len(VARIANTS) - 1).flatmap(
        lambda which: st.tuples(
            st.just(which), st.none() | st.integers(0, len(VARIANTS[which]) - 1)
        )
    ),
    max_size=24,
)

ADDRESSES = [
    Address(ip, port)
    for ip in ("10.1.0.1", "10.1.0.2", "10.1.0.9", "10.2.0.1", "10.2.0.2", "192.0.2.1", "fd00::1")
    for port in (80, 81, 8080)
]
TARGETS = [
    Target(host, 80)
    for host in ("web.shop.svc.cluster.local", "web-1.web.shop", "aaa.z.svc", "10.1.0.1")
]


def state_of(index: Index) -> list[object]:
    """Return everything the index says about the addresses and targets of these tests."""
    return [
        *(index.profile(address, 0.0).current for address in ADDRESSES),
        *(index.endpoints(target, 0.0).current for target in TARGETS),
    ]


@settings(max_examples=150, deadline=None)
@given(_steps, st.booleans(), st.randoms())
def test_the_outcome_is_the_last_state_of_each_object_in_whatever_order(
    steps: list[Step], asks_first: bool, random: Any
) -> None:
    """Values kept live through every step equal those of an index that saw the end alone."""
    lived = Index(Viewpoint("n1"))
    held = [lived.profile(each, 0.0) for each in ADDRESSES] if asks_first else []
    held_targets = [lived.endpoints(each, 0.0) for each in TARGETS] if asks_first else []
    last: dict[ObjectKey, Resource] = {}
    for which, state in steps:
        if state is None:
            key = VARIANTS[which][0].meta.key
            lived.delete(key)
            last.pop(key, None)
        else:
            resource = VARIANTS[which][state]
            lived.apply(resource)
            last[resource.meta.key] = resource
    fresh = Index(Viewpoint("n1"))
    resources = list(last.values())
    random.shuffle(resources)
    for resource in resources:
        fresh.apply(resource)
    assert state_of(lived) == state_of(fresh)
    if asks_first:
        now = [each.current for each in held] + [each.current for each in held_targets]
        assert now == state_of(fresh)
    whole = Index(Viewpoint("n1"))
    whole.change(resources, ())
    assert state_of(whole) == state_of(fresh)


def test_a_change_is_published_whole() -> None:
    """A pod's move from one Service to another is one step for each, and no pod is ever in both."""
    index = Index()
    index.apply(
        *manifests.objects(
            manifests.service("web", "10.2.0.1", {"port": 80}),
            manifests.service("db", "10.2.0.2", {"port": 80}),
            manifests.pod("p", "10.1.0.1", labels=APP),
            manifests.pod("q", "10.1.0.2", labels={"app": "db"}),
        )
    )
    web = index.endpoints(WEB, 0.0)
    seen: list[list[str]] = []
    web.subscribe(lambda now: seen.append([each.address.ip for each in now.endpoints]))
    index.apply(
        *manifests.objects(
            manifests.pod("p", "10.1.0.1", labels={"app": "db"}),
            manifests.pod("q", "10.1.0.2", labels=APP),
        )
    )
    assert seen == [["10.1.0.2"]]
    index.change(
        manifests.objects(manifests.pod("r", "10.1.0.3", labels=APP)),
        [ObjectKey("", "Pod", "shop", "q")],
    )
    assert seen == [["10.1.0.2"], ["10.1.0.3"]]


def test_the_last_endpoint_going_is_not_the_service_going() -> None:
    """An empty set exists; an unknown Service does not."""
    index = Index()
    index.apply(
        *manifests.objects(
            manifests.service("web", "10.2.0.1", {"port": 80}),
            manifests.pod("p", "10.1.0.1", labels=APP),
        )
    )
    web = index.endpoints(WEB, 0.0)
    index.delete(ObjectKey("", "Pod", "shop", "p"))
    assert (web.current.endpoints, web.current.exists) == ((), True)
    index.delete(ObjectKey("", "Service", "shop", "web"))
    assert web.current == EndpointSet(exists=False)


def test_an_unrelated_change_is_no_news() -> None:
    """Nor is the same state again."""
    index = Index()
    pod = manifests.one(manifests.pod("p", "10.1.0.1", labels=APP))
    index.apply(manifests.one(manifests.service("web", "10.2.0.1", {"port": 80})), pod)
    web, profile = index.endpoints(WEB, 0.0), index.profile(Address("10.1.0.1", 80), 0.0)
    index.apply(pod)
    index.apply(*manifests.objects(manifests.pod("z", "10.1.9.9"), manifests.namespace("other")))
    index.delete(ObjectKey("", "Pod", "shop", "nobody"))
    assert (web.version, profile.version) == (0, 0)


def test_a_new_viewpoint_is_part_of_the_change() -> None:
    """One publication for both."""
    index = Index(Viewpoint("n1"))
    local = {"internalTrafficPolicy": "Local"}
    index.apply(
        *manifests.objects(
            manifests.service("web", "10.2.0.1", {"port": 80}, spec=local),
            manifests.pod("p", "10.1.0.1", labels=APP, spec={"nodeName": "n1"}),
        )
    )
    web = index.endpoints(WEB, 0.0)
    moved = manifests.one(manifests.pod("p", "10.1.0.1", labels=APP, spec={"nodeName": "n2"}))
    index.change([moved], (), viewpoint=Viewpoint("n2"))
    assert (len(web.current.endpoints), web.version) == (1, 0)
    index.change((), (), viewpoint=Viewpoint("n1"))
    assert web.version == 1
    assert not web.current.endpoints


def test_one_pod_of_a_thousand_is_one_new_endpoint() -> None:
    """The others' are the same values as before."""
    index = Index()
    pods = [
        manifests.pod(f"web-{n}", f"10.1.{n // 250}.{n % 250 + 1}", labels=APP) for n in range(1000)
    ]
    index.apply(*manifests.objects(manifests.service("web", "10.2.0.1", {"port": 80}), *pods))
    web = index.endpoints(WEB, 0.0)
    before = {id(each) for each in web.current.endpoints}
    held = web.current
    index.apply(
        manifests.one(manifests.pod("web-7", "10.1.0.8", labels=APP, annotations=manifests.MESHED))
    )
    assert len(held.endpoints) == len(web.current.endpoints) == 1000
    assert len({id(each) for each in web.current.endpoints} - before) == 1

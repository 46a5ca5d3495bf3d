"""The model files: values that are frozen, hashable, and equal when their parts are.

A model is compared to tell news from repetition, is a key of caches, and is read by several
tasks at once: all three need the same of every class.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
from enum import Enum
from ipaddress import ip_network

import pytest

from discovery.model import Address, Endpoint, EndpointSet, Hint, Metadata, Profile, Target
from identity.name import Identity
from multicluster.model import ExportMode, ImportedService
from policy.model import (
    ALL_NETWORKS,
    LOCALHOST,
    Authorization,
    Forward,
    NetworkMatch,
    OutboundPolicy,
    Permit,
    Refusal,
    ServerPolicy,
    TlsAuthenticated,
)
from policy.route import ANY_PATH, HeaderModifier, HttpMatch, RequestHeaders

MODULES = ("discovery.model", "policy.route", "policy.model", "multicluster.model", "identity.name")

CLASSES = [
    kind
    for module in map(importlib.import_module, MODULES)
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__
]
VALUES = [kind for kind in CLASSES if not issubclass(kind, Enum)]

SERVER = Metadata(group="policy.linkerd.io", kind="server", name="api", namespace="shop", port=80)
WEB = Identity("web.shop.serviceaccount.identity.linkerd.cluster.local")
ENDPOINT = Endpoint(address=Address("10.0.0.1", 80), identity=WEB, hint=Hint.OPAQUE)
SAMPLES: list[object] = [
    EndpointSet(endpoints=(ENDPOINT,)),
    Profile(fully_qualified_name="api.shop.svc.cluster.local", endpoint=ENDPOINT),
    ServerPolicy(
        metadata=SERVER,
        authorizations=(
            LOCALHOST,
            Authorization(
                metadata=SERVER,
                networks=tuple(map(NetworkMatch, ALL_NETWORKS)),
                authentication=TlsAuthenticated(frozenset({WEB}), (("shop",),)),
            ),
        ),
    ),
    OutboundPolicy(metadata=SERVER),
    Forward(ENDPOINT),
    HttpMatch(path=ANY_PATH),
    RequestHeaders(HeaderModifier(set=(("a", "b"),))),
    Permit(server=SERVER, authorization=SERVER),
    Refusal(code="unauthorized", server=SERVER, reason="nobody listed it"),
    ImportedService(
        namespace="shop",
        name="api-west",
        mode=ExportMode.DIRECT,
        addresses=("240.240.0.1",),
        members=("api@west",),
    ),
]


def test_the_model_files_hold_classes() -> None:
    """The tables below are not empty by accident."""
    assert len(VALUES) > 50


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_model_is_a_frozen_slotted_final_value(kind: type) -> None:
    """Frozen and slotted, compared by its parts, with no class below it."""
    assert dataclasses.is_dataclass(kind)
    parameters = kind.__dict__["__dataclass_params__"]
    assert (parameters.frozen, parameters.eq) == (True, True)
    assert "__slots__" in vars(kind)
    assert getattr(kind, "__final__", False)


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_no_model_holds_anything_that_can_change(kind: type) -> None:
    """Lists, dicts and sets would make a value that is published change behind its readers."""
    for field in dataclasses.fields(kind):
        assert not str(field.type).startswith(("list", "dict", "set", "bytearray")), field.name


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_equal_parts_make_equal_values_with_equal_hashes(sample: object) -> None:
    """A copy made part by part is the same news."""
    twin = copy.deepcopy(sample)
    assert twin == sample
    assert hash(twin) == hash(sample)
    assert len({twin, sample}) == 1


def test_one_different_part_makes_a_different_value() -> None:
    """However deep it lies."""
    elsewhere = dataclasses.replace(ENDPOINT, address=Address("10.0.0.2", 80))
    assert EndpointSet(endpoints=(ENDPOINT,)) != EndpointSet(endpoints=(elsewhere,))


def test_a_value_cannot_be_changed() -> None:
    """Assigning is an error, not a change."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(ENDPOINT, "zone", "a")  # noqa: B010 - the point is that it fails at run time


@pytest.mark.parametrize(
    ("endpoint", "sni"),
    [
        (ENDPOINT, WEB.name),
        (dataclasses.replace(ENDPOINT, server_name="gateway"), "gateway"),
        (dataclasses.replace(ENDPOINT, identity=None, server_name="gateway"), ""),
        (dataclasses.replace(ENDPOINT, identity=Identity("spiffe://a/b", is_uri=True)), ""),
    ],
)
def test_a_server_name_is_sent_only_with_an_identity_to_expect(
    endpoint: Endpoint, sni: str
) -> None:
    """Without identity there is no TLS; a SPIFFE URI is no server name."""
    assert endpoint.sni == sni


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Address("10.0.0.1", 80), "10.0.0.1:80"),
        (Address("fd00::1", 80), "[fd00::1]:80"),
        (Target("api.shop.svc.cluster.local", 80), "api.shop.svc.cluster.local:80"),
        (SERVER, "policy.linkerd.io/server/api"),
        (Metadata(kind="default", name="all-unauthenticated"), "default:all-unauthenticated"),
    ],
)
def test_what_logs_show_reads_as_usual(value: object, text: str) -> None:
    """Addresses and resources in the words of their own field."""
    assert str(value) == text


def test_localhost_is_admitted_by_address_alone() -> None:
    """Probes of the pod itself carry no identity."""
    networks = [match.network for match in LOCALHOST.networks]
    assert networks == [ip_network("127.0.0.1/32"), ip_network("::1/128")]

"""Capture without privileges: which ports are held, and where the application is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from core.errors import ConfigError, ConnectRefusedError
from discovery.model import Address
from proxy.explicit import Explicit, plan_explicit

OWN = (4140, 4143, 4191)


def plan(
    given: Mapping[int, int] | None = None,
    *,
    declared: tuple[int, ...] = (8080, 4191),
    ip: str = "10.0.0.5",
) -> Explicit:
    """Return the plan of a pod at ``ip``."""
    return plan_explicit([ip], declared, given or {}, OWN)


def test_declared_ports_are_held_and_led_to_loopback() -> None:
    """Those of the manifest with their own number, those of the setting with another."""
    found = plan({9090: 19090})
    assert found.wanted() == [Address("10.0.0.5", 8080), Address("10.0.0.5", 9090)]
    assert found.must_app(Address("10.0.0.5", 8080)) == Address("127.0.0.1", 8080)
    assert found.must_app(Address("10.0.0.5", 9090)) == Address("127.0.0.1", 19090)


def test_a_setting_goes_before_the_manifest() -> None:
    """The application of a declared port may be told to listen elsewhere."""
    assert plan({8080: 18080}).app(Address("10.0.0.5", 8080)) == Address("127.0.0.1", 18080)


def test_an_undeclared_port_is_not_opened() -> None:
    """What the pod has on loopback alone stays there, whoever asks through the mesh."""
    assert plan().app(Address("10.0.0.5", 5432)) is None
    with pytest.raises(ConnectRefusedError, match=r"10\.0\.0\.5:5432 is no declared port"):
        plan().must_app(Address("10.0.0.5", 5432))


def test_a_port_the_application_holds_is_dialled_there() -> None:
    """It listens on the pod's address itself; others are as before."""
    found = plan({9090: 19090}).without([Address("10.0.0.5", 8080)])
    assert found.unprotected == {8080}
    assert found.must_app(Address("10.0.0.5", 8080)) == Address("10.0.0.5", 8080)
    assert found.must_app(Address("10.0.0.5", 9090)) == Address("127.0.0.1", 19090)


@pytest.mark.parametrize(
    ("given", "ip", "said"),
    [
        ({4143: 8080}, "10.0.0.5", "port 4143 of the pod is one of the sidecar's own"),
        ({8080: 8080}, "127.0.0.1", "would be at 127.0.0.1:8080, which the sidecar holds"),
        ({8080: 4140}, "127.0.0.1", "would be at 127.0.0.1:4140"),
    ],
)
def test_what_would_lead_to_ourselves_is_refused(
    given: Mapping[int, int], ip: str, said: str
) -> None:
    """The sidecar must not take itself for the application."""
    with pytest.raises(ConfigError, match=said):
        plan(given, declared=(), ip=ip)


def test_on_the_first_loopback_address_another_number_is_enough() -> None:
    """A pod at 127.0.0.1 needs its application elsewhere, and can have it."""
    found = plan({8080: 18080}, declared=(), ip="127.0.0.1")
    assert found.must_app(Address("127.0.0.1", 8080)) == Address("127.0.0.1", 18080)

"""What the data plane needs from the outside, as protocols.

The composition root hands in one of each. All three answer at once from what is known now;
what may change comes as a ``Watch``.
"""

from __future__ import annotations

from typing import Protocol

from core.watch import Watch
from discovery.model import Address, EndpointSet, Profile, Target
from identity.generation import Generation
from identity.status import IdentityStatus
from multicluster.model import Gateway
from policy.model import OutboundPolicy, ServerPolicy


class IdentityProvider(Protocol):
    """Our own identity, as it is renewed."""

    @property
    def generation(self) -> Watch[Generation | None]:
        """The generation in use; None until the first certificate."""
        ...

    @property
    def status(self) -> Watch[IdentityStatus]:
        """How it is doing: for readiness and metrics."""
        ...


class PolicyProvider(Protocol):
    """Inbound policy by port, outbound policy by original destination."""

    def inbound(self, port: int) -> Watch[ServerPolicy]:
        """Return the live policy of one of our ports (1 to 65535)."""
        ...

    def ports(self) -> tuple[int, ...]:
        """Return the ports that our pod declares."""
        ...

    def outbound(self, destination: Address) -> Watch[OutboundPolicy | None]:
        """Return the live policy for a destination; None: nothing is known of it."""
        ...


class DiscoveryProvider(Protocol):
    """Where destinations are."""

    def profile(self, destination: Address) -> Watch[Profile | None]:
        """Return what is known of a destination; None: nothing."""
        ...

    def endpoints(self, target: Target) -> Watch[EndpointSet]:
        """Return the live endpoints of a service name and port."""
        ...


class NameProvider(Protocol):
    """Names of Services as addresses, where applications tell us names."""

    def addresses(self, host: str, port: int) -> tuple[Address, ...] | None:
        """Return where a Service's name leads; None for a name that is none."""
        ...


class ExportProvider(Protocol):
    """What other clusters may reach here, for a gateway."""

    def exported(self, host: str, port: int) -> Watch[Target | None]:
        """Return the Service's port that a name leads to, live; None: it is not exported."""
        ...


class GatewayProvider(Protocol):
    """The gateways of other clusters that we use, and who wants to know how they are."""

    @property
    def gateways(self) -> Watch[tuple[Gateway, ...]]:
        """The gateways in use."""
        ...

    def gateway_probed(self, cluster: str, *, is_usable: bool) -> None:
        """Take notice of whether a cluster's gateway lives."""
        ...


class ReadinessSource(Protocol):
    """Something that may keep the sidecar from being ready."""

    @property
    def unready(self) -> Watch[str]:
        """Why not, for a person; empty when it is ready."""
        ...

"""ServerAuthorization (policy.linkerd.io): clients of the Servers of one namespace.

The older form of AuthorizationPolicy. One that names neither ``unauthenticated`` nor ``meshTLS``
authorizes nobody.
"""

from __future__ import annotations

from typing import final

from core.record import dataclass
from resources.fields import Fields
from resources.identity_pattern import IdentityPattern, parse_patterns
from resources.kind import Meta
from resources.network import NetworkRange, parse_networks
from resources.object_name import Account, check_name, check_namespace
from resources.policy_mode import parse_is_audit
from resources.selector import Selector, parse_selector


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAuthorization:
    """A ServerAuthorization."""

    meta: Meta
    server_name: str = ""
    servers: Selector | None = None
    """Instead of a name."""
    networks: tuple[NetworkRange, ...] = ()
    """None: the cluster's networks."""
    is_unauthenticated: bool = False
    is_unauthenticated_tls: bool = False
    identities: tuple[IdentityPattern, ...] = ()
    accounts: tuple[Account, ...] = ()
    is_audit: bool = False

    @property
    def authorizes(self) -> bool:
        """Whether there is anybody it authorizes."""
        return bool(
            self.is_unauthenticated
            or self.is_unauthenticated_tls
            or self.identities
            or self.accounts
        )

    def selects(self, meta: Meta) -> bool:
        """Whether it is about the Server with this metadata."""
        if meta.namespace != self.meta.namespace:
            return False
        if self.servers is not None:
            return self.servers.matches(meta.labels)
        return meta.name == self.server_name


def parse_server_authorization(meta: Meta, body: Fields) -> ServerAuthorization:
    """Read a ServerAuthorization."""
    spec = body.map("spec", required=True)
    spec.only("server", "client")
    server = spec.map("server", required=True)
    selector = parse_selector(server.map("selector"))
    if server.has("name") == server.has("selector"):
        server.problem("", "wanted either name or selector")
    if server.has("name"):
        check_name(server, "name")
    client = spec.map("client", required=True)
    client.only("networks", "unauthenticated", "meshTLS")
    is_unauthenticated = client.flag("unauthenticated")
    if is_unauthenticated and client.has("meshTLS"):
        client.problem("unauthenticated", "cannot stand beside meshTLS; keep one")
    mesh = client.map("meshTLS")
    mesh.only("unauthenticatedTLS", "identities", "serviceAccounts")
    identities = parse_patterns(mesh, "identities")
    accounts = tuple(
        Account(
            check_namespace(each, "namespace", meta.namespace),
            check_name(each, "name"),
        )
        for each in mesh.maps("serviceAccounts")
    )
    is_unauthenticated_tls = mesh.flag("unauthenticatedTLS")
    if is_unauthenticated_tls and (identities or accounts):
        mesh.problem("unauthenticatedTLS", "cannot stand beside identities or serviceAccounts")
    return ServerAuthorization(
        meta=meta,
        server_name=server.text("name"),
        servers=selector if server.has("selector") else None,
        networks=parse_networks(client, "networks"),
        is_unauthenticated=is_unauthenticated,
        is_unauthenticated_tls=is_unauthenticated_tls,
        identities=identities,
        accounts=accounts,
        is_audit=parse_is_audit(body),
    )

"""Decisions about connections, by table."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from discovery.model import Metadata, default_metadata
from identity.name import parse_identity
from policy import decide
from policy.decide import decide_connection
from policy.model import (
    ALL_NETWORKS,
    Attempt,
    Audit,
    Authentication,
    Authorization,
    Clause,
    Client,
    ClientTls,
    NetworkMatch,
    Permit,
    Refusal,
    ServerPolicy,
    TlsAuthenticated,
    TlsUnauthenticated,
    Unauthenticated,
)

CLI = parse_identity("cli.app.serviceaccount.identity.linkerd.cluster.local")
OTHER = parse_identity("other.ext.serviceaccount.identity.linkerd.cluster.local")
URI = parse_identity("spiffe://cluster.local/ns/app/sa/cli")
SERVER = Metadata(kind="server", name="srv", group="policy.linkerd.io", namespace="app")
EVERYWHERE = tuple(NetworkMatch(each) for each in ALL_NETWORKS)

MESHED = Client("10.1.1.1", ClientTls.MESH, CLI)
STRANGER = Client("10.1.1.1", ClientTls.MESH, OTHER)
NAMELESS = Client("10.1.1.1", ClientTls.MESH)
PLAIN = Client("10.1.1.1")
FOREIGN = Client("10.1.1.1", ClientTls.FOREIGN, sni="example.com")
INSIDE = Client("127.0.0.1")


def mk_authorization(
    name: str,
    authentication: Authentication | None = None,
    *networks: NetworkMatch,
    is_audit: bool = False,
) -> Authorization:
    """Build an authorization; anyone from everywhere unless told otherwise."""
    return Authorization(
        metadata=Metadata(kind="authorizationpolicy", name=name, group="policy.linkerd.io"),
        networks=networks or EVERYWHERE,
        authentication=authentication or Unauthenticated(),
        is_audit=is_audit,
    )


def mk_network(cidr: str, *exceptions: str) -> NetworkMatch:
    """Build a network match."""
    return NetworkMatch(ip_network(cidr), tuple(ip_network(each) for each in exceptions))


ONLY_CLI = TlsAuthenticated(frozenset({CLI}))
ANY_IDENTITY = TlsAuthenticated(suffixes=((),))
IN_EXT = TlsAuthenticated(suffixes=(("ext", "serviceaccount", "identity"),))
OF_EXT = TlsAuthenticated(
    suffixes=(("ext", "serviceaccount", "identity", "linkerd", "cluster", "local"),)
)

AUTHENTICATION: list[tuple[Authentication, Client, bool]] = [
    (Unauthenticated(), PLAIN, True),
    (Unauthenticated(), FOREIGN, True),
    (TlsUnauthenticated(), PLAIN, False),
    (TlsUnauthenticated(), FOREIGN, False),
    (TlsUnauthenticated(), NAMELESS, True),
    (TlsUnauthenticated(), MESHED, True),
    (ONLY_CLI, MESHED, True),
    (ONLY_CLI, STRANGER, False),
    (ONLY_CLI, NAMELESS, False),
    (ONLY_CLI, PLAIN, False),
    (ONLY_CLI, Client("10.1.1.1", ClientTls.NONE, CLI), False),
    (ANY_IDENTITY, MESHED, True),
    (ANY_IDENTITY, NAMELESS, False),
    (ANY_IDENTITY, Client("10.1.1.1", ClientTls.MESH, URI), False),
    (TlsAuthenticated(frozenset({URI})), Client("10.1.1.1", ClientTls.MESH, URI), True),
    (OF_EXT, STRANGER, True),
    (OF_EXT, MESHED, False),
    (IN_EXT, STRANGER, False),
    (
        TlsAuthenticated(suffixes=(tuple(CLI.name.split(".")),)),
        MESHED,
        False,
    ),
    (TlsAuthenticated(), MESHED, False),
]


@pytest.mark.parametrize(("authentication", "client", "is_allowed"), AUTHENTICATION)
def test_authentication_admits_whom_it_names(
    authentication: Authentication, client: Client, is_allowed: bool
) -> None:
    """TLS clauses follow linkerd2-proxy's authz rules, URIs match only exactly."""
    for networks in ((), (mk_network("10.0.0.0/8"),)):
        one = mk_authorization("one", authentication, *networks)
        policy = ServerPolicy(metadata=SERVER, authorizations=(one,))
        assert isinstance(decide_connection(policy, client), Permit) is is_allowed


@pytest.mark.parametrize(
    ("match", "ip", "is_allowed"),
    [
        (mk_network("10.0.0.0/8"), "10.2.0.1", True),
        (mk_network("10.0.0.0/8"), "11.0.0.1", False),
        (mk_network("10.0.0.0/8", "10.1.0.0/16"), "10.1.2.3", False),
        (mk_network("10.0.0.0/8", "10.1.0.0/16"), "10.2.0.1", True),
        (mk_network("10.0.0.0/8"), "::ffff:10.2.0.1", True),
        (mk_network("0.0.0.0/0"), "fd00::1", False),
        (mk_network("::/0"), "10.0.0.1", False),
        (mk_network("::/0"), "fd00::1", True),
        (mk_network("::/0"), "::1", True),
        (mk_network("fd00::/8", "fd00::/16"), "fd00::1", False),
        (mk_network("fd00::/8", "fd00::/16"), "fd01::1", True),
        (mk_network("fe80::/10"), "fe80::1%eth0", True),
        (mk_network("192.0.2.7/32"), "192.0.2.7", True),
        (mk_network("192.0.2.7/32"), "192.0.2.8", False),
        (mk_network("0.0.0.0/0"), "255.255.255.255", True),
        (mk_network("0.0.0.0/0"), "0.0.0.0", True),
        (mk_network("0.0.0.0/0"), "256.0.0.1", False),
        (mk_network("0.0.0.0/0"), "010.0.0.1", False),
        (mk_network("0.0.0.0/0"), "10.0.1", False),
        (mk_network("0.0.0.0/0"), "10.0.0.٣", False),
        (mk_network("0.0.0.0/0"), "not an address", False),
        (mk_network("0.0.0.0/0"), "", False),
    ],
)
def test_networks_hold_addresses_of_their_family_but_their_exceptions(
    match: NetworkMatch, ip: str, is_allowed: bool
) -> None:
    """The client's address is compared within its family; a mapped one is IPv4."""
    policy = ServerPolicy(
        metadata=SERVER, authorizations=(mk_authorization("net", None, match),), localhost=None
    )
    assert isinstance(decide_connection(policy, Client(ip)), Permit) is is_allowed


def test_the_first_that_admits_is_named() -> None:
    """Labels carry the first match; localhost is tried last."""
    policy = ServerPolicy(
        metadata=SERVER,
        authorizations=(
            mk_authorization("p1", ONLY_CLI),
            mk_authorization("p2", ANY_IDENTITY),
            mk_authorization("p3", ONLY_CLI),
            mk_authorization("p4", ANY_IDENTITY),
        ),
    )
    named = {}
    for client in (MESHED, STRANGER, INSIDE):
        verdict = decide_connection(policy, client)
        assert isinstance(verdict, Permit)
        named[client] = verdict.authorization.name
    assert named == {MESHED: "p1", STRANGER: "p2", INSIDE: "localhost"}


def test_a_refusal_names_each_attempt_and_its_first_failed_clause() -> None:
    """Evidence: what was tried in order, then what could not be tried at all."""
    broken = Attempt(
        authorization=Metadata(kind="authorizationpolicy", name="web"),
        clause=Clause.REFERENCE,
        failed="it refers to nothing",
    )
    policy = ServerPolicy(
        metadata=SERVER,
        authorizations=(
            mk_authorization("both", ONLY_CLI, mk_network("192.168.0.0/16")),
            mk_authorization("tls", TlsUnauthenticated()),
            mk_authorization("name", ONLY_CLI),
        ),
        void=(broken,),
    )
    verdict = decide_connection(policy, PLAIN)
    assert isinstance(verdict, Refusal)
    assert verdict.code == "unauthorized"
    assert verdict.reason == "no authorization on Server app/srv admits the caller"
    assert [(each.authorization.name, each.clause) for each in verdict.attempts] == [
        ("both", Clause.NETWORK),
        ("tls", Clause.TLS),
        ("name", Clause.TLS),
        ("localhost", Clause.NETWORK),
        ("web", Clause.REFERENCE),
    ]


def test_each_refused_client_is_told_of_its_own_failures() -> None:
    """What one client failed is not said of the next."""
    ten = mk_authorization("ten", ONLY_CLI, mk_network("10.0.0.0/8"))
    policy = ServerPolicy(metadata=SERVER, authorizations=(ten,))
    clauses = []
    for client in (STRANGER, Client("192.0.2.1", ClientTls.MESH, OTHER), PLAIN, STRANGER):
        verdict = decide_connection(policy, client)
        assert isinstance(verdict, Refusal)
        clauses.append(verdict.attempts[0].clause)
    assert clauses == [Clause.IDENTITY, Clause.NETWORK, Clause.TLS, Clause.IDENTITY]


def test_a_denial_beats_every_authorization_but_the_pods_own_calls() -> None:
    """DenyPolicy is asked before any allow; localhost is exempt."""
    policy = ServerPolicy(
        metadata=SERVER,
        authorizations=(mk_authorization("all"),),
        denials=(mk_authorization("no-cli", ONLY_CLI), mk_authorization("no-ten", None,
                 mk_network("127.0.0.0/8"), mk_network("10.9.0.0/16"))),
    )  # fmt: skip
    refused = decide_connection(policy, MESHED)
    assert isinstance(refused, Refusal)
    assert refused.denial is not None
    assert refused.denial.name == "no-cli"
    assert isinstance(decide_connection(policy, STRANGER), Permit)
    assert isinstance(decide_connection(policy, Client("10.9.0.1")), Refusal)
    assert isinstance(decide_connection(policy, INSIDE), Permit)


def test_a_denial_of_any_identity_covers_uris() -> None:
    """What ``*`` does not admit as an allow it still refuses as a denial."""
    policy = ServerPolicy(
        metadata=SERVER,
        authorizations=(mk_authorization("all"),),
        denials=(mk_authorization("no-mesh", ANY_IDENTITY),),
    )
    assert isinstance(decide_connection(policy, Client("::2", ClientTls.MESH, URI)), Refusal)
    assert isinstance(decide_connection(policy, NAMELESS), Permit)


def test_an_unusable_policy_refuses_everyone() -> None:
    """The pod itself and every authorization included (linkerd2-proxy's invalid policy)."""
    policy = ServerPolicy(
        metadata=default_metadata("invalid"),
        authorizations=(mk_authorization("all"),),
        invalid="an authorization without networks",
    )
    for client in (MESHED, INSIDE):
        verdict = decide_connection(policy, client)
        assert isinstance(verdict, Refusal)
        assert verdict.code == "policy-invalid"
        assert "an authorization without networks" in verdict.reason


def test_only_the_default_audit_is_marked_to_be_logged() -> None:
    """``is_audit`` says that nothing but the default named audit admitted."""
    audit = Authorization(
        metadata=default_metadata("audit"), networks=EVERYWHERE, authentication=Unauthenticated()
    )
    policy = ServerPolicy(
        metadata=SERVER, authorizations=(mk_authorization("cli", ONLY_CLI), audit)
    )
    first, second = decide_connection(policy, MESHED), decide_connection(policy, PLAIN)
    assert isinstance(first, Permit)
    assert isinstance(second, Permit)
    assert (first.is_audit, second.is_audit) == (False, True)


def test_audited_policies_speak_beside_the_outcome() -> None:
    """An audited allow is asked in the place of the port's default, and changes nothing."""
    default = Authorization(
        metadata=default_metadata("all-unauthenticated"),
        networks=EVERYWHERE,
        authentication=Unauthenticated(),
    )
    tried = mk_authorization("tried", ONLY_CLI, is_audit=True)
    denied = mk_authorization("denied", OF_EXT, is_audit=True)
    policy = ServerPolicy(metadata=SERVER, authorizations=(tried, default), denials=(denied,))
    seen = {}
    for client in (MESHED, STRANGER, INSIDE):
        verdict = decide_connection(policy, client)
        assert isinstance(verdict, Permit)
        assert verdict.authorization.name == "all-unauthenticated"
        seen[client] = verdict.audits
    assert seen == {
        MESHED: (Audit(tried.metadata, True), Audit(denied.metadata, True)),
        STRANGER: (Audit(tried.metadata, False), Audit(denied.metadata, False)),
        INSIDE: (Audit(tried.metadata, True), Audit(denied.metadata, True)),
    }
    alone = ServerPolicy(metadata=SERVER, authorizations=(tried,))
    verdict = decide_connection(alone, MESHED)
    assert isinstance(verdict, Refusal)
    assert verdict.audits == (Audit(tried.metadata, True),)


def test_without_localhost_the_pod_itself_is_refused() -> None:
    """The proxy's own default carries no implicit authorization."""
    policy = ServerPolicy(metadata=default_metadata("deny"), localhost=None)
    assert isinstance(decide_connection(policy, INSIDE), Refusal)


def test_prepared_policies_are_bounded() -> None:
    """One past the bound the oldest goes; decisions stay right."""
    policies = [
        ServerPolicy(metadata=default_metadata(str(number)))
        for number in range(decide.MAX_PREPARED + 1)
    ]
    first = decide.prepare(policies[0])
    assert decide.prepare(policies[0]) is first
    for policy in policies[1:]:
        decide.prepare(policy)
    assert decide.prepare(policies[0]) is not first

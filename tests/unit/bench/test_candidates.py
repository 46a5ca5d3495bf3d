"""bench.haproxy, bench.nginx, bench.stunnel: every peer is asked for the same job."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.candidate import Carried, Hop, Side
from bench.certificate import Credentials, make_credentials
from bench.haproxy import haproxy_configuration
from bench.nginx import nginx_configuration, stream_module
from bench.stunnel import stunnel_configuration
from discovery.model import Address
from identity.openssl import SUITES

ENTRY, INNER, BACKEND = (
    Address("127.9.9.1", 4140),
    Address("127.9.9.2", 4143),
    Address("127.9.9.2", 8080),
)


def mk_hop(side: Side, credentials: Credentials, resumes: bool) -> Hop:
    """Return a hop between the addresses above."""
    return Hop(side, ENTRY, INNER, BACKEND, credentials, resumes)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """The certificates of a run."""
    return make_credentials(tmp_path_factory.mktemp("credentials"))


def lines(text: str) -> list[str]:
    """Return a configuration's lines without indentation."""
    return [line.strip() for line in text.splitlines()]


def test_keys_are_their_owners_alone(credentials: Credentials) -> None:
    """Bundles hold a key too."""
    for leaf in (credentials.client, credentials.server):
        assert {file.stat().st_mode & 0o777 for file in (leaf.key, leaf.bundle)} == {0o600}


@pytest.mark.parametrize("resumes", [True, False])
def test_haproxy_verifies_both_sides_and_the_servers_name(
    credentials: Credentials, resumes: bool
) -> None:
    """One thread; sessions are kept on both sides or on neither."""
    inbound = lines(haproxy_configuration(mk_hop(Side.INBOUND, credentials, resumes)))
    outbound = lines(haproxy_configuration(mk_hop(Side.OUTBOUND, credentials, resumes)))
    name = credentials.server.identity.name
    trust = f"verify required ca-file {credentials.root}"
    suffix = "" if resumes else " no-ssl-reuse"
    assert f"bind {INNER} ssl crt {credentials.server.bundle} {trust}" in inbound
    assert (
        f"server next {INNER} ssl crt {credentials.client.bundle} {trust} "
        f"verifyhost {name} sni str({name}){suffix}"
    ) in outbound
    for text in (inbound, outbound):
        assert "nbthread 1" in text
        assert f"ssl-default-bind-ciphersuites {SUITES}" in text
        assert f"ssl-default-server-ciphersuites {SUITES}" in text
        assert ("tune.ssl.cachesize 0" in text) is not resumes
        assert any("ssl-min-ver TLSv1.3 no-tls-tickets" in line for line in text) is not resumes


@pytest.mark.parametrize(("resumes", "switch"), [(True, "on"), (False, "off")])
def test_nginx_verifies_both_sides_and_the_servers_name(
    credentials: Credentials, tmp_path: Path, resumes: bool, switch: str
) -> None:
    """One worker; sessions are kept on both sides or on neither."""
    inbound = lines(nginx_configuration(mk_hop(Side.INBOUND, credentials, resumes), tmp_path, None))
    outbound = lines(
        nginx_configuration(mk_hop(Side.OUTBOUND, credentials, resumes), tmp_path, None)
    )
    assert {f"listen {INNER} ssl;", "ssl_verify_client on;"} <= set(inbound)
    assert f"ssl_session_tickets {switch};" in inbound
    assert {
        "proxy_ssl_verify on;",
        f"proxy_ssl_name {credentials.server.identity.name};",
        f"proxy_ssl_session_reuse {switch};",
    } <= set(outbound)
    for text, forward in ((inbound, BACKEND), (outbound, INNER)):
        assert "worker_processes 1;" in text
        assert f"ssl_conf_command Ciphersuites {SUITES};" in "".join(text)
        assert f"proxy_pass {forward};" in text


@pytest.mark.parametrize(("resumes", "switch"), [(True, "yes"), (False, "no")])
def test_stunnel_verifies_both_sides_and_the_servers_name(
    credentials: Credentials, resumes: bool, switch: str
) -> None:
    """Sessions are kept on both sides or on neither."""
    inbound = lines(stunnel_configuration(mk_hop(Side.INBOUND, credentials, resumes)))
    outbound = lines(stunnel_configuration(mk_hop(Side.OUTBOUND, credentials, resumes)))
    name = credentials.server.identity.name
    assert {"client = yes", f"checkHost = {name}", f"sni = {name}"} <= set(outbound)
    assert "client = yes" not in inbound
    for text, listen, forward in ((inbound, INNER, BACKEND), (outbound, ENTRY, INNER)):
        assert {f"accept = {listen}", f"connect = {forward}", "verifyChain = yes"} <= set(text)
        assert {"sslVersionMin = TLSv1.3", f"sessionResume = {switch}"} <= set(text)
        assert f"ciphersuites = {SUITES}" in text
        assert ("options = NO_TICKET" in text) is not resumes


def test_the_stream_module_is_loaded_where_nginx_keeps_modules(tmp_path: Path) -> None:
    """Built in, it has no file."""
    build = f"configure arguments: --prefix=/x --modules-path={tmp_path} --with-stream=dynamic"
    assert stream_module(build) is None
    module = tmp_path / "ngx_stream_module.so"
    module.touch()
    assert stream_module(build) == module
    assert stream_module("configure arguments: --with-stream") is None


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("splices", [True, False])
def test_plaintext_is_plaintext_on_both_hops(
    credentials: Credentials, tmp_path: Path, side: Side, splices: bool
) -> None:
    """Bytes as they are; the kernel moves them where haproxy is told that it may."""
    hop = Hop(side, ENTRY, INNER, BACKEND, credentials, resumes=False, carried=Carried.PLAIN)
    haproxy = lines(haproxy_configuration(hop, splices=splices))
    assert {f"bind {hop.listen}", f"server next {hop.forward}", "mode tcp"} <= set(haproxy)
    assert ("option splice-auto" in haproxy) is splices
    nginx = lines(nginx_configuration(hop, tmp_path, None))
    assert {f"listen {hop.listen};", f"proxy_pass {hop.forward};"} <= set(nginx)
    assert not [line for line in nginx if "ssl" in line]

"""``pillion identity`` as the user meets it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.identity import command
from core.errors import ConfigError, IdentityError, MeshError
from identity.anchors import load_anchors
from identity.authority import load_authority
from identity.generation import build_generation
from identity.material import Material, read_chain
from identity.pem import join_pem
from identity.token import read_token
from tests.authority import Mesh, mk_identity, mk_mesh

WEB = mk_identity("shop/web")


def _run(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(command, [str(each) for each in arguments])
    assert result.exit_code == status, result.output
    return result


def _fails(*arguments: str | Path) -> MeshError:
    result = CliRunner().invoke(command, [str(each) for each in arguments])
    assert isinstance(result.exception, MeshError), result.output
    return result.exception


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """An authority that no test changes."""
    return mk_mesh(tmp_path_factory.mktemp("cli") / "authority")


def test_init_makes_an_authority_and_never_a_second_one(tmp_path: Path) -> None:
    """Of the given trust domain; what it says goes to stderr."""
    directory = tmp_path / "ca"
    made = _run("init", "--authority", directory, "--trust-domain", "west.example")
    assert made.stdout == ""
    assert "west.example" in made.stderr
    assert load_authority(directory).trust_domain == "west.example"
    again = _fails("init", "--authority", directory)
    assert isinstance(again, IdentityError)
    assert "not overwritten" in str(again)


def test_a_token_is_printed_alone(mesh: Mesh) -> None:
    """On stdout, ready for a file; with an end when one is asked for."""
    secret = mesh.authority.load_token_secret()
    for who, identity in (
        ("shop/web", WEB),
        (WEB.name, WEB),
        ("spiffe://cluster.local/vm", mesh.identity("spiffe://cluster.local/vm")),
    ):
        shown = _run("issue", "--authority", mesh.authority.directory, "--token", who)
        assert shown.stderr == ""
        assert read_token(secret, shown.stdout.encode(), 1e12) == identity
    short = _run(
        "issue", "--authority", mesh.authority.directory, "--token", "shop/web", "--expires", "60s"
    ).stdout.encode()
    assert read_token(secret, short, time.time() + 50) == WEB
    with pytest.raises(IdentityError, match="ended"):
        read_token(secret, short, time.time() + 70)


def test_a_leaf_is_issued_in_this_process_only_behind_the_switch(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the switch the running issuer is asked, and here none runs."""
    out = tmp_path / "web"
    arguments = ("issue", "shop/web", "--authority", mesh.authority.directory, "--out", out)
    monkeypatch.delenv("PILLION_DEV_ISSUER", raising=False)
    assert "pillion identity serve" in str(_fails(*arguments))
    assert not Material(out).chain.exists()
    monkeypatch.setenv("PILLION_DEV_ISSUER", "1")
    issued = _run(*arguments)
    assert issued.stdout == ""
    assert "holds the issuer's key" in issued.stderr
    material = Material(out)
    generation = build_generation(
        leaf_chain_der=read_chain(material.chain),
        key_path=material.key,
        anchors=load_anchors(material.anchors, "cluster.local"),
        identity=WEB,
        now=time.time(),
    )
    key = material.key.read_bytes()
    _run(*arguments)
    assert material.key.read_bytes() == key
    again = read_chain(material.chain)
    assert generation.fingerprint not in repr(again)
    assert material.key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "arguments",
    [
        ("issue",),
        ("issue", "shop/web"),
        ("issue", "shop/web", "--token", "shop/web"),
        ("issue", "shop/web", "--out", "out", "--expires", "1h"),
    ],
)
def test_issue_wants_a_leaf_or_a_token(mesh: Mesh, arguments: tuple[str, ...]) -> None:
    """Either, and each with what belongs to it."""
    assert isinstance(_fails(*arguments, "--authority", mesh.authority.directory), ConfigError)


def test_durations_are_linkerd_s(mesh: Mesh) -> None:
    """An integer and a unit; anything else is a usage error with the form."""
    for option in ("--lifetime", "--skew"):
        refused = _run("serve", "--authority", mesh.authority.directory, option, "1.5h", status=2)
        assert "write an integer and ms, s, m, h or d" in refused.stderr
    wrong = ("issue", "--authority", mesh.authority.directory, "--token", "a/b", "--expires", "1")
    _run(*wrong, status=2)


def test_serve_refuses_what_it_cannot_issue_with(tmp_path: Path) -> None:
    """No authority, an open key, a root that is no anchor: said at once, before a socket opens."""
    assert "pillion identity init" in str(_fails("serve", "--authority", tmp_path))
    mesh = mk_mesh(tmp_path / "authority")
    mesh.authority.issuer_key.chmod(0o644)
    assert "chmod 600" in str(_fails("serve", "--authority", mesh.authority.directory))
    mesh.authority.issuer_key.chmod(0o600)
    other = mk_mesh(tmp_path / "other")
    (mesh.authority.anchors / "cluster.local.pem").write_bytes(join_pem([other.root]))
    assert "trust anchor" in str(_fails("serve", "--authority", mesh.authority.directory))
    assert not (mesh.authority.directory / "issuer.sock").exists()


def test_inspect_shows_certificates_and_never_a_key(mesh: Mesh) -> None:
    """As a table, as JSON, as YAML and in short; nothing of any secret in any of them."""
    directory = mesh.authority.directory
    table = _run("inspect", directory).stdout
    assert "DAYS LEFT" in table
    assert "3650.0" in table
    document = json.loads(_run("inspect", directory, "-o", "json").stdout)
    assert document["problems"] == []
    assert {each["state"] for each in document["certificates"]} == {"valid"}
    assert {each["subject"] for each in document["certificates"]} == {
        "CN=root.linkerd.cluster.local",
        "CN=identity.linkerd.cluster.local",
    }
    short = _run("inspect", directory, "-o", "short").stdout
    assert "CN=root.linkerd.cluster.local valid 3650.0d" in short
    everything = (
        table + short + json.dumps(document) + _run("inspect", directory, "-o", "yaml").stdout
    )
    for name in ("root.key", "issuer.key"):
        assert (directory / name).read_text().splitlines()[1] not in everything
    assert mesh.authority.load_token_secret().hex() not in everything


def test_inspect_fails_for_what_is_not_in_force(mesh: Mesh, tmp_path: Path) -> None:
    """Exit status 1 for a leaf before its time and for what cannot be read, both shown."""
    issued = mesh.leaf(WEB, tmp_path / "key", now=time.time() + 1000)
    (tmp_path / "leaf.pem").write_bytes(join_pem([issued.leaf]))
    early = _run("inspect", tmp_path / "leaf.pem", status=1)
    assert "not yet valid" in early.stdout
    (tmp_path / "bad.pem").write_bytes(join_pem([b"garbage"]))
    both = _run("inspect", tmp_path, status=1)
    assert "not yet valid" in both.stdout
    assert "bad.pem" in both.stderr
    _run("inspect", tmp_path / "missing", status=2)

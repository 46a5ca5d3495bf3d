from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import IdentityError
from identity.authority import Authority, init_authority, load_authority
from identity.issuer import read_chain
from identity.name import parse_identity
from identity.token import read_token
from tests.authority import Mesh, mk_identity, mk_mesh

NOW = 1_800_000_000.0
SECRETS = ("root.key", "issuer.key", "token-secret")


def test_an_authority_is_made_and_found_again(tmp_path: Path) -> None:
    """Root for ten years, issuer for one, the bundle under the domain's name."""
    made = init_authority(tmp_path / "ca", trust_domain="west.example", now=NOW)
    assert load_authority(tmp_path / "ca") == made
    (root,), (issuer,) = read_chain(made.root_certificate), read_chain(made.issuer_certificate)
    assert (root.not_valid_after_utc.timestamp() - NOW) // 86_400 == 3650
    assert (issuer.not_valid_after_utc.timestamp() - NOW) // 86_400 == 365
    issuer.verify_directly_issued_by(root)
    assert set(made.load_anchors().roots) == {"west.example"}
    assert made.load_issuer().not_after(made.load_anchors(), NOW) == (
        issuer.not_valid_after_utc.timestamp()
    )


def test_secrets_are_their_owner_s_alone(mesh: Mesh) -> None:
    """Keys and the token secret have mode 0600; what is public can be read by workloads."""
    directory = mesh.authority.directory
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in directory.iterdir() if path.is_file()
    }
    assert {name: modes[name] for name in SECRETS} == dict.fromkeys(SECRETS, 0o600)
    for name in ("root.pem", "issuer.pem", "authority.json"):
        assert modes[name] == 0o644
    assert (mesh.authority.anchors / "cluster.local.pem").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "name",
    [
        *SECRETS,
        "root.pem",
        "issuer.pem",
        "authority.json",
        "anchors/cluster.local.pem",
    ],
)
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    """One of its files there is enough, and no other is then made."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"precious")
    with pytest.raises(IdentityError, match="not overwritten"):
        init_authority(tmp_path, now=NOW)
    assert path.read_bytes() == b"precious"
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


@pytest.mark.parametrize(
    ("domain", "namespace"),
    [("", "linkerd"), ("A.b", "linkerd"), ("../x", "linkerd"), ("a", "a.b")],
)
def test_names_are_checked(tmp_path: Path, domain: str, namespace: str) -> None:
    """They become file names and parts of identities."""
    with pytest.raises(IdentityError, match="DNS"):
        init_authority(tmp_path, trust_domain=domain, control_namespace=namespace, now=NOW)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", "null", "[" * 4000, "x" * 5000),
        '{"trustDomain": 1, "controlNamespace": "a"}',
        '{"trustDomain": "../x", "controlNamespace": "a"}',
    ],
)
def test_broken_settings_are_refused(tmp_path: Path, content: str) -> None:
    """An authority that cannot be understood issues nothing."""
    (tmp_path / "authority.json").write_text(content)
    with pytest.raises(IdentityError, match=r"authority\.json"):
        load_authority(tmp_path)


def test_no_authority_is_said_with_the_way_to_one(tmp_path: Path) -> None:
    """The message names the command."""
    with pytest.raises(IdentityError, match="pillion identity init"):
        load_authority(tmp_path)


def test_workloads_are_named_short_or_in_full(mesh: Mesh) -> None:
    """NAMESPACE/SERVICE-ACCOUNT, a Linkerd-style name, a SPIFFE URI; of this domain."""
    authority = mesh.authority
    assert authority.identity_of("shop/web") == mk_identity("shop/web")
    assert authority.identity_of(mk_identity("shop/web").name) == mk_identity("shop/web")
    assert authority.identity_of("spiffe://cluster.local/vm").is_uri
    for wrong in ("shop/", "/web", "a/b/c", "Shop/web", "shop/web.x", "", "spiffe://"):
        with pytest.raises(IdentityError, match="no workload"):
            authority.identity_of(wrong)
    for foreign in (mk_identity("a/b", "west.example").name, "spiffe://west.example/a"):
        with pytest.raises(IdentityError, match="trust domain"):
            authority.identity_of(foreign)


def test_tokens_are_good_at_the_authority_that_made_them(mesh: Mesh, tmp_path: Path) -> None:
    """Another authority's secret makes other tokens."""
    ours, other = mesh.authority.load_token_secret(), mk_mesh(tmp_path / "other").authority
    identity = parse_identity("spiffe://cluster.local/vm")
    token = mesh.authority.create_token(identity).encode()
    assert read_token(ours, token, NOW) == identity
    with pytest.raises(IdentityError, match="secret"):
        read_token(other.load_token_secret(), token, NOW)
    other.token_secret.chmod(0o644)
    with pytest.raises(IdentityError, match="mode 0644"):
        other.create_token(identity)


def test_an_authority_s_value_holds_no_secret(mesh: Mesh) -> None:
    """What is printed is a path and two names."""
    again = Authority(mesh.authority.directory, "cluster.local", "linkerd")
    assert repr(mesh.authority) == repr(again)
    for name in SECRETS:
        secret = (mesh.authority.directory / name).read_bytes()
        assert secret.hex() not in repr(mesh.authority)
        assert repr(secret) not in repr(mesh.authority)

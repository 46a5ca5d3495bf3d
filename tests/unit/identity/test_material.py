from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import IdentityError
from identity.csr import create_csr
from identity.key import create_key, write_key
from identity.material import MAX_TOKEN_BYTES, Material, read_chain, read_token
from identity.name import parse_identity
from identity.pem import join_pem
from tests.authority import mk_identity

WEB = mk_identity("shop/web")


def test_material_is_ready_when_key_and_request_are_there(tmp_path: Path) -> None:
    """For this identity and no other; a key open to others is an error."""
    material = Material(tmp_path)
    assert not material.is_ready_for(WEB)
    key = create_key()
    write_key(material.key, key)
    assert not material.is_ready_for(WEB)
    material.csr.write_bytes(create_csr(key, WEB))
    assert material.is_ready_for(WEB)
    for other in ("shop/api", "shop/eb", "shop/web2"):
        assert not material.is_ready_for(mk_identity(other))
    assert not material.is_ready_for(mk_identity("shop/web", "cluster"))
    material.key.chmod(0o644)
    with pytest.raises(IdentityError, match="mode 0644"):
        material.is_ready_for(WEB)


@pytest.mark.parametrize("size", [20, 127, 128, 255, 256, 2048])
def test_requests_for_names_of_any_length_are_known_again(tmp_path: Path, size: int) -> None:
    """A name's length is written in one, two or three bytes."""
    material, key = Material(tmp_path), create_key()
    write_key(material.key, key)
    vm = parse_identity("spiffe://td/".ljust(size, "x"))
    material.csr.write_bytes(create_csr(key, vm))
    assert material.is_ready_for(vm)
    assert not material.is_ready_for(parse_identity(vm.name[:-1]))


def test_a_token_is_read_without_blanks_and_never_empty(tmp_path: Path) -> None:
    """At its bound too; an empty or missing file is an error, as at Linkerd."""
    path = tmp_path / "token"
    path.write_bytes(b" token\n")
    assert read_token(path) == b"token"
    path.write_bytes(b"x" * MAX_TOKEN_BYTES)
    assert len(read_token(path)) == MAX_TOKEN_BYTES
    for content, words in (
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"x" * (MAX_TOKEN_BYTES + 1), "longer"),
    ):
        path.write_bytes(content)
        with pytest.raises(IdentityError, match=words):
            read_token(path)
    path.unlink()
    with pytest.raises(IdentityError, match="cannot read"):
        read_token(path)


def test_a_chain_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    """One broken block is enough: half a rotation is none."""
    path = tmp_path / "chain.pem"
    path.write_bytes(join_pem([b"leaf", b"issuer"]))
    assert read_chain(path) == (b"leaf", b"issuer")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IdentityError, match="1 broken"):
        read_chain(path)
    path.write_bytes(b"")
    with pytest.raises(IdentityError, match="no certificate"):
        read_chain(path)

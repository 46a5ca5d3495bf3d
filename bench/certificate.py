"""The certificates of a run: an authority and two leaves of our own identity room.

Every candidate verifies the same chain, leaf and issuer up to the root, that a meshed workload
has. They live in the run's temporary directory only.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from identity.authority import Authority, init_authority
from identity.csr import create_csr
from identity.files import write_new
from identity.key import create_key, write_key
from identity.material import Material
from identity.name import Identity
from identity.pem import join_pem

CLIENT: Final = "bench/client"
SERVER: Final = "bench/server"
"""The two workloads, as namespace and service account."""


@final
@dataclass(frozen=True, slots=True)
class Leaf:
    """A workload's identity directory."""

    identity: Identity
    material: Material

    @property
    def chain(self) -> Path:
        """The leaf, then the issuer; without the root."""
        return self.material.chain

    @property
    def key(self) -> Path:
        """The private key."""
        return self.material.key

    @property
    def bundle(self) -> Path:
        """Chain and key in one file, as haproxy wants them."""
        return self.material.directory / "bundle.pem"


@final
@dataclass(frozen=True, slots=True)
class Credentials:
    """Everything the hops need to trust each other."""

    authority: Authority
    client: Leaf
    server: Leaf

    @property
    def root(self) -> Path:
        """The root's certificate."""
        return self.authority.root_certificate


def make_credentials(directory: Path) -> Credentials:
    """Write an authority and two identity directories into ``directory``; keys are 0600."""
    authority = init_authority(directory / "authority", now=time.time())
    client, server = (_write_leaf(directory, authority, who) for who in (CLIENT, SERVER))
    return Credentials(authority, client, server)


def _write_leaf(directory: Path, authority: Authority, who: str) -> Leaf:
    identity, anchors = authority.identity_of(who), authority.load_anchors()
    leaf = Leaf(identity, Material(directory / who))
    leaf.material.directory.mkdir(parents=True)
    shutil.copytree(authority.anchors, leaf.material.anchors)
    key = create_key()
    issued = authority.load_issuer().issue(
        create_csr(key, identity), identity, anchors, time.time()
    )
    write_key(leaf.key, key)
    chain = join_pem([issued.leaf, *issued.intermediates])
    write_new(leaf.chain, chain, mode=0o644)
    write_new(leaf.bundle, chain + leaf.key.read_bytes())
    return leaf

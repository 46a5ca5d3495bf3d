"""``python -m control.bootstrap DIR NAME``: write a workload's key and request, then end.

A process of its own, because making a key takes a library that costs the sidecar 11 MiB for as
long as it runs; Linkerd's launcher likewise writes both before its proxy starts. What is there
is kept: the key lives as long as the directory, the request until the identity changes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from core.errors import IdentityError, MeshError
from identity.csr import create_csr
from identity.files import replace
from identity.key import create_key, read_key, write_key
from identity.material import Material
from identity.name import Identity, parse_identity


def write_material(directory: Path, identity: Identity) -> None:
    """Make sure that key and request are there. Raises IdentityError."""
    if not directory.is_dir():
        raise IdentityError(f"the identity directory {directory} is not there")
    material = Material(directory)
    if not material.key.exists():
        try:
            write_key(material.key, create_key())
        except IdentityError:
            # Another sidecar of this pod may have been first; its key is then everybody's.
            if not material.key.exists():
                raise
    if not material.is_ready_for(identity):
        replace(material.csr, create_csr(read_key(material.key), identity), mode=0o600)


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status: 0 done, 2 not."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m control.bootstrap DIR NAME\n")
        return 2
    directory, name = arguments
    try:
        write_material(Path(directory), parse_identity(name))
    except MeshError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

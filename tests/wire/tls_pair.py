"""A talk over TLS, led twice: by engines that have the kernel, and by engines that have not."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, final

from core.errors import MeshError
from identity.openssl import Contexts, Openssl, groups_of, load_openssl, make_contexts
from proxy.wire.buffer import owned
from proxy.wire.tls import FED_BYTES, TlsEngine
from proxy.wire.tls_openssl import Calls, OpensslEngine
from proxy.wire.tls_record import functions_of
from tests.authority import mk_mesh

SAY: Final = 0
HEAR: Final = 1
BREAK: Final = 2
CLOSE: Final = 3
_STEPS: Final = 40
"""What one talk is made of, at most."""


@cache
def _parts() -> tuple[Openssl, Contexts, str]:
    """Return the library, contexts of one peer that both ends use, and its name."""
    openssl = load_openssl()
    with tempfile.TemporaryDirectory() as place:
        generation = mk_mesh(Path(place)).generation("shop/api")
    groups = groups_of(openssl, hybrid=False)
    return (
        openssl,
        make_contexts(openssl, generation, groups=groups, resume=True),
        (generation.server_name),
    )


def has_kernel() -> bool:
    """Whether there is anything to compare."""
    return functions_of(_parts()[0]) is not None


@final
@dataclass(slots=True)
class End:
    """One end: its engine, what is on its way to it, and whether it has given up."""

    engine: TlsEngine
    wire: bytearray = field(default_factory=bytearray)
    is_lost: bool = False


def ends(*, kernel: bool) -> tuple[End, End]:
    """Return client and server, which have shaken hands and heard each other."""
    openssl, contexts, name = _parts()
    calls = Calls(openssl, functions_of(openssl) if kernel else None)
    client = End(OpensslEngine(calls, contexts.client_direct, server_side=False, server_name=name))
    server = End(OpensslEngine(calls, contexts.server_direct, server_side=True))
    for _ in range(3):
        for near, far in ((client, server), (server, client)):
            if not near.engine.established:
                near.engine.handshake()
            far.engine.feed(near.engine.take())
    for near, far in ((client, server), (server, client)) * 2:
        assert near.engine.established
        assert owned(far.engine.open(near.engine.seal(b"well"))) == b"well"
    return client, server


def play(script: bytes, *, kernel: bool) -> list[str]:
    """Return what comes of a script: pairs of octets, what is done by whom, and how much of it."""
    both = ends(kernel=kernel)
    told = []
    for at in range(0, min(len(script) - 1, 2 * _STEPS), 2):
        who, what, much = script[at] & 1, script[at] >> 1 & 3, script[at + 1]
        near, far = both[who], both[1 - who]
        if near.is_lost:
            continue
        try:
            told.append(_step(near, far, what, much))
        except MeshError as error:
            near.is_lost = True
            told.append(f"{who} {error.code} {error}")
    return told


def _step(near: End, far: End, what: int, much: int) -> str:
    if what == SAY:
        data = bytes((much,)) * (much * much)
        sealed = near.engine.seal((data, bytearray(data), memoryview(data))[much % 3])
        far.wire += sealed
        return f"said {len(sealed)} {near.engine.has_output}"
    if what == HEAR:
        size = min(1 + much * much, FED_BYTES)
        piece = bytes(near.wire[:size])
        del near.wire[:size]
        found = near.engine.open((piece, memoryview(piece))[much & 1])
        kind = type(found).__name__
        whole = owned(found)
        counts = sorted((each, whole.count(each)) for each in set(whole))
        return f"heard {kind} {counts} {near.engine.ended} {near.engine.has_output}"
    if what == BREAK:
        if near.wire:
            near.wire[much * 7 % len(near.wire)] ^= 1 + much % 255
        return "broken"
    near.engine.close()
    far.wire += near.engine.take()
    return f"closed {near.engine.has_output}"


def compared(script: bytes) -> list[str]:
    """Return what comes of a script.

    Raises:
        AssertionError: it depends on the kernel.

    """
    wanted = play(script, kernel=False)
    found = play(script, kernel=True)
    assert found == wanted, f"{script!r}: {found} instead of {wanted}"
    return found

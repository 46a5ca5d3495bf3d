"""Records opened and sealed by the kernel, against the engine that does without it."""

from __future__ import annotations

import gc
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import HandshakeError
from proxy.wire.buffer import Buffer, owned
from proxy.wire.native import new_functions, new_records
from proxy.wire.tls import FED_BYTES, OWNED_BYTES, PLAIN_BYTES
from tests.wire.tls_pair import compared, ends, has_kernel

_KERNELS = pytest.mark.parametrize("kernel", [False, True], ids=["reference", "native"])
_ONE_RECORD = 16_384
_AROUND = 22


def test_the_kernel_runs_where_it_was_built() -> None:
    """With EXPECT_COMPILED=1 or EXPECT_KERNELS=1; elsewhere as it was built."""
    if "1" in (os.environ.get("EXPECT_COMPILED"), os.environ.get("EXPECT_KERNELS")):
        assert has_kernel()


@given(st.binary(min_size=2, max_size=40))
@settings(max_examples=60)
def test_any_talk_comes_to_the_same(script: bytes) -> None:
    """Whatever is said, cut, broken and closed: words, ends, errors and what is left to be sent."""
    compared(script)


@pytest.mark.parametrize(
    ("script", "last"),
    [
        ("0010 03ff", "heard bytes [(16, 256)] False False"),
        ("00ff 03ff 03ff", "heard memoryview [(255, 15873)] False False"),
        ("0010 0600 0320", "heard bytes [(16, 256)] True False"),
        ("0600 0320 0110 0220", "heard bytes [(16, 256)] False False"),
        ("0010 0510 03ff", "1 handshake the TLS connection failed: decryption failed or bad"),
        ("0010 0500 03ff", "1 handshake the TLS connection failed: bad record type"),
    ],
)
def test_a_talk_comes_to_what_it_should(script: str, last: str) -> None:
    """Words, lent and given; an end behind words and alone; a record that was tampered with."""
    assert compared(bytes.fromhex(script))[-1].startswith(last)


@_KERNELS
@pytest.mark.parametrize("size", [0, 1, OWNED_BYTES, OWNED_BYTES + 1, _ONE_RECORD, 2 * _ONE_RECORD])
def test_few_octets_are_given_and_many_are_lent(kernel: bool, size: int) -> None:
    """As a socket does."""
    client, server = ends(kernel=kernel)
    data = os.urandom(size)
    found = server.engine.open(client.engine.seal(data))
    assert owned(found) == data
    assert isinstance(found, bytes) == (size <= OWNED_BYTES)
    assert not server.engine.has_output
    assert not client.engine.has_output


@_KERNELS
def test_as_much_as_is_fed_at_once_has_room(kernel: bool) -> None:
    """Also with a record before it of which only the end is missing; one octet more is refused."""
    client, server = ends(kernel=kernel)
    wire = b"".join(client.engine.seal(bytes(_ONE_RECORD)) for _ in range(6))
    first = _ONE_RECORD + _AROUND - 1
    assert server.engine.open(wire[:first]) == b""
    found = server.engine.open(wire[first : first + FED_BYTES])
    assert len(found) == 4 * _ONE_RECORD
    assert len(found) <= PLAIN_BYTES
    with pytest.raises(ValueError, match="more than"):
        server.engine.open(bytes(FED_BYTES + 1))
    assert len(server.engine.open(wire[first + FED_BYTES :])) == 2 * _ONE_RECORD


@_KERNELS
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_any_form_of_octets_will_do(kernel: bool, form: type[Buffer]) -> None:
    """On both sides."""
    client, server = ends(kernel=kernel)
    sealed = client.engine.seal(form(b"words"))
    assert server.engine.open(form(sealed)) == b"words"


@_KERNELS
def test_after_a_failure_nothing_is_sealed(kernel: bool) -> None:
    """A connection that has failed has nothing to say but why."""
    client, server = ends(kernel=kernel)
    wire = bytearray(client.engine.seal(b"words"))
    wire[-1] ^= 1
    with pytest.raises(HandshakeError, match="bad record mac"):
        server.engine.open(wire)
    assert server.engine.has_output
    with pytest.raises(HandshakeError):
        server.engine.seal(b"more")


def test_records_outlive_their_engine() -> None:
    """Whoever holds them holds the connection."""
    client, server = ends(kernel=True)
    records: Any = client.engine._records  # type: ignore[attr-defined]
    assert (records is not None) == has_kernel()
    if records is None:
        return
    del client
    gc.collect()
    assert server.engine.open(records.seal(b"still here")) == b"still here"


def test_nothing_is_called_at_no_address() -> None:
    """Neither a function nor a connection is taken at 0."""
    assert (new_functions is None) == (new_records is None) == (not has_kernel())
    if new_functions is None or new_records is None:
        return
    for place in range(8):
        with pytest.raises(ValueError, match="no address"):
            new_functions(*(int(each != place) for each in range(8)))
    functions = new_functions(*[1] * 8)
    for place in range(3):
        with pytest.raises(ValueError, match="no address"):
            new_records(functions, object(), *(int(each != place) for each in range(3)))
    with pytest.raises(TypeError):
        new_records(None, object(), 1, 1, 1)

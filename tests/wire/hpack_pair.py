"""The HPACK that runs and its reference, given the same input, held to the same answers."""

from __future__ import annotations

from typing import final

from proxy.wire.http2_header import Section
from proxy.wire.http2_hpack_decoder import HpackDecoder
from proxy.wire.http2_hpack_encoder import HpackEncoder
from proxy.wire.http_field import Field, Fields
from proxy.wire.native import new_decoder, new_encoder


@final
class DecoderPair:
    """Two decoders of one direction of a connection; where nothing is compiled they are alike."""

    def __init__(self, soft: int = 16_384, hard: int = 65_536) -> None:
        self._plain = HpackDecoder(soft, hard)
        self._run = new_decoder(soft, hard)

    def decode(self, block: bytes) -> Section | str:
        """Return what both made of a block.

        Raises:
            AssertionError: they differ.

        """
        wanted = self._plain.decode(block)
        found = self._run.decode(block)
        assert found == wanted, f"{block!r}: {found} instead of {wanted}"
        if isinstance(found, Section):
            assert self._run.table_size == self._plain.table_size
        return found


@final
class EncoderPair:
    """Two encoders of one direction of a connection."""

    def __init__(self) -> None:
        self._plain = HpackEncoder()
        self._run = new_encoder()

    def resize(self, allowed: int) -> None:
        """Tell both what the peer allows."""
        self._plain.resize(allowed)
        self._run.resize(allowed)

    def encode(self, pseudo: Fields, fields: Fields, never: frozenset[Field]) -> bytes:
        """Return the block that both wrote.

        Raises:
            AssertionError: they differ.

        """
        wanted = self._plain.encode(pseudo, fields, never)
        found = self._run.encode(pseudo, fields, never)
        assert found == wanted, f"{pseudo} {fields}: {found!r} instead of {wanted!r}"
        assert self._run.table_size == self._plain.table_size
        return found

    def head(self, stream_id: int, fields: Fields, *, ends: bool) -> bytes:
        """Return the frames that both wrote.

        Raises:
            AssertionError: they differ.

        """
        wanted = self._plain.head(stream_id, (), fields, frozenset(), ends)
        found = self._run.head(stream_id, (), fields, frozenset(), ends)
        assert found == wanted
        return found

"""The decoder that runs and its reference, given the same blocks, held to the same answers."""

from __future__ import annotations

from typing import final

from proxy.wire.http2_header import Section
from proxy.wire.http2_hpack_decoder import HpackDecoder
from proxy.wire.native import new_decoder


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
            assert self._run.decode(block) == self._plain.decode(block)
            assert self._run.table_size == self._plain.table_size
        return found

"""Which of two equal codecs runs: a kernel in C where it was built, else the plain one.

The one place that decides. Kernels are ``.pyx`` files beside their references, made by setup.py
together with the compiled core; whoever uses one knows it by its protocol here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proxy.wire.http2_header import Section
from proxy.wire.http2_hpack_decoder import HpackDecoder
from proxy.wire.http2_hpack_encoder import HpackEncoder
from proxy.wire.http_field import Field, Fields


class Decoder(Protocol):
    """``http2_hpack_decoder.HpackDecoder``, or what does the same."""

    @property
    def table_size(self) -> int:
        """The size of the dynamic table (RFC 7541 §4.1)."""

    def decode(self, block: bytes) -> Section | str:
        """Return the section that a whole block holds, or the reason why it cannot be decoded."""


class Encoder(Protocol):
    """``http2_hpack_encoder.HpackEncoder``, or what does the same."""

    @property
    def table_size(self) -> int:
        """The size of the dynamic table (RFC 7541 §4.1)."""

    def resize(self, allowed: int) -> None:
        """Follow the peer's SETTINGS_HEADER_TABLE_SIZE."""

    def encode(self, pseudo: Fields, fields: Fields, never: frozenset[Field]) -> bytes:
        """Return a block with ``pseudo`` before ``fields``; ``never`` is not put into the table."""

    def head(
        self,
        stream_id: int,
        pseudo: Fields,
        fields: Fields,
        never: frozenset[Field],
        ends: bool,  # noqa: FBT001 - as the encoders have it
    ) -> bytes:
        """Return the same in its frames."""


new_decoder: Callable[[int, int], Decoder] = HpackDecoder
"""Make a decoder with these two bounds on a section."""
new_encoder: Callable[[], Encoder] = HpackEncoder
"""Make an encoder."""

try:
    from proxy.wire import native_hpack_decoder, native_hpack_encoder
except ImportError:
    pass
else:
    new_decoder = native_hpack_decoder.HpackDecoder
    new_encoder = native_hpack_encoder.HpackEncoder

"""Which of two equal codecs runs: a kernel in C where it was built, else the plain one.

The one place that decides. Kernels are ``.pyx`` files beside their references, made by setup.py
together with the compiled core; whoever uses one knows it by its protocol here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proxy.wire.http2_header import Section
from proxy.wire.http2_hpack_decoder import HpackDecoder


class Decoder(Protocol):
    """``http2_hpack_decoder.HpackDecoder``, or what does the same."""

    @property
    def table_size(self) -> int:
        """The size of the dynamic table (RFC 7541 §4.1)."""

    def decode(self, block: bytes) -> Section | str:
        """Return the section that a whole block holds, or the reason why it cannot be decoded."""


new_decoder: Callable[[int, int], Decoder] = HpackDecoder
"""Make a decoder with these two bounds on a section."""

try:
    from proxy.wire import native_hpack
except ImportError:
    pass
else:
    new_decoder = native_hpack.HpackDecoder

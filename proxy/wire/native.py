"""Which of two equal codecs runs: a kernel in C where it was built, else the plain one.

The one place that decides. Kernels are ``.pyx`` files beside their references, made by setup.py
together with the compiled core; whoever uses one knows it by its type here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Protocol

from proxy.wire import http1_writer, http2_frame, http_field, orig_proto_field
from proxy.wire.http1_limit import Http1Limits
from proxy.wire.http2_header import Section
from proxy.wire.http2_hpack_decoder import HpackDecoder
from proxy.wire.http2_hpack_encoder import HpackEncoder
from proxy.wire.http_field import Field, Fields

PlainRequest = tuple[int, bytes, bytes, int, Fields, bytes, int, bool]
"""Where a head ends, method, path, version, fields, authority, length, whether it lives on."""
PlainResponse = tuple[int, int, bytes, int, Fields, int, bool]
"""Where a head ends, status, reason, version, fields, length, whether it lives on."""


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


def _kernel(name: str) -> ModuleType | None:
    """Return a kernel; None where it was not built."""
    try:
        return import_module(f"proxy.wire.{name}")
    except ImportError:
        return None


_FIELD: Final = _kernel("native_field")
_FRAME: Final = _kernel("native_frame")
_DECODER: Final = _kernel("native_hpack_decoder")
_ENCODER: Final = _kernel("native_hpack_encoder")
_HTTP1: Final = _kernel("native_http1")
_TLS: Final = _kernel("native_tls")

new_decoder: Final[Callable[[int, int], Decoder]] = (
    HpackDecoder if _DECODER is None else _DECODER.HpackDecoder
)
"""Make a decoder with these two bounds on a section."""
new_encoder: Final[Callable[[], Encoder]] = (
    HpackEncoder if _ENCODER is None else _ENCODER.HpackEncoder
)
"""Make an encoder."""
data_frame: Final[Callable[[int, bytes, bool], bytes]] = (
    http2_frame.data_frame if _FRAME is None else _FRAME.data_frame
)

value_of: Final[Callable[[Fields, bytes], bytes | None]] = (
    http_field.value_of if _FIELD is None else _FIELD.value_of
)
has_any: Final[Callable[[Fields, frozenset[bytes]], bool]] = (
    http_field.has_any if _FIELD is None else _FIELD.has_any
)
without_fields: Final[Callable[[Fields, frozenset[bytes]], Fields]] = (
    http_field.without_fields if _FIELD is None else _FIELD.without_fields
)
without_hop_by_hop: Final[Callable[[Fields], Fields]] = (
    http_field.without_hop_by_hop if _FIELD is None else _FIELD.without_hop_by_hop
)
ride: Final[Callable[[bytes, bytes, bytes, bytes, Fields, Fields], tuple[Fields, Fields]]] = (
    orig_proto_field.ride if _FIELD is None else _FIELD.ride
)
ride_back: Final[Callable[[Fields, Fields], Fields]] = (
    orig_proto_field.ride_back if _FIELD is None else _FIELD.ride_back
)
land: Final[Callable[[Fields, frozenset[bytes]], tuple[Fields, bytes | None, bool, bool]]] = (
    orig_proto_field.land if _FIELD is None else _FIELD.land
)
write_request_head: Final[Callable[[bytes, bytes, Fields, int], bytes]] = (
    http1_writer.write_request_head if _FIELD is None else _FIELD.write_request_head
)
write_response_head: Final[Callable[[int, bytes, Fields, int], bytes]] = (
    http1_writer.write_response_head if _FIELD is None else _FIELD.write_response_head
)
write_chunk: Final[Callable[[bytes], bytes]] = (
    http1_writer.write_chunk if _FIELD is None else _FIELD.write_chunk
)
write_last_chunk: Final[Callable[[Fields], bytes]] = (
    http1_writer.write_last_chunk if _FIELD is None else _FIELD.write_last_chunk
)

read_request: Final[Callable[[bytes, int, Http1Limits, bool], PlainRequest | None] | None] = (
    None if _HTTP1 is None else _HTTP1.read_request
)
"""Read a head whose meaning is plain; None for every other, which is the reference's to read."""
read_response: Final[
    Callable[[bytes, int, Http1Limits, bool, bytes], PlainResponse | None] | None
] = None if _HTTP1 is None else _HTTP1.read_response
"""The same, for the final answer to a method."""

new_functions: Final[Callable[..., object] | None] = None if _TLS is None else _TLS.Functions
"""Take the addresses of OpenSSL's functions, for ``new_records``."""
new_records: Final[Callable[..., Any] | None] = None if _TLS is None else _TLS.Records
"""Make what opens and seals the records of a connection: ``tls_record.Records``."""

from typing import final

from proxy.wire.http2_header import Section

@final
class HpackDecoder:
    def __init__(self, soft: int, hard: int) -> None: ...
    @property
    def table_size(self) -> int: ...
    def decode(self, block: bytes) -> Section | str: ...

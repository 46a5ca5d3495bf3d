from typing import final

from proxy.wire.http_field import Field, Fields

@final
class HpackEncoder:
    def __init__(self) -> None: ...
    @property
    def table_size(self) -> int: ...
    def resize(self, allowed: int) -> None: ...
    def encode(self, pseudo: Fields, fields: Fields, never: frozenset[Field]) -> bytes: ...
    def head(
        self,
        stream_id: int,
        pseudo: Fields,
        fields: Fields,
        never: frozenset[Field],
        ends: bool,
    ) -> bytes: ...

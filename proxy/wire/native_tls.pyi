from proxy.wire.buffer import Buffer

class Functions:
    def __init__(
        self,
        ssl_read: int,
        ssl_write: int,
        bio_read: int,
        bio_write: int,
        bio_get_mem_data: int,
        ssl_get_error: int,
        ssl_want_read: int,
        err_clear_error: int,
    ) -> None: ...

class Records:
    kind: int
    filled: int
    def __init__(
        self, functions: Functions, owner: object, ssl: int, incoming: int, outgoing: int
    ) -> None: ...
    def open(self, wire: Buffer) -> Buffer | None: ...
    def rest(self) -> Buffer: ...
    def seal(self, data: Buffer) -> bytes | None: ...

from proxy.wire.http1_limit import Http1Limits
from proxy.wire.native import PlainRequest, PlainResponse

def read_request(
    data: bytes, start: int, limits: Http1Limits, raw: bool
) -> PlainRequest | None: ...
def read_response(
    data: bytes, start: int, limits: Http1Limits, bare: bool, method: bytes
) -> PlainResponse | None: ...

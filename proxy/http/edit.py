"""What filters do to responses, made ready once for all requests that meet them. Pure."""

from __future__ import annotations

from typing import Final, final

from policy.route import Cors, Filter, ResponseHeaders
from proxy.http.cors import cors_response
from proxy.http.filter import filter_response
from proxy.wire.http_message import RequestHead, ResponseHead


@final
class ResponseEdits:
    """Edits of responses, in the order of the filters that ask for them."""

    __slots__ = ("_cors", "_filters")

    def __init__(self, filters: tuple[Filter, ...], cors: tuple[Cors, ...]) -> None:
        self._filters: Final = filters
        self._cors: Final = cors

    def edit(self, request: RequestHead, head: ResponseHead) -> ResponseHead:
        """Return a server's response as the client shall see it."""
        head = filter_response(self._filters, head)
        for each in self._cors:
            head = cors_response(each, request, head)
        return head


def edits_of(filters: tuple[Filter, ...]) -> ResponseEdits | None:
    """Return what filters do to responses; None: nothing."""
    headers = tuple(each for each in filters if isinstance(each, ResponseHeaders))
    cors = tuple(each for each in filters if isinstance(each, Cors))
    return ResponseEdits(headers, cors) if headers or cors else None

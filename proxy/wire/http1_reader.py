"""One side of an HTTP/1 connection as it comes in: heads, content in pieces, trailers.

Pull form: ``feed`` what was received, then ask ``read_head`` and ``read_body`` until they have
nothing; ``ended`` says that the message is complete, ``next_message`` goes on to the one behind
it. A ``RequestReader`` reads what a client sends, a ``ResponseReader`` what a server answers.

What is held is bounded: a head or trailers in the making by their limits; everything else is
what the last ``feed`` brought, so that whoever stops reading the socket stops the growth. A
piece of content is the very bytes that were fed where the framing lets it be.

Errors are final: the first one is raised again at every later call.
"""

from __future__ import annotations

import re
from typing import Final, final

from core.errors import MeshError
from proxy.wire.http1_head import (
    MAX_LENGTH,
    parse_request_head,
    parse_response_head,
    parse_trailers,
)
from proxy.wire.http1_limit import LENIENCY, LIMITS, Http1Leniency, Http1Limits
from proxy.wire.http1_refusal import explain_long_start, explain_prefix, refusal
from proxy.wire.http_field import TEXT, TOKEN, Fields
from proxy.wire.http_message import CHUNKED, UNTIL_CLOSE, Form, RequestHead, ResponseHead
from proxy.wire.native import read_request, read_response

_HEAD: Final = 0
_LENGTH: Final = 1
_CHUNK_LINE: Final = 2
_CHUNK_DATA: Final = 3
_CHUNK_END: Final = 4
_TRAILERS: Final = 5
_UNTIL_CLOSE: Final = 6
_ENDED: Final = 7
_SWITCHED: Final = 8
_IDLE: Final = 9

_ORIGIN: Final = Form.ORIGIN

_BLANKS: Final = rb"[ \t]*+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]++|\\' + TEXT + rb')*"'
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_CHUNK_EXTENDED: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:" + _BLANKS + rb";" + _BLANKS + TOKEN + rb"++"
    rb"(?:" + _BLANKS + rb"=" + _BLANKS + rb"(?:" + TOKEN + rb"++|" + _QUOTED + rb"))?)*)\r\n"
)
_CHUNK_BEGUN: Final = re.compile(rb"[0-9A-Fa-f]{1,16}(?:[ \t]*+(?:;[^\r\n]*+)?)?\r?")
"""What a chunk's line may look like before its end has come."""


class MessageReader:
    """What both directions share: the bytes, the content, the trailers."""

    def __init__(
        self, limits: Http1Limits, leniency: Http1Leniency, state: int, *, is_request: bool
    ) -> None:
        self._limits: Final = limits
        self._leniency: Final = leniency
        self._is_request: Final = is_request
        self._state = state
        self._data = b""
        self._position = 0
        self._partial = bytearray()
        """Lines in the making."""
        self._scanned = 0
        """Octets of theirs that have been looked at: all of them, between calls."""
        self._left = 0
        self._extensions = 0
        self._is_eof = False
        self._error: MeshError | None = None
        self._trailers: Fields = ()

    @property
    def ended(self) -> bool:
        """The message is complete; what may follow is for ``next_message``."""
        return self._state == _ENDED

    @property
    def switched(self) -> bool:
        """What follows is no HTTP: a tunnel, or the protocol that was asked for."""
        return self._state == _SWITCHED

    @property
    def trailers(self) -> Fields:
        """The fields behind the content of a message that has ended."""
        return self._trailers

    @property
    def buffered(self) -> int:
        """How many octets are held here, not yet handed out."""
        return self._scanned + len(self._data) - self._position

    def feed(self, data: bytes) -> None:
        """Take what was received; it is held until it is asked for."""
        if self._position >= len(self._data):
            self._data = data
        else:
            self._data = self._data[self._position :] + data
        self._position = 0

    def feed_eof(self) -> None:
        """Take note that nothing more will come; the next read says what that means."""
        self._is_eof = True

    def take_rest(self) -> bytes:
        """Return what was received and not read: what follows a head that leaves HTTP."""
        self._state = _SWITCHED
        rest = bytes(self._partial) + self._data[self._position :]
        self._partial = bytearray()
        self._scanned = 0
        self._data = b""
        self._position = 0
        return rest

    def read_body(self) -> bytes:
        """Return all the content that has come and was not returned yet; empty: none has.

        Raises:
            ClientProtocolError, ServerProtocolError: the framing is broken, or the connection
                ended before the content (``http1-truncated``).

        """
        if self._error is not None:
            raise self._error
        state = self._state
        if state == _LENGTH:
            return self._read_length()
        if _CHUNK_LINE <= state <= _TRAILERS:
            return self._read_chunks()
        if state == _UNTIL_CLOSE:
            rest = self._data
            if self._position:
                rest = rest[self._position :]
            self._data = b""
            self._position = 0
            if self._is_eof:
                self._state = _ENDED
            return rest
        return b""

    def _begin(self, length: int) -> None:
        """Get ready for the content that a head announced."""
        if length == 0:
            self._state = _ENDED
        elif length == CHUNKED:
            self._state = _CHUNK_LINE
            self._extensions = 0
        elif length == UNTIL_CLOSE:
            self._state = _UNTIL_CLOSE
        else:
            self._state = _LENGTH
            self._left = length

    def _fail(self, code: str, message: str) -> MeshError:
        """Remember and return the error that ends the reading."""
        error = refusal(code, message, is_request=self._is_request)
        self._error = error
        return error

    def _truncated(self) -> MeshError:
        return self._fail("http1-truncated", "the connection ended inside a message")

    def _take_section(self, limit: int) -> bytes | None:
        """Return the lines before the next blank line, with their ends; None: it has not come."""
        partial = self._partial
        scanned = self._scanned
        if not scanned:
            data = self._data
            position = self._position
            end = data.find(b"\r\n\r\n", position)
            if end >= 0:
                if end + 4 - position > limit:
                    raise self._too_large(data[position:])
                self._position = end + 4
                return data[position : end + 2]
        if self._position < len(self._data):
            partial += self._data[self._position :]
            self._data = b""
            self._position = 0
            self._scanned = len(partial)
            end = partial.find(b"\r\n\r\n", max(0, scanned - 3))
            if end >= 0:
                if end + 4 > limit:
                    raise self._too_large(partial)
                self._data = bytes(partial[end + 4 :])
                section = bytes(partial[: end + 2])
                self._partial = bytearray()
                self._scanned = 0
                return section
            why = explain_prefix(partial, max(0, scanned - 1))
            if why is not None:
                raise self._fail(why[0], why[1])
            self._check_partial(limit)
        if self._is_eof and self._scanned:
            raise self._truncated()
        return None

    def _check_partial(self, limit: int) -> None:
        """Refuse lines in the making that are past a bound already."""
        partial = self._partial
        start = partial.find(b"\r\n", 0, self._limits.start_line + 2)
        if len(partial) >= limit or (start < 0 and len(partial) > self._limits.start_line + 1):
            raise self._too_large(partial)

    def _too_large(self, seen: bytes | bytearray) -> MeshError:
        """Return the error for a head or trailers past a bound."""
        if self._state == _TRAILERS:
            bound = self._limits.trailers
            return self._fail("http1-trailers-too-large", f"trailers of more than {bound} octets")
        if seen.find(b"\r\n", 0, self._limits.start_line + 2) < 0:
            code, message = explain_long_start(self._limits, is_request=self._is_request)
            return self._fail(code, message)
        bound = self._limits.head
        return self._fail("http1-head-too-large", f"the head has more than {bound} octets")

    def _read_length(self) -> bytes:
        data = self._data
        position = self._position
        have = len(data) - position
        left = self._left
        if have == 0:
            if self._is_eof:
                raise self._truncated()
            return b""
        if have > left:
            self._position = position + left
            self._state = _ENDED
            return data[position : position + left]
        self._left = left - have
        if have == left:
            self._state = _ENDED
        self._data = b""
        self._position = 0
        return data[position:] if position else data

    def _read_chunks(self) -> bytes:
        """Return the content of every chunk that has come; go on to the trailers behind them."""
        pieces: list[bytes] = []
        try:
            while self._read_chunk(pieces):
                pass
        except MeshError:
            # What came before the fault is given first; the error is raised at the next call.
            if not pieces:
                raise
        if not pieces and self._is_eof and self._state != _ENDED:
            raise self._truncated()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_chunk(self, pieces: list[bytes]) -> bool:
        """Read what has come of a chunk or of the trailers; False: more must come, or the end."""
        if self._state == _CHUNK_LINE and not self._read_chunk_line():
            return False
        if self._state == _TRAILERS:
            self._read_trailers()
            return False
        if self._state == _CHUNK_DATA:
            position = self._position
            piece = self._data[position : position + self._left]
            self._position = position + len(piece)
            self._left -= len(piece)
            if piece:
                pieces.append(piece)
            if self._left:
                return False
            self._state = _CHUNK_END
        return self._read_chunk_end()

    def _read_chunk_line(self) -> bool:
        """Go on to a chunk's data or to the trailers; False: its line has not come whole."""
        data = self._data
        position = self._position
        found = _CHUNK.match(data, position)
        if found is None:
            found = self._match_extended(data, position)
            if found is None:
                return False
            self._extensions += len(found[2])
            if self._extensions > self._limits.chunk_extensions:
                bound = self._limits.chunk_extensions
                raise self._fail(
                    "http1-chunk-extensions", f"extensions of more than {bound} octets"
                )
        size = int(found[1], 16)
        if size > MAX_LENGTH:
            raise self._fail("http1-chunk-size", "a chunk of 2^63 octets or more")
        self._position = found.end()
        self._left = size
        self._state = _CHUNK_DATA if size else _TRAILERS
        return True

    def _match_extended(self, data: bytes, position: int) -> re.Match[bytes] | None:
        """Match a chunk's line with extensions; None: it has not come whole."""
        end = data.find(b"\r\n", position, position + self._limits.chunk_line + 2)
        if end >= 0:
            found = _CHUNK_EXTENDED.match(data, position)
            if found is None or found.end() != end + 2:
                raise self._fail("http1-chunk-size", "a chunk's line is not SIZE or SIZE;EXTENSION")
            return found
        if len(data) - position > self._limits.chunk_line + 1:
            bound = self._limits.chunk_line
            raise self._fail(
                "http1-chunk-extensions", f"a chunk's line of more than {bound} octets"
            )
        if position < len(data) and _CHUNK_BEGUN.fullmatch(data, position) is None:
            raise self._fail("http1-chunk-size", "a chunk's line is not SIZE or SIZE;EXTENSION")
        return None

    def _read_chunk_end(self) -> bool:
        """Go on behind a chunk's data; False: its CR LF has not come whole."""
        position = self._position
        end = self._data[position : position + 2]
        if end == b"\r\n":
            self._position = position + 2
            self._state = _CHUNK_LINE
            return True
        if end not in (b"", b"\r"):
            raise self._fail("http1-chunk-end", "a chunk is longer than the size before it")
        return False

    def _read_trailers(self) -> None:
        """Read the trailers, if they have come whole, and end the message."""
        if not self._scanned:
            begin = self._data[self._position : self._position + 2]
            if begin == b"\r\n":
                self._position += 2
                self._state = _ENDED
                return
            if begin in (b"", b"\r"):
                return
        section = self._take_section(self._limits.trailers)
        if section is None:
            return
        try:
            self._trailers = parse_trailers(section, self._limits, is_request=self._is_request)
        except MeshError as error:
            self._error = error
            raise
        self._state = _ENDED


@final
class RequestReader(MessageReader):
    """What a client sends: one request after the other."""

    def __init__(self, limits: Http1Limits = LIMITS, leniency: Http1Leniency = LENIENCY) -> None:
        super().__init__(limits, leniency, _HEAD, is_request=True)
        self._may_skip_line = True

    def read_head(self) -> RequestHead | None:
        """Return the next request's head; None: it has not come whole.

        One empty line before it is passed over (RFC 9112 §2.2).

        Raises:
            ClientProtocolError: with the code of the first rule that it breaks; nothing that
                follows can be understood.

        """
        if self._error is not None:
            raise self._error
        if self._state != _HEAD:
            return None
        head = self._read_plain()
        if head is not None:
            return head
        if self._may_skip_line and not self._skip_line():
            return None
        section = self._take_section(self._limits.head)
        if section is None:
            return None
        try:
            head = parse_request_head(section, self._limits, self._leniency)
        except MeshError as error:
            self._error = error
            raise
        self._begin(head.length)
        return head

    def _read_plain(self) -> RequestHead | None:
        """Return a head that the kernel reads; None: it does not, or there is no kernel."""
        if read_request is None or self._scanned or self._position >= len(self._data):
            return None
        plain = read_request(self._data, self._position, self._limits, self._leniency.raw_target)
        if plain is None:
            return None
        end, method, path, version, fields, authority, length, keep_alive = plain
        self._position = end
        self._may_skip_line = False
        self._begin(length)
        return RequestHead(
            method,
            _ORIGIN,
            b"",
            authority,
            path,
            version,
            fields,
            length,
            keep_alive,
            b"",
            expects_continue=False,
        )

    def next_message(self) -> None:
        """Go on to the request behind one that has ended."""
        if self._state != _ENDED:
            raise ValueError("the request has not ended")
        self._state = _HEAD
        self._trailers = ()
        self._may_skip_line = True

    def _skip_line(self) -> bool:
        """Pass over one empty line; False: the next octets must come first."""
        begin = self._data[self._position : self._position + 2]
        if begin in (b"", b"\r"):
            if begin and self._is_eof:
                raise self._truncated()
            return False
        if begin == b"\r\n":
            self._position += 2
        self._may_skip_line = False
        return True


@final
class ResponseReader(MessageReader):
    """What a server answers: a response to each request that ``expect`` announces."""

    def __init__(self, limits: Http1Limits = LIMITS, leniency: Http1Leniency = LENIENCY) -> None:
        super().__init__(limits, leniency, _IDLE, is_request=False)
        self._method = b""
        self._may_switch = False

    def expect(self, method: bytes, *, upgrade: bool = False) -> None:
        """Take note that a request was sent, and whether it asked for another protocol.

        Raises:
            ServerProtocolError: the server has spoken before (``http1-unsolicited``): its words
                would be taken for the answer.

        """
        if self._error is not None:
            raise self._error
        if self._state not in (_IDLE, _ENDED):
            raise ValueError("the response before has not ended")
        if self.buffered:
            raise self._fail("http1-unsolicited", "the server sent what nobody had asked for")
        self._state = _HEAD
        self._method = method
        self._may_switch = upgrade
        self._trailers = ()

    def read_head(self) -> ResponseHead | None:
        """Return the next head; None: it has not come whole. 1xx heads come before the final one.

        Raises:
            ServerProtocolError: with the code of the first rule that it breaks, or because the
                connection ended before the answer (``http1-truncated``).

        """
        if self._error is not None:
            raise self._error
        if self._state != _HEAD:
            if self._state == _IDLE and self.buffered:
                raise self._fail("http1-unsolicited", "the server sent what nobody had asked for")
            return None
        plain = self._read_plain()
        if plain is not None:
            return plain
        section = self._take_section(self._limits.head)
        if section is None:
            if self._is_eof:
                raise self._truncated()
            return None
        try:
            head = parse_response_head(section, self._method, self._limits, self._leniency)
        except MeshError as error:
            self._error = error
            raise
        if head.status >= 200:
            if self._method == b"CONNECT" and head.status < 300:
                self._state = _SWITCHED
            else:
                self._begin(head.length)
        elif head.status == 101:
            if not self._may_switch:
                raise self._fail("http1-switch", "101 to a request that asked for no upgrade")
            self._state = _SWITCHED
        return head

    def _read_plain(self) -> ResponseHead | None:
        """Return a head that the kernel reads; None: it does not, or there is no kernel."""
        if read_response is None or self._scanned or self._position >= len(self._data):
            return None
        plain = read_response(
            self._data, self._position, self._limits, self._leniency.bare_status, self._method
        )
        if plain is None:
            return None
        end, status, reason, version, fields, length, keep_alive = plain
        self._position = end
        self._begin(length)
        return ResponseHead(status, reason, version, fields, length, keep_alive)

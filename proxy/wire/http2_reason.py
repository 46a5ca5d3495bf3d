"""Why an HTTP/2 stream or connection is ended: one table of stable names.

A name is a metric label and a row of docs/http2.md; beside it stand the error code that the peer
is told and the section that the peer did not keep to. All sections are RFC 9113's unless they
say otherwise.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from proxy.wire.http2_frame import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)


@final
@dataclass(frozen=True, slots=True)
class Reason:
    """What a peer is told, and why."""

    error: int
    """The error code of RST_STREAM or GOAWAY (§7)."""

    section: str
    words: str


REASONS: Final[dict[str, Reason]] = {
    # Connections.
    "http2-preface": Reason(PROTOCOL_ERROR, "3.4", "the connection does not begin with a preface"),
    "http2-frame-size": Reason(FRAME_SIZE_ERROR, "4.2", "a frame of a size it may not have"),
    "http2-compression": Reason(COMPRESSION_ERROR, "4.3", "a header block that is not HPACK"),
    "http2-stream-id": Reason(PROTOCOL_ERROR, "5.1.1", "a stream that its sender may not open"),
    "http2-idle-stream": Reason(PROTOCOL_ERROR, "5.1", "a frame for a stream not yet opened"),
    "http2-stream-zero": Reason(PROTOCOL_ERROR, "6", "a frame on stream 0 or not on it, wrongly"),
    "http2-padding": Reason(PROTOCOL_ERROR, "6.1", "more padding than payload"),
    "http2-setting": Reason(PROTOCOL_ERROR, "6.5.2", "a setting with a value it may not have"),
    "http2-setting-window": Reason(FLOW_CONTROL_ERROR, "6.5.2", "an initial window past 2^31-1"),
    "http2-push": Reason(PROTOCOL_ERROR, "8.4", "a push although pushing is off"),
    "http2-window-zero": Reason(PROTOCOL_ERROR, "6.9", "a window update of 0"),
    "http2-window-overflow": Reason(FLOW_CONTROL_ERROR, "6.9.1", "a window past 2^31-1"),
    "http2-window-exceeded": Reason(FLOW_CONTROL_ERROR, "6.9", "more data than the window lets"),
    "http2-continuation": Reason(PROTOCOL_ERROR, "6.10", "a header block out of order"),
    "http2-header-bomb": Reason(ENHANCE_YOUR_CALM, "10.5.1", "a header block without measure"),
    "http2-noise": Reason(ENHANCE_YOUR_CALM, "10.5", "too many frames that carry nothing"),
    "http2-resets": Reason(ENHANCE_YOUR_CALM, "10.5", "too many streams begun and given up"),
    "http2-replies": Reason(ENHANCE_YOUR_CALM, "10.5", "answers asked for and not fetched"),
    # Streams and connections, by the state.
    "http2-closed-stream": Reason(STREAM_CLOSED, "5.1", "a frame for a stream that has ended"),
    # Streams.
    "http2-self-dependency": Reason(PROTOCOL_ERROR, "5.3", "a stream that depends on itself"),
    "http2-too-many-streams": Reason(REFUSED_STREAM, "5.1.2", "more streams than were allowed"),
    "http2-draining": Reason(REFUSED_STREAM, "6.8", "a stream opened after GOAWAY"),
    "http2-stalled": Reason(ENHANCE_YOUR_CALM, "10.5", "a window that stayed shut"),
    "http2-header-list": Reason(PROTOCOL_ERROR, "10.5.1", "fields past the announced size"),
    # Malformed messages (§8.1.1).
    "http2-field-name": Reason(PROTOCOL_ERROR, "8.2.1", "a field name that is none"),
    "http2-field-value": Reason(PROTOCOL_ERROR, "8.2.1", "a field value that is none"),
    "http2-connection-field": Reason(PROTOCOL_ERROR, "8.2.2", "a field about the connection"),
    "http2-te": Reason(PROTOCOL_ERROR, "8.2.2", "TE other than trailers"),
    "http2-pseudo": Reason(PROTOCOL_ERROR, "8.3", "a pseudo-header field unknown or misplaced"),
    "http2-method": Reason(PROTOCOL_ERROR, "8.3.1", "no method, or one that is no token"),
    "http2-scheme": Reason(PROTOCOL_ERROR, "8.3.1", "no scheme, or neither http nor https"),
    "http2-path": Reason(PROTOCOL_ERROR, "8.3.1", "no path, or none that can be a target"),
    "http2-authority": Reason(PROTOCOL_ERROR, "8.3.1", "no authority, or not HOST or HOST:PORT"),
    "http2-host": Reason(PROTOCOL_ERROR, "8.3.1", "a host other than the authority, or two"),
    "http2-connect": Reason(PROTOCOL_ERROR, "8.5", "a CONNECT that is none"),
    "http2-status": Reason(PROTOCOL_ERROR, "8.3.2", "no status, or none that can be one"),
    "http2-interim": Reason(PROTOCOL_ERROR, "8.1", "an interim response that ends the stream"),
    "http2-trailers": Reason(PROTOCOL_ERROR, "8.1", "trailers that do not end, or that frame"),
    "http2-content-length": Reason(PROTOCOL_ERROR, "8.1.1", "content of another length than said"),
    "http2-no-head": Reason(PROTOCOL_ERROR, "8.1", "content before its head"),
}

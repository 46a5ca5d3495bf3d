"""The one tree of errors, and the one table from an error's code to what a peer is told.

Every error carries a stable ``code`` (kebab case: log field, metric label, anchor in
docs/errors.md), who was at fault, whether trying again can help, and one sentence of advice.
The message says what was seen and what was wanted. No other module writes a status.
All kinds stand here, not beside who raises them: compiled modules cannot give a class of
errors a code of its own.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final, final

from core.record import dataclass


class Fault(Enum):
    """Who broke the rule."""

    CLIENT = "client"
    SERVER = "server"
    SELF = "self"


class Retry(Enum):
    """Whether the same attempt may succeed when made again."""

    NEVER = "never"
    IF_REUSED = "if-reused"
    """Only if the connection had been used before: it may have died while idle."""
    YES = "yes"


class TcpAction(Enum):
    """What an opaque connection is given when this error ends it."""

    CLOSE = "close"
    RESET = "reset"


class MeshError(Exception):
    """Base of everything this program raises on purpose; never raised itself."""

    code: ClassVar[str] = ""
    where: ClassVar[Fault] = Fault.SELF
    retry: ClassVar[Retry] = Retry.NEVER

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        if type(self) is MeshError:
            raise TypeError("raise one of MeshError's kinds, not MeshError itself")
        super().__init__(message)
        self.hint: Final = hint
        if code:
            # The kind's code is its class's (compiled kinds lose it otherwise), a finer one ours.
            self.code = code  # type: ignore[misc]

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class ConfigError(MeshError):
    """Settings or arguments cannot be used; ``problems`` lists every one of them."""

    code = "config"

    def __init__(self, problems: list[str] | str, *, hint: str = "") -> None:
        self.problems: Final = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems), hint=hint)


class ClientProtocolError(MeshError):
    """The client broke a protocol's rules."""

    code = "client-protocol"
    where = Fault.CLIENT


class ServerProtocolError(MeshError):
    """The server broke a protocol's rules."""

    code = "server-protocol"
    where = Fault.SERVER


class RefusedError(MeshError):
    """Policy or a rule of the wire said no."""

    code = "refused"
    where = Fault.CLIENT


class UnreachableError(MeshError):
    """Nothing answered: refused, timed out, no route, no endpoints."""

    code = "unreachable"
    where = Fault.SERVER
    retry = Retry.YES


class HandshakeError(MeshError):
    """TLS could not be established, or the peer is not who it had to be."""

    code = "handshake"
    where = Fault.SERVER


class IdentityError(MeshError):
    """A key, certificate, CSR, token or bundle cannot be used."""

    code = "identity"


class ResourceError(MeshError):
    """A manifest cannot be used."""

    code = "resource"


class DrainingError(MeshError):
    """We are going away and take nothing new."""

    code = "draining"
    retry = Retry.YES


class OverloadError(MeshError):
    """A stated bound is reached."""

    code = "overload"
    retry = Retry.YES


class TransportHeaderError(ClientProtocolError):
    """The bytes are no transport header, or one that means nothing."""

    code = "transport-header"


class TruncatedError(ClientProtocolError):
    """The peer's stream ended without close_notify: bytes may be missing (RFC 8446, 6.1)."""

    code = "truncated"


class ConnectRefusedError(UnreachableError):
    """The address answered that nobody listens there, or that it cannot be reached."""

    code = "connect-refused"


class ConnectTimeoutError(UnreachableError):
    """The address did not answer in time."""

    code = "connect-timeout"


class ClosedEarlyError(ClientProtocolError):
    """The client went away before it had said what it wants."""

    code = "client-closed"


class CaptureError(ClientProtocolError):
    """The system does not know where a connection was going."""

    code = "original-destination"


class DetectTimeoutError(ClientProtocolError):
    """The client did not show what it speaks in time."""

    code = "detect-timeout"


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What a peer is told: HTTP status, gRPC status, TCP action, and whether to hang up."""

    http: int
    grpc: int
    tcp: TcpAction
    close: bool


OUTCOMES: Final[dict[str, Outcome]] = {
    "config": Outcome(500, 13, TcpAction.CLOSE, close=True),
    "client-protocol": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "server-protocol": Outcome(502, 14, TcpAction.RESET, close=True),
    "refused": Outcome(403, 7, TcpAction.CLOSE, close=False),
    "unauthorized": Outcome(403, 7, TcpAction.CLOSE, close=False),
    "route-not-found": Outcome(404, 5, TcpAction.CLOSE, close=False),
    "call-not-found": Outcome(404, 12, TcpAction.CLOSE, close=False),
    "rate-limited": Outcome(429, 8, TcpAction.CLOSE, close=False),
    "policy-invalid": Outcome(403, 7, TcpAction.CLOSE, close=False),
    "filter-invalid": Outcome(500, 13, TcpAction.CLOSE, close=False),
    "injected": Outcome(500, 13, TcpAction.CLOSE, close=False),
    "mtls-required": Outcome(403, 7, TcpAction.RESET, close=False),
    "loop": Outcome(508, 10, TcpAction.CLOSE, close=True),
    "not-local": Outcome(403, 7, TcpAction.RESET, close=True),
    "socks5": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "no-destination": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "name-unknown": Outcome(502, 14, TcpAction.RESET, close=True),
    "forbidden-destination": Outcome(403, 7, TcpAction.RESET, close=False),
    "gateway-disabled": Outcome(404, 5, TcpAction.CLOSE, close=True),
    "gateway-not-exported": Outcome(404, 5, TcpAction.CLOSE, close=True),
    "client-closed": Outcome(400, 1, TcpAction.CLOSE, close=True),
    "internal": Outcome(500, 13, TcpAction.RESET, close=True),
    "direct-not-mutual": Outcome(403, 7, TcpAction.CLOSE, close=True),
    "direct-no-alpn": Outcome(403, 7, TcpAction.CLOSE, close=True),
    "direct-foreign-address": Outcome(403, 7, TcpAction.CLOSE, close=True),
    "transport-header": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "detect-timeout": Outcome(408, 4, TcpAction.CLOSE, close=True),
    "http1-bare-cr": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-bare-lf": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-chunk-end": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-chunk-extensions": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-chunk-size": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-coding-repeated": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-coding-unknown": Outcome(501, 12, TcpAction.CLOSE, close=True),
    "http1-coding-version": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-connect": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-control": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-field-line": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-field-too-long": Outcome(431, 8, TcpAction.CLOSE, close=True),
    "http1-head-too-large": Outcome(431, 8, TcpAction.CLOSE, close=True),
    "http1-host-conflict": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-host-invalid": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-host-missing": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-host-repeated": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-length-and-coding": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-length-invalid": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-length-repeated": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-obs-fold": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-space-before-colon": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-start-line": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-switch": Outcome(502, 14, TcpAction.CLOSE, close=True),
    "http1-target": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-target-too-long": Outcome(414, 3, TcpAction.CLOSE, close=True),
    "http1-too-many-fields": Outcome(431, 8, TcpAction.CLOSE, close=True),
    "http1-trailer": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-trailers-too-large": Outcome(431, 8, TcpAction.CLOSE, close=True),
    "http1-truncated": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-unsolicited": Outcome(502, 14, TcpAction.CLOSE, close=True),
    "http1-upgrade": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "http1-version": Outcome(505, 12, TcpAction.CLOSE, close=True),
    "original-destination": Outcome(400, 13, TcpAction.CLOSE, close=True),
    "unreachable": Outcome(502, 14, TcpAction.RESET, close=True),
    "connect-refused": Outcome(502, 14, TcpAction.RESET, close=True),
    "connect-timeout": Outcome(504, 4, TcpAction.RESET, close=True),
    "not-http": Outcome(403, 7, TcpAction.CLOSE, close=True),
    "too-many-interim": Outcome(502, 14, TcpAction.RESET, close=True),
    "far-closed": Outcome(502, 14, TcpAction.RESET, close=True),
    "http2-broken": Outcome(502, 14, TcpAction.RESET, close=True),
    "http2-refused": Outcome(503, 14, TcpAction.RESET, close=False),
    "http2-reset": Outcome(502, 14, TcpAction.RESET, close=False),
    "http2-silent": Outcome(504, 4, TcpAction.RESET, close=True),
    "no-endpoints": Outcome(503, 14, TcpAction.RESET, close=False),
    "handshake": Outcome(502, 14, TcpAction.RESET, close=True),
    "identity-mismatch": Outcome(502, 14, TcpAction.RESET, close=True),
    "identity-root": Outcome(502, 14, TcpAction.RESET, close=True),
    "resumed-unknown": Outcome(502, 14, TcpAction.CLOSE, close=True),
    "identity": Outcome(500, 13, TcpAction.CLOSE, close=True),
    "issuer-unavailable": Outcome(503, 14, TcpAction.CLOSE, close=True),
    "certify-invalid": Outcome(400, 3, TcpAction.CLOSE, close=True),
    "certify-refused": Outcome(403, 9, TcpAction.CLOSE, close=True),
    "truncated": Outcome(502, 14, TcpAction.RESET, close=True),
    "resource": Outcome(500, 13, TcpAction.CLOSE, close=True),
    "draining": Outcome(503, 14, TcpAction.CLOSE, close=True),
    "overload": Outcome(503, 14, TcpAction.CLOSE, close=True),
    "request-timeout": Outcome(504, 4, TcpAction.RESET, close=False),
    "response-timeout": Outcome(504, 4, TcpAction.RESET, close=False),
    "idle-timeout": Outcome(504, 4, TcpAction.RESET, close=False),
    "try-timeout": Outcome(504, 4, TcpAction.RESET, close=False),
    "retry-limit": Outcome(503, 14, TcpAction.RESET, close=False),
    "failfast": Outcome(504, 4, TcpAction.RESET, close=False),
    "loadshed": Outcome(503, 14, TcpAction.RESET, close=False),
}


def outcome_of(error: MeshError) -> Outcome:
    """Return what a peer is told about ``error``; unknown codes count as our own failure.

    A client is never told that it broke a rule which the server broke: that is a 502.
    """
    outcome = OUTCOMES.get(error.code, OUTCOMES["config"])
    if outcome.http not in (502, 503, 504) and isinstance(error, ServerProtocolError):
        return OUTCOMES["server-protocol"]
    return outcome

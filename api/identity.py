"""Messages of the identity service, to and from the values of ``identity.request``."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from api.gen.identity_pb2 import CertifyRequest as RequestMessage
from api.gen.identity_pb2 import CertifyResponse as ResponseMessage
from core.errors import IdentityError
from identity.request import INVALID, Certified, CertifyRequest, refusal

_MAX_SECONDS = 253_402_300_799  # the last second of the year 9999, protobuf's own bound


def encode_request(request: CertifyRequest) -> bytes:
    """Return a CertifyRequest on the wire."""
    message = RequestMessage(
        identity=request.identity,
        token=request.token,
        certificate_signing_request=request.csr,
    )
    return message.SerializeToString()


def decode_request(data: bytes) -> CertifyRequest:
    """Read a CertifyRequest. Raises IdentityError ``certify-invalid``."""
    message = RequestMessage()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise refusal(INVALID, "the request is no CertifyRequest") from error
    return CertifyRequest(message.identity, message.token, message.certificate_signing_request)


def encode_certified(certified: Certified) -> bytes:
    """Return a CertifyResponse on the wire."""
    seconds, fraction = divmod(certified.valid_until, 1)
    message = ResponseMessage(
        leaf_certificate=certified.leaf,
        intermediate_certificates=certified.intermediates,
        valid_until=Timestamp(seconds=int(seconds), nanos=int(fraction * 1_000_000_000)),
    )
    return message.SerializeToString()


def decode_certified(data: bytes) -> Certified:
    """Read a CertifyResponse. Raises IdentityError: broken, or without leaf or end."""
    message = ResponseMessage()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise IdentityError("the issuer's answer is no CertifyResponse") from error
    if not message.leaf_certificate:
        raise IdentityError("the issuer's answer holds no certificate")
    if not message.HasField("valid_until"):
        raise IdentityError("the issuer's answer does not say how long the certificate is valid")
    until = message.valid_until
    if not 0 <= until.seconds <= _MAX_SECONDS or not 0 <= until.nanos < 1_000_000_000:
        raise IdentityError("the issuer's answer holds an end that is no time")
    return Certified(
        leaf=message.leaf_certificate,
        intermediates=tuple(message.intermediate_certificates),
        valid_until=until.seconds + until.nanos / 1_000_000_000,
    )

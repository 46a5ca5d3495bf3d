"""What an inbound connection is: mesh TLS for us, TLS for somebody else, or neither."""

from __future__ import annotations

import asyncio

from core.errors import DetectTimeoutError, HandshakeError, MeshError
from identity.verify import authenticate
from policy.model import Client, ClientTls
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.runtime import Runtime
from proxy.wire.client_hello import HelloState, read_client_hello
from proxy.wire.transport_header import TransportHeader, read_header


async def detect_client(
    stream: Stream,
    inbox: Inbox,
    runtime: Runtime,
    ip: str,
    timeout_s: float,
    *,
    direct: bool,
) -> Client:
    """Return who the client is; mesh TLS is terminated on the way.

    What our generation is counts when the client has spoken: it may have waited long. Without
    one nothing is terminated. Bytes that are not for us stay in the inbox. Raises
    DetectTimeoutError, HandshakeError, or ClosedEarlyError.
    """
    try:
        async with asyncio.timeout(timeout_s):
            seen = 0
            hello = read_client_hello(inbox.data)
            while hello.state is HelloState.NEED_MORE and await inbox.more(seen):
                seen = len(inbox.data)
                hello = read_client_hello(inbox.data)
            if hello.state is not HelloState.HELLO or not hello.sni:
                return Client(ip)
            generation = runtime.generation.current
            if generation is None or hello.sni != generation.server_name:
                return Client(ip, ClientTls.FOREIGN, sni=hello.sni)
            engine = runtime.tls.server(generation, direct=direct)
            handshakes, loop = runtime.metrics.inbound_handshakes, runtime.loop
            began = loop.time()
            try:
                await stream.start_tls(engine, inbox.take())
                peer = authenticate(generation, engine, runtime.clock.now().timestamp())
                engine.forget_peer(keeps_session=False)
            except MeshError as error:
                handshakes.failed(error.code)
                raise
            except asyncio.CancelledError:
                handshakes.failed(DetectTimeoutError.code)
                raise
            handshakes.done(loop.time() - began, resumed=engine.resumed)
            return Client(ip, ClientTls.MESH, peer.identity if peer is not None else None)
    except TimeoutError as error:
        raise DetectTimeoutError(
            f"{len(inbox.data)} bytes in {timeout_s:g} s did not show what the client speaks",
            hint="declare the port opaque if its server speaks first",
        ) from error


async def read_transport_header(inbox: Inbox, timeout_s: float) -> TransportHeader:
    """Take the transport header off the front of the inbox.

    Raises TransportHeaderError, DetectTimeoutError, or HandshakeError when the stream ends
    before the header does.
    """
    # It comes in one segment with the end of the handshake, as a rule: no need for a timer.
    found = read_header(inbox.data)
    try:
        if found is None:
            async with asyncio.timeout(timeout_s):
                while found is None:
                    if not await inbox.more(len(inbox.data)):
                        raise HandshakeError("the direct connection ended before its header did")
                    found = read_header(inbox.data)
    except TimeoutError as error:
        raise DetectTimeoutError(
            f"no whole transport header came within {timeout_s:g} s"
        ) from error
    del inbox.data[: found[1]]
    return found[0]

"""The promise: gRPC streams live through changes around them, or end with UNAVAILABLE and a reason.

Real gRPC programs: streams that talk and streams that are silent, while endpoints come and go and
one pod is killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tests.support.http_scene import APP_PORT, IP, PORT, SERVERS, run_scene

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

SECONDS = 9.0
FULL_SECONDS = 60.0
"""Long enough for what counts pings, and for pings every ten seconds."""
STREAMS = 30

SERVER = f"""
import sys, time
from concurrent.futures import ThreadPoolExecutor
import grpc
def chat(requests, context):
    for each in requests:
        yield sys.argv[1].encode()
def watch(request, context):
    yield sys.argv[1].encode()
    while context.is_active():
        time.sleep(0.1)
    return
class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method.endswith("Chat"):
            return grpc.stream_stream_rpc_method_handler(chat)
        return grpc.unary_stream_rpc_method_handler(watch)
server = grpc.server(ThreadPoolExecutor(128))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port("[::]:{APP_PORT}")
server.start()
server.wait_for_termination()
"""
CALLER = f"""
import asyncio, json, sys
import grpc
async def main():
    seconds, ends = float(sys.argv[1]), []
    loop = asyncio.get_running_loop()
    over = loop.time() + seconds
    async with grpc.aio.insecure_channel("{IP}:{PORT}") as channel:
        chat, watch = channel.stream_stream("/t.T/Chat"), channel.unary_stream("/t.T/Watch")
        async def talk():
            call, server = chat(), ""
            try:
                while loop.time() < over:
                    await call.write(b"x")
                    got = await asyncio.wait_for(call.read(), 10)
                    if got is grpc.aio.EOF:
                        break
                    server = got.decode()
                    await asyncio.sleep(0.1)
                else:
                    await call.done_writing()
            except asyncio.InvalidStateError:
                pass
            except grpc.aio.AioRpcError:
                pass
            ends.append(("talk", server, int((await call.code()).value[0]), await call.details()))
        async def listen():
            call, server = watch(b""), ""
            try:
                server = (await call.read()).decode()
                await asyncio.wait_for(call.read(), over - loop.time())
            except TimeoutError:
                ends.append(("listen", server, 0, ""))
                return
            except grpc.aio.AioRpcError:
                pass
            ends.append(("listen", server, int((await call.code()).value[0]), await call.details()))
        await asyncio.gather(*(each() for each in [talk, listen] * ({STREAMS} // 2)))
    print(json.dumps(ends))
asyncio.run(main())
"""


def test_streams_live_or_say_why_they_ended() -> None:
    """Those of the pod that is killed end; to others nothing happens, though all went and came."""
    length = FULL_SECONDS if os.environ.get("PILLION_FULL_LENGTH") else SECONDS
    with run_scene(starts_apps=False) as scene:
        for name in SERVERS:
            scene.start_program(name, [sys.executable, "-c", SERVER, name], uid=None)
        caller = scene.mesh.pods["web-0"].host.spawn(
            [sys.executable, "-c", CALLER, str(length)], output=subprocess.PIPE
        )
        time.sleep(3.0)
        scene.announce("api-2")
        time.sleep(0.5)
        scene.announce()
        time.sleep(0.5)
        scene.announce("api-0", "api-1")
        time.sleep(0.5)
        scene.kill_sidecar("api-1")
        scene.kill_app("api-1")
        printed, _ = caller.communicate(timeout=length + 40)
        ends = json.loads(printed)
        print(length, ends)
        assert len(ends) == STREAMS
        assert {server for _, server, _, _ in ends} == set(SERVERS)
        for _, server, code, words in ends:
            if server == "api-1":
                assert code == 14
                assert words
            else:
                assert (code, words) == (0, "")

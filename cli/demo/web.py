"""The demo's own HTTP server: says one thing to everyone who asks."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import final


@final
class Handler(BaseHTTPRequestHandler):
    """Answers every GET with the words the server was given."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # head and content in one segment, as most servers do
    words = b""

    def do_GET(self) -> None:
        """Say it."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(self.words)))
        self.end_headers()
        self.wfile.write(self.words)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing of it."""


@final
class Server(ThreadingHTTPServer):
    """Takes many who come at once, as servers do."""

    request_queue_size = 1024
    daemon_threads = True


def main() -> None:
    """Serve ``python -m cli.demo.web ADDRESS PORT WORDS`` until killed."""
    address, port, words = sys.argv[1:]
    Handler.words = words.encode() + b"\n"
    Server((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()

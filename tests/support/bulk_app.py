"""An HTTP/1.1 application for bulk, in a process of its own: ``bulk_app.py IP PORT FILE``.

GET is answered with the file, PUT with the SHA-256 of its content, which may be chunked.
"""

from __future__ import annotations

import hashlib
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar


class Bulk(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    rbufsize = 262_144
    file: ClassVar[Path]

    def do_GET(self) -> None:  # the base class finds it by this name
        """Send the file."""
        with self.file.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.flush()
            self.connection.sendfile(file)

    def do_PUT(self) -> None:  # as above
        """Read the content and answer its sum."""
        total = hashlib.sha256()
        if "Content-Length" in self.headers:
            left = int(self.headers["Content-Length"])
            while left:
                data = self.rfile.read(min(left, self.rbufsize))
                if not data:
                    return
                left -= len(data)
                total.update(data)
        else:
            while size := int(self.rfile.readline(), 16):
                total.update(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        answer = total.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its own name
        """Say nothing."""


if __name__ == "__main__":
    Bulk.file = Path(sys.argv[3])
    with ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Bulk) as server:
        server.serve_forever()

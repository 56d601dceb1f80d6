"""A server over TLS that is slow while its TLS library has breakpoints: it compares the library in its memory with the
file. Other programs that notice being read do so by accident.

Arguments: ADDRESS CERTIFICATE KEY.
"""

import json
import re
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MAPPING = re.compile(r"^(\w+)-(\w+) r-xp (\w+) \S+ \d+ +(/\S*libssl\.so\S*)$", re.MULTILINE)
SLOWER_SECONDS = 0.03


class Text:
    """Instructions of the library, in memory and in the file."""

    def __init__(self) -> None:
        found = MAPPING.search(Path("/proc/self/maps").read_text())
        assert found is not None
        self._start, end, offset = (int(found[number], 16) for number in (1, 2, 3))
        self._size = end - self._start
        with Path(found[4]).open("rb") as file:
            file.seek(offset)
            self._content = file.read(self._size)
        self.is_changed = False

    def watch(self) -> None:
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            while True:
                memory.seek(self._start)
                self.is_changed = memory.read(self._size)[: len(self._content)] != self._content
                time.sleep(0.05)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if text.is_changed:
            time.sleep(SLOWER_SECONDS)
        body = b'{"state": "sent"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


text = Text()
threading.Thread(target=text.watch, daemon=True).start()
server = ThreadingHTTPServer((sys.argv[1], 0), Handler)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(json.dumps({"event": "ready", "port": server.server_port}), flush=True)
server.serve_forever()

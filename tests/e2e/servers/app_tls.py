"""A server over TLS whose bodies are worth a look: `/exports/N` answers 1 MB, `/uploads/N` takes what comes,
`/customers/N` answers a list of three people, `/logins` takes a password.

Arguments: ADDRESS CERTIFICATE KEY [CIPHERS]; with these it speaks TLS from 1.0 on, else as Python would.
"""

import json
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = b"x" * (1 << 20)
PEOPLE = [
    {"name": f"Ada Lovelace {number}", "email": f"ada{number}@kanarienvogel.example", "card": "4111 1111 1111 1111"}
    for number in range(3)
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, body: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path.startswith("/exports/"):
            self.answer(LARGE, "application/octet-stream")
        elif self.path.startswith("/customers/"):
            self.answer(json.dumps(PEOPLE).encode(), "application/json")
        else:
            self.answer(b'{"state": "sent"}', "application/json")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b'{"state": "taken"}', "application/json")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET


server = Server((sys.argv[1], 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
if len(sys.argv) > 4:
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers(sys.argv[4])
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(json.dumps({"event": "ready", "port": server.server_port}), flush=True)
server.serve_forever()

"""The test application over Python's http.server; see tests/e2e/application.py for what it answers.

Arguments: ADDRESS [CERTIFICATE KEY]; with these over TLS.
"""

import json
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        if status not in (204, 304):
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_call(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if path == "/orders" and self.command == "POST":
            self.answer(201, b'{"number": 1}')
        elif path.startswith("/orders/") and self.command == "DELETE":
            self.answer(204)
        elif path.startswith("/orders/"):
            self.answer(200, b'{"state": "sent"}')
        elif path.startswith("/users/"):
            self.answer(304)
        elif path == "/events":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for size in (1, 100, 5_000):
                self.wfile.write(b"%x\r\n%s\r\n" % (size, b"x" * size))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer(404, b"{}")

    def do_GET(self) -> None:
        self.handle_call()

    def do_POST(self) -> None:
        self.handle_call()

    def do_HEAD(self) -> None:
        self.handle_call()

    def do_DELETE(self) -> None:
        self.handle_call()

    def do_CONNECT(self) -> None:
        self.handle_call()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET


server = Server((sys.argv[1], 0), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(json.dumps({"event": "ready", "port": server.server_port}), flush=True)
server.serve_forever()

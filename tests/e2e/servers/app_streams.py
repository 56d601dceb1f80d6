"""A server of what lasts: GET /events (server-sent events for 2.5 s), GET /chat (a WebSocket that answers); and of RPCs
over HTTP/1.1: POST of gRPC-Web and of Connect, which are answered NOT_FOUND where the method is Fail.

Arguments: ADDRESS [CERTIFICATE KEY], with which it speaks TLS. HTTP/1.1 by hand, a connection a call.
"""

import json
import socket
import socketserver
import ssl
import sys
import time
from typing import Any

EVENTS_COUNT = 5
MESSAGE = b"\0\0\0\0\x05hello"  # What is asked by an RPC.
EVENTS_EVERY_SECONDS = 0.5
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if len(sys.argv) > 2 else None
if TLS is not None:
    TLS.load_cert_chain(sys.argv[2], sys.argv[3])


class Handler(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(4_096)
        if head.startswith(b"GET /events"):
            self.send_events()
        elif head.startswith(b"POST"):
            self.answer_rpc(*head.split(b"\r\n\r\n", 1))
        else:
            self.chat()

    def send_events(self) -> None:
        self.request.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(EVENTS_COUNT):
            time.sleep(EVENTS_EVERY_SECONDS)
            event = b"data: %d\n\n" % number
            self.request.sendall(b"%x\r\n%s\r\n" % (len(event), event))
        self.request.sendall(b"0\r\n\r\n")

    def answer_rpc(self, head: bytes, body: bytes) -> None:
        while len(body) < len(MESSAGE):
            body += self.request.recv(4_096)
        is_failing = b"/Fail " in head
        if b"grpc-web" in head:
            trailers = b"grpc-status: %d\r\n" % (5 if is_failing else 0)
            told = body * (not is_failing) + b"\x80" + len(trailers).to_bytes(4) + trailers
            self.answer(b"200 OK", b"application/grpc-web+proto", told)
        elif is_failing:
            self.answer(b"404 Not Found", b"application/json", b'{"code": "not_found"}')
        else:
            self.answer(b"200 OK", b"application/proto", body)

    def answer(self, status: bytes, media_type: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, media_type, len(body))
        self.request.sendall(head + body)

    def chat(self) -> None:
        self.request.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while self.request.recv(4_096):
            self.request.sendall(b"\x81\x05hello")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        """With TLS, whose handshake is made at the first byte, in the connection's own thread."""
        plain, address = super().get_request()
        if TLS is None:
            return plain, address
        return TLS.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address


with Server((sys.argv[1], 0), Handler) as server:
    print(json.dumps({"event": "ready", "port": server.server_address[1]}), flush=True)
    server.serve_forever()

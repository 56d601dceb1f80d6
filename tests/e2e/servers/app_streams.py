"""A server of what lasts: GET /events (server-sent events for 2.5 s), GET /chat (a WebSocket that answers).

Arguments: ADDRESS. HTTP/1.1 by hand, a connection a call.
"""

import json
import socketserver
import sys
import time

EVENTS_COUNT = 5
EVENTS_EVERY_SECONDS = 0.5


class Handler(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(4_096)
        if head.startswith(b"GET /events"):
            self.send_events()
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

    def chat(self) -> None:
        self.request.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while self.request.recv(4_096):
            self.request.sendall(b"\x81\x05hello")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server((sys.argv[1], 0), Handler) as server:
    print(json.dumps({"event": "ready", "port": server.server_address[1]}), flush=True)
    server.serve_forever()

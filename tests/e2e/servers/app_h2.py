"""A server of python-hyper's h2 that takes `Upgrade: h2c`, prior knowledge too. It answers /orders/N with 200, all else
with 404.

Arguments: ADDRESS.
"""

import contextlib
import json
import re
import socket
import sys
import threading

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


def answer(connection: H2Connection, stream: int, path: str) -> None:
    status = b"200" if path.startswith("/orders/") else b"404"
    connection.send_headers(stream, [(b":status", status), (b"content-type", b"application/json")])
    connection.send_data(stream, b"{}", end_stream=True)


def serve(client: socket.socket) -> None:
    connection = H2Connection(H2Configuration(client_side=False))
    data = client.recv(65536)
    if not data.startswith(b"PRI "):
        while b"\r\n\r\n" not in data:
            data += client.recv(65536)
        settings = re.search(rb"(?i)\r\nHTTP2-Settings: *(\S*)\r\n", data)
        assert settings is not None
        connection.initiate_upgrade_connection(settings[1])
        answer(connection, 1, data.split(b" ", 2)[1].decode())
        # The first frames of the server come with its 101.
        client.sendall(UPGRADE + connection.data_to_send())
        data = data.partition(b"\r\n\r\n")[2] or client.recv(65536)
    else:
        connection.initiate_connection()
    while data:
        for event in connection.receive_data(data):
            if isinstance(event, RequestReceived):
                path = dict(event.headers)[b":path"].decode()
                answer(connection, event.stream_id, path)
        client.sendall(connection.data_to_send())
        data = client.recv(65536)


def run(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        serve(client)


with socket.create_server((sys.argv[1], 0)) as listener:
    print(json.dumps({"event": "ready", "port": listener.getsockname()[1]}), flush=True)
    while True:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=run, args=(accepted,), daemon=True).start()

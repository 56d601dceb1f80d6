"""What runs in the Pods of a miniature cluster: a server, a client that knows what it called, a proxy, a way home."""

import contextlib
import http.client
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import DEADLINE_SECONDS

Tell = Callable[[Any], None]
# A path, and the template by which the inventory knows it.
TEMPLATES = {
    "/api/v1/orders/{order_id}": "/api/v1/orders/{}",
    "/api/v1/users/{user_id}": "/api/v1/users/{}",
    "/healthz": "/healthz",
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # A response in one segment: two would wait for each other (RFC 1122, 4.2.3.2).

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        number = int(self.path.rpartition("/")[2]) if self.path[-1].isdigit() else 0
        status = {7: 404, 9: 500}.get(number % 10, 200)
        body = json.dumps({"id": number, "status": "shipped"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to tell."""


def serve(tell: Tell, home: int, port: int, address: str = "::") -> None:
    """Answers on both families; of objects whose number ends in 7 with 404, in 9 with 500."""
    server = _Server((address, port), _Handler)
    tell("listening")
    server.serve_forever()


def call(tell: Tell, home: int, targets: list[dict[str, Any]], count: int, first: int = 1, source: str = "") -> None:
    """`count` calls to the targets in turn, each target over one connection; tells what it counted by
    `service template status`."""
    counted: Counter[str] = Counter()
    connections: dict[int, http.client.HTTPConnection] = {}
    for number in range(count):
        place = number % len(targets)
        target = targets[place]
        connection = connections.get(place)
        if connection is None:
            connection = http.client.HTTPConnection(
                target["address"],
                target["port"],
                timeout=DEADLINE_SECONDS,
                source_address=(source, 0) if source else None,
            )
            connections[place] = connection
        path = TEMPLATES[target["template"]].format(first + number)
        connection.request("GET", path, headers={"Host": target["host"]})
        response = connection.getresponse()
        response.read()
        counted[f"{target['service']} {target['template']} {response.status}"] += 1
    for connection in connections.values():
        connection.close()
    tell(counted)


def attempt(
    tell: Tell,
    home: int,
    address: str,
    port: int,
    key: str,
    count: int,
    pause_seconds: float = 0.0,
    path: str = "/healthz",
) -> None:
    """`count` calls with an API key, over one connection for as long as it lasts; tells what became of each: a status,
    `reset` or `hang`."""
    found: list[str] = []
    connection = http.client.HTTPConnection(address, port, timeout=DEADLINE_SECONDS)
    for _ in range(count):
        try:
            connection.request("GET", "/healthz", headers={"X-Api-Key": key})
            response = connection.getresponse()
            response.read()
            found.append(str(response.status))
        except (ConnectionError, http.client.BadStatusLine):
            found.append("reset")
            connection.close()
        except TimeoutError:
            found.append("hang")
            connection.close()
        time.sleep(pause_seconds)
    connection.close()
    tell(found)


def proxy(tell: Tell, home: int, path: str, configuration: str) -> None:
    """HAProxy in place of this process; `reach` says when it listens."""
    tell("starting")
    os.execv(path, [path, "-db", "-q", "-f", configuration])


def reach(tell: Tell, home: int, address: str, port: int) -> None:
    """Until something listens there."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            tell("reached")
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens at {address} port {port}")
        time.sleep(0.02)


def relay(tell: Tell, home: int, ports: list[int]) -> None:
    """Ports of this namespace's loopback to the same ports of the machine's: the way to the collector and to the API
    server, which listen there."""
    listeners = [socket.create_server(("127.0.0.1", port)) for port in ports]
    os.setns(home, os.CLONE_NEWNET)
    tell("listening")
    threads = [threading.Thread(target=_accept, args=pair) for pair in zip(listeners, ports, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _accept(listener: socket.socket, port: int) -> None:
    while True:
        inside, _ = listener.accept()
        outside = socket.create_connection(("127.0.0.1", port))
        for one, other in ((inside, outside), (outside, inside)):
            threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, destination: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            destination.sendall(data)
    for one in (source, destination):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


PROGRAMS: dict[str, Callable[..., None]] = {
    "serve": serve,
    "call": call,
    "attempt": attempt,
    "proxy": proxy,
    "reach": reach,
    "relay": relay,
}

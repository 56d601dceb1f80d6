"""Demo service: orders, over Python's http.server. It asks for a bearer token but not whose order it is: any customer
may read any order.

Prints one JSON line with its port. No figure in it is real.
"""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ORDER_PATH = re.compile(r"/api/v1/orders/(\d+)\Z")
FIRST_ORDER = 100_001
BODY_BYTES_MAX = 65_536
CITIES = ("Lyon", "Gent", "Turin", "Porto", "Graz")


class OrdersHandler(BaseHTTPRequestHandler):
    """GET /healthz; GET and POST /api/v1/orders; GET /api/v1/orders/{number}."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self._answer(200, {"status": "ok"})
        elif not self.headers.get("Authorization", "").startswith("Bearer "):
            self._answer(401, {"error": "a bearer token is needed"})
        elif path == "/api/v1/orders":
            self._answer(200, {"items": [describe_order(FIRST_ORDER + index) for index in range(10)]})
        elif match := ORDER_PATH.match(path):
            number = int(match[1])
            self._answer(200, describe_order(number)) if number >= FIRST_ORDER else self._answer(
                404, {"error": "no such order"}
            )
        else:
            self._answer(404, {"error": "no such page"})

    def do_POST(self) -> None:
        length = min(int(self.headers.get("Content-Length") or 0), BODY_BYTES_MAX)
        self.rfile.read(length)
        if self.path != "/api/v1/orders":
            self._answer(404, {"error": "no such page"})
        elif not self.headers.get("Authorization", "").startswith("Bearer "):
            self._answer(401, {"error": "a bearer token is needed"})
        else:
            self._answer(201, describe_order(FIRST_ORDER))

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the terminal belongs to the live table."""


def describe_order(number: int) -> dict[str, Any]:
    """A made-up order, always the same for one number."""
    lines = [
        {"product": 1_000 + (number * 7 + index) % 60, "count": 1 + (number + index) % 3}
        for index in range(1 + number % 4)
    ]
    return {"number": number, "city": CITIES[number % len(CITIES)], "lines": lines, "total": 5 + number % 240}


class OrdersServer(ThreadingHTTPServer):
    """Threads end with the process."""

    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    server = OrdersServer(("127.0.0.1", 0), OrdersHandler)
    print(json.dumps({"event": "ready", "port": server.server_port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

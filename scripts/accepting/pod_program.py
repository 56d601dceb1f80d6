"""What the Pods of an acceptance run: servers, a proxy, clients that count what they called. Runs alone, from a
ConfigMap, on the Python of either image: `python program.py NAME ARGUMENTS-AS-JSON`.

A client writes one JSON line at its end: {"counted": {"WORKLOAD:PORT METHOD TEMPLATE STATUS": calls}}, where a template
has `{}` for what varies. What a server answers follows from the number that ends the path: 404 if that ends in 7, 500
if it ends in 9, else 200.
"""

import ctypes
import http.client
import json
import os
import platform
import re
import socket
import socketserver
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STARTED = time.time()
TIMEOUT_SECONDS = 10.0
READY_SECONDS = 90.0
# Calls that met no response: the connection was reset or closed, and the address did not answer.
RESET = "reset"
_HELD = re.compile(r"^(link|prog|map)_id:\s*(\d+)$", re.MULTILINE)
# enum bpf_cmd: BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID; and the call's number by machine.
_GET_NEXT_ID = {"prog": 11, "map": 12, "link": 31}
_BPF_CALL = {"x86_64": 321, "aarch64": 280}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # A response in one segment.

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        """Any path."""
        number = int(self.path.rpartition("/")[2]) if self.path[-1].isdigit() else 0
        self.answer({7: 404, 9: 500}.get(number % 10, 200), json.dumps({"id": number, "status": "shipped"}).encode())

    def do_POST(self) -> None:
        """Something is made."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.answer(201, b'{"id": 1}')

    def answer(self, status: int, body: bytes) -> None:
        """JSON."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to report."""


def serve(port: int) -> None:
    """Answers until it is ended."""
    _Server(("", port), _Handler).serve_forever()


def make_hop(to: str) -> type[_Handler]:
    """What answers as HOST:PORT does, to which it passes the client's address behind what X-Forwarded-For has."""

    class Hop(_Handler):
        def setup(self) -> None:
            super().setup()
            self.behind = http.client.HTTPConnection(to, timeout=TIMEOUT_SECONDS)

        def finish(self) -> None:
            self.behind.close()
            super().finish()

        def do_GET(self) -> None:
            before = self.headers.get("X-Forwarded-For", "")
            forwarded = ", ".join(one for one in (before, self.client_address[0]) if one)
            self.behind.request("GET", self.path, headers={"Host": self.headers["Host"], "X-Forwarded-For": forwarded})
            response = self.behind.getresponse()
            self.answer(response.status, response.read())

    return Hop


def proxy(port: int, to: str) -> None:
    """A proxy before HOST:PORT."""
    _Server(("", port), make_hop(to)).serve_forever()


def wait_for_server(address: str) -> None:
    """Until something listens at HOST:PORT; nothing is sent."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def count_calls(targets: list[dict[str, Any]], pause_seconds: float = 0.0) -> Counter[str]:
    """Calls of all targets, one target after the other, each over one connection."""
    counted: Counter[str] = Counter()
    for target in targets:
        wait_for_server(target["address"])
        connection = http.client.HTTPConnection(target["address"], timeout=TIMEOUT_SECONDS)
        method, template = target.get("method", "GET"), target["template"]
        for number in range(target.get("first", 1), target.get("first", 1) + target["count"]):
            status = make_call(connection, method, template.replace("{}", str(number)), target.get("host", ""))
            counted[f"{target['workload']} {method} {template} {status}"] += 1
            time.sleep(pause_seconds)
        connection.close()
    return counted


def make_call(connection: http.client.HTTPConnection, method: str, path: str, host: str = "") -> str:
    """The status, or `reset`; the connection may be used again."""
    headers = {"User-Agent": "acceptance/1", **({"Host": host} if host else {})}
    try:
        connection.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)
        response = connection.getresponse()
        response.read()
        return str(response.status)
    except (OSError, http.client.HTTPException):
        connection.close()
        return RESET


def call(targets: list[dict[str, Any]], pause_seconds: float = 0.0) -> None:
    """All of them; then says what it counted."""
    report(counted=count_calls(targets, pause_seconds))


def report(**said: Any) -> None:
    """One line of JSON, which a later `kubectl logs` finds. Threads write it at once."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def serve_rpc(port: int) -> None:
    """gRPC: /shop.Orders/Get is NOT_FOUND for numbers that end in 7, /shop.Orders/Watch streams three messages."""
    import grpc

    def get(request: bytes, context: Any) -> bytes:
        if request.endswith(b"7"):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        return request

    def watch(request: bytes, context: Any) -> Any:
        return iter((request, request, request))

    methods = {
        "Get": grpc.unary_unary_rpc_method_handler(get),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", methods),))
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    server.wait_for_termination()


def call_rpc(address: str, workload: str, gets: int, watches: int) -> None:
    """Both methods."""
    import grpc

    wait_for_server(address)
    counted: Counter[str] = Counter()
    with grpc.insecure_channel(address) as channel:
        get = channel.unary_unary("/shop.Orders/Get", None, None)
        watch = channel.unary_stream("/shop.Orders/Watch", None, None)
        for number in range(1, gets + 1):
            status = "OK"
            try:
                get(str(number).encode(), timeout=TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                status = error.code().name
            counted[f"{workload} POST /shop.Orders/Get {status}"] += 1
        for _ in range(watches):
            list(watch(b"1", timeout=TIMEOUT_SECONDS))
            counted[f"{workload} POST /shop.Orders/Watch OK"] += 1
    report(counted=counted)


class Visitor(socketserver.StreamRequestHandler):
    """Calls whoever asks for it by a line `HOST:PORT NAME COUNT` (not HTTP, so that no call is counted for that)."""

    def handle(self) -> None:
        """One line, its calls, and the answer when they were made."""
        address, name, count = self.rfile.readline().decode().split()
        target = {"address": address, "workload": f"{name}:8080", "template": "/api/v1/items/{}", "count": int(count)}
        wait_for_server(address)
        called_at = time.time()
        report(name=name, called_at=called_at, counted=count_calls([target]))
        self.wfile.write(b"done\n")


class _VisitorServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def visit(port: int) -> None:
    """Visits until it is ended."""
    _VisitorServer(("", port), Visitor).serve_forever()


def churn(name: str, address: str, visitor: str, target: dict[str, Any], count: int, linger_seconds: float) -> None:
    """Serves `count` calls of the visitor, makes as many itself, and ends soon after."""
    server = _Server(("", 8080), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wait_for_server(visitor)
    host, _, port = visitor.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=READY_SECONDS) as connection:
        connection.sendall(f"{address}:8080 {name} {count}\n".encode())
        connection.recv(16)
    report(started=STARTED, counted=count_calls([{**target, "count": count}]))
    time.sleep(linger_seconds)


def stream(address: str, template: str, calls_per_second: float, seconds: float, first: int = 1) -> None:
    """Calls at a rate, with a line each second: how many of its calls had a response, how many were reset."""
    wait_for_server(address)
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
    number, end, next_line = first, time.time() + seconds, time.time() + 1
    counted: Counter[str] = Counter()
    while (now := time.time()) < end:
        status = make_call(connection, "GET", template.replace("{}", str(number)))
        counted["reset" if status == RESET else "answered"] += 1
        number += 1
        if now >= next_line:
            report(at=now, **counted)
            counted.clear()
            next_line = now + 1
        time.sleep(1 / calls_per_second)
    connection.close()
    report(at=time.time(), **counted)


def list_objects(pod_uids: list[str]) -> None:
    """BPF objects that processes of these Pods hold on this node: nothing is opened for it."""
    found: set[tuple[str, int]] = set()
    names = {form for uid in pod_uids for form in (uid, uid.replace("-", "_"))}
    for process in Path("/proc").iterdir():
        try:
            cgroups = (process / "cgroup").read_text() if process.name.isdigit() else ""
            if any(name in cgroups for name in names):
                for path in (process / "fdinfo").iterdir():
                    found |= {(kind, int(number)) for kind, number in _HELD.findall(path.read_text())}
        except OSError:
            continue
    report(objects=sorted(found))


def list_left(objects: list[list[Any]]) -> None:
    """Those of the objects that are still in the kernel."""
    report(left=[[kind, number] for kind, number in objects if _find_next(kind, number - 1) == number])


def _find_next(kind: str, number: int) -> int:
    """The lowest id above `number` that an object of this kind has; 0 where none has."""
    attributes = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 12)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_BPF_CALL[platform.machine()], _GET_NEXT_ID[kind], attributes, 12):
        return 0
    return int(struct.unpack_from("<I", attributes.raw, 4)[0])


PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program
    for program in (serve, proxy, call, serve_rpc, call_rpc, visit, churn, stream, list_objects, list_left)
}

if __name__ == "__main__":
    given = os.path.expandvars(sys.argv[2])  # The Pod's own address is a variable.
    PROGRAMS[sys.argv[1]](**json.loads(given))

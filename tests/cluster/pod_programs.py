"""Cgroup v2 directories named as a kubelet and its runtimes name them, and programs started in them. Needs root."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# A server that answers every path with 200 until it is killed, and says its port; CERTIFICATE KEY: over TLS.
SERVER = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if sys.argv[1:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
# A client: PORT AGENT PATH...; one connection.
CLIENT = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for path in sys.argv[3:]:
    connection.request("GET", path, headers={"User-Agent": sys.argv[2]})
    response = connection.getresponse()
    assert response.status == 200 and response.read() == b"{}"
"""


# A sidecar: PORT; passes each connection on to it, and says its own port.
PROXY = """
import socket, sys, threading
def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    client, _ = server.accept()
    behind = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    for pair in ((client, behind), (behind, client)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""


class Cgroups:
    """A subtree below a cgroup, removed at the end with all that runs in it."""

    def __init__(self, above: Path) -> None:
        self.root = above / "apidae-test.slice"
        self.root.mkdir(exist_ok=True)  # A run that was killed may have left it.
        self._started: list[subprocess.Popen[str]] = []

    def make(self, path: str) -> Path:
        """The cgroup `path` of the node that the subtree stands for."""
        directory = self.root / path.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def start(self, path: str, code: str, *arguments: str) -> "subprocess.Popen[str]":
        """A Python program that is in the cgroup before its first instruction."""
        command = f'echo $$ > {self.make(path)}/cgroup.procs && exec "$@"'
        program = ["sh", "-c", command, "sh", sys.executable, "-S", "-c", code, *arguments]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        self._started.append(process)
        return process

    def serve(self, path: str, *, tls: Sequence[str] = ()) -> "tuple[subprocess.Popen[str], int]":
        """A server in the cgroup, over TLS with the files of a certificate and its key, and its port."""
        server = self.start(path, SERVER, *tls)
        assert server.stdout is not None
        return server, int(server.stdout.readline())

    def serve_proxy(self, path: str, port: int) -> int:
        """A sidecar in the cgroup that passes on to a port, and its own port."""
        proxy = self.start(path, PROXY, str(port))
        assert proxy.stdout is not None
        return int(proxy.stdout.readline())

    def call(self, path: str, port: int, agent: str, paths: Sequence[str]) -> None:
        """Calls by a client in the cgroup, each answered."""
        client = self.start(path, CLIENT, str(port), agent, *paths)
        assert client.wait(20) == 0

    def remove(self, path: str) -> None:
        """Ends what runs in a cgroup, and removes it as its runtime would, its parent too where that is empty."""
        directory = self.root / path.lstrip("/")
        (directory / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + 5.0
        while "populated 1" in (directory / "cgroup.events").read_text() and time.monotonic() < deadline:
            time.sleep(0.002)
        directory.rmdir()
        with contextlib.suppress(OSError):
            directory.parent.rmdir()

    def close(self) -> None:
        """Removes the subtree."""
        (self.root / "cgroup.kill").write_text("1")
        for process in self._started:
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        deadline = time.monotonic() + 5.0
        while self.root.exists() and time.monotonic() < deadline:
            for directory in sorted((one for one in self.root.rglob("*") if one.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    directory.rmdir()
            with contextlib.suppress(OSError):
                self.root.rmdir()
            time.sleep(0.01)

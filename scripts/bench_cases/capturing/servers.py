"""Servers of the rounds: nginx answering a constant or a file, and a Go program answering JSON."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from scripts.bench_cases.capturing.loads import GRPC_MODULE, UnavailableError
from scripts.demo.nginx import Nginx
from scripts.ports import take_port

FILE_BYTES = 100_000
_CONSTANT = "        default_type application/json;\n        location / { return 200 '{\"ok\": true}'; }"
_FILE = "        root {root};\n        sendfile on;\n        location / {{ }}"
_GO = """package main

import (
	"encoding/json"
	"net/http"
	"os"
	"runtime"
)

type order struct {
	ID    string   `json:"id"`
	State string   `json:"state"`
	Lines []string `json:"lines"`
	Total float64  `json:"total"`
}

func main() {
	runtime.GOMAXPROCS(1)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(order{r.URL.Path, "paid", []string{"a", "b", "c"}, 12.5})
	})
	panic(http.ListenAndServe(os.Args[1], nil))
}
"""
_READY_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    port: int
    pid: int


OpenServer = Callable[[Path], AbstractContextManager[Server]]


@contextlib.contextmanager
def run_constant(directory: Path) -> Iterator[Server]:
    """nginx answering a constant."""
    with _run_nginx(directory, _CONSTANT) as server:
        yield server


@contextlib.contextmanager
def run_http2(directory: Path) -> Iterator[Server]:
    """nginx answering a constant, over HTTP/2 in the clear too."""
    with _run_nginx(directory, "        http2 on;\n" + _CONSTANT) as server:
        yield server


@contextlib.contextmanager
def run_grpc(directory: Path) -> Iterator[Server]:
    """A gRPC service of grpcio that echoes."""
    port = take_port()
    process = subprocess.Popen([sys.executable, "-m", GRPC_MODULE, "serve", str(port)])
    try:
        _wait_listening(port)
        yield Server(port=port, pid=process.pid)
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def run_file(directory: Path) -> Iterator[Server]:
    """nginx answering /file by sendfile."""
    root = directory / "root"
    root.mkdir(parents=True)
    (root / "file").write_bytes(os.urandom(FILE_BYTES))
    with _run_nginx(directory, _FILE.format(root=root.resolve())) as server:
        yield server


@contextlib.contextmanager
def _run_nginx(directory: Path, configuration: str) -> Iterator[Server]:
    nginx = Nginx(directory, configuration)
    try:
        yield Server(port=nginx.port, pid=nginx.process.pid)
    finally:
        nginx.stop()


@contextlib.contextmanager
def run_go(directory: Path) -> Iterator[Server]:
    """A Go server of one processor that encodes a small object for each call. Raises UnavailableError."""
    go = shutil.which("go")
    if go is None:
        raise UnavailableError("go is not installed: apt-get install golang-go")
    directory.mkdir(parents=True, exist_ok=True)
    source, program = directory / "server.go", directory / "server"
    source.write_text(_GO)
    built = subprocess.run([go, "build", "-o", program, source], capture_output=True, text=True, check=False)
    if built.returncode:
        raise UnavailableError(f"go build failed: {built.stderr.strip()[-200:]}")
    port = take_port()
    process = subprocess.Popen([program, f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield Server(port=port, pid=process.pid)
    finally:
        process.terminate()
        process.wait(_READY_SECONDS)


def _wait_listening(port: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise UnavailableError(f"nothing listens on port {port} after {_READY_SECONDS:.0f} s")

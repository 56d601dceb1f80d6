"""A ClickHouse server as far as its HTTP interface goes: the embedded engine in a process of its own behind the
protocol that a server speaks, so that the store's way over HTTP is tested without one.

It takes what clickhouse-connect sends: statements in the body or in `query`, parameters in the URL or a form, settings
in the URL, Native inserts compressed by lz4 or zstd, basic authentication; it answers results, or an error with its
code. Run as a program it prints its port, and ends when its standard input does.
"""

import base64
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

USER, PASSWORD = "apidae", "p:w/d%"
# Of the protocol; every other name in the URL is a setting of the engine.
_PROTOCOL_NAMES = re.compile(
    r"param_.*|query|database|default_format|session_.*|query_id|enable_http_compression|compress|http_.*"
    r"|client_protocol_version|wait_end_of_query|send_progress_in_http_headers|buffer_size|role"
)
# One line break: what follows it are rows, which may begin with bytes that are blanks, as 10 rows of 9 columns do.
_INSERT = re.compile(rb"\s*(INSERT INTO .*?) FORMAT (\w+) *\n", re.DOTALL)
_FORMAT = re.compile(r"\sFORMAT\s+(\w+)\s*;?\s*\Z")


class Engine:
    """One statement at a time."""

    def __init__(self, directory: Path) -> None:
        import chdb

        self._connection = chdb.connect(str(directory))
        self._lock = threading.Lock()
        self._directory = directory
        self._numbers = itertools.count()

    def run(self, body: bytes, fields: dict[str, str]) -> tuple[bytes, str]:
        """The result and its format. Raises RuntimeError with the engine's text."""
        parameters = {name.removeprefix("param_"): text for name, text in fields.items() if name.startswith("param_")}
        settings = {name: text for name, text in fields.items() if not _PROTOCOL_NAMES.fullmatch(name)}
        statement = fields.get("query", "").encode() + b"\n" if "query" in fields else b""
        with self._lock, self._set(settings):
            if insert := _INSERT.match(statement + body):
                return self._insert(insert[1].decode(), insert[2].decode(), (statement + body)[insert.end() :]), ""
            sql = (statement + body).decode()
            named = _FORMAT.search(sql)
            form = named[1] if named else fields.get("default_format", "TabSeparated")
            return self._ask(sql, form, parameters), form

    def _insert(self, statement: str, form: str, rows: bytes) -> bytes:
        path = self._directory / f"insert-{next(self._numbers)}"
        path.write_bytes(rows)
        try:
            return self._ask(f"{statement} FROM INFILE '{path}' FORMAT {form}", "TabSeparated", {})
        finally:
            path.unlink()

    @contextmanager
    def _set(self, settings: dict[str, str]) -> Iterator[None]:
        try:
            for name, text in settings.items():
                quoted = text.replace("\\", "\\\\").replace("'", "\\'")
                self._ask(f"SET {name} = '{quoted}'", "TabSeparated", {})
            yield
        finally:
            for name in settings:
                self._ask(f"SET {name} = DEFAULT", "TabSeparated", {})

    def _ask(self, sql: str, form: str, parameters: dict[str, str]) -> bytes:
        return bytes(self._connection.query(sql, form, params=parameters).bytes() or b"")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    engine: Engine

    def do_GET(self) -> None:
        if self.path == "/ping":
            self._answer(200, b"Ok.\n", {})
        else:
            self.do_POST()

    def do_POST(self) -> None:
        try:
            body = self._read_body()
        except (EOFError, ValueError):  # The client went away, and asked for nothing then.
            self.close_connection = True
            return
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {token}":
            text = b"Code: 516. DB::Exception: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"
            self._answer(403, text, {"X-ClickHouse-Exception-Code": "516"})
            return
        fields = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if self.headers.get_content_type() == "multipart/form-data":
            fields |= self._read_form(body)
            body = b""
        try:
            result, form = self.engine.run(body, fields)
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            self._answer(500, str(error).encode(), {"X-ClickHouse-Exception-Code": code[1] if code else "1002"})
            return
        self._answer(200, result, {"X-ClickHouse-Format": form} if result else {})

    def _read_body(self) -> bytes:
        """Raises EOFError and ValueError where it ends too early."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self._read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(chunks)
        else:
            body = self._read(int(self.headers.get("Content-Length", 0)))
        match self.headers.get("Content-Encoding"):
            case "lz4":
                import lz4.frame

                return bytes(lz4.frame.decompress(body))
            case "zstd":
                from backports import zstd

                return bytes(zstd.decompress(body))
            case None:
                return body
            case other:
                raise AssertionError(f"this server does not decompress {other}")

    def _read(self, size: int) -> bytes:
        part = self.rfile.read(size)
        if len(part) < size:
            raise EOFError
        return part

    def _read_form(self, body: bytes) -> dict[str, str]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        fields = {}
        for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
            name = part.get_param("name", header="content-disposition")
            fields[str(name)] = part.get_payload(decode=True).decode()
        return fields

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        fixed = {
            "Content-Length": str(len(body)),
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": json.dumps({}),
        }
        for name, value in {**fixed, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed are no fault."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class RunningServer:
    """The server as a program: chdb has one engine a process, and the tests' own process has one already."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.collector.storage.http_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        with self.process:
            self.process.communicate(timeout=60)
        assert self.process.returncode == 0


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Handler.engine = Engine(Path(directory))
        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        print(server.server_port, flush=True)
        sys.stdin.read()
        server.shutdown()
        server.server_close()
    # The engine may crash or hang in an interpreter that ends, and nobody needs its data any more.
    os._exit(0)


if __name__ == "__main__":
    main()

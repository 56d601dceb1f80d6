"""The test application over a shared OpenSSL, called as a C program would; see tests/e2e/application.py for what it
answers. The process has no other library of TLS.

Arguments: LIBCRYPTO LIBSSL WAY ADDRESS CERTIFICATE KEY. WAY: `descriptor`, the library has the socket; `extended`, the
same by SSL_read_ex and SSL_write_ex; `memory`, it never sees one; `peek`, it looks at what it then reads in pieces;
`blocked`, its socket takes little at once, so that a write of its large answers is tried again and again; `partial`,
the same, and it goes on with what was not taken.
"""

import contextlib
import ctypes
import json
import select
import socket
import sys
import threading

LIBCRYPTO, LIBSSL, WAY, ADDRESS, CERTIFICATE, KEY = sys.argv[1:]
WANTS_TO_READ = 2  # SSL_ERROR_WANT_READ
PEM = 1
RECORD_BYTES = 1 << 14
PIECE_BYTES = 40
WANTS = {2: "read", 3: "write"}  # SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE
IS_BLOCKED = WAY in ("blocked", "partial")
BUFFER_BYTES = 4_608  # As few as Linux gives.
LARGE_BYTES = 60_000
MODES = 33, 1 | 2  # SSL_CTRL_MODE: SSL_MODE_ENABLE_PARTIAL_WRITE, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER

crypto = ctypes.CDLL(LIBCRYPTO)
library = ctypes.CDLL(LIBSSL)
for name in ("TLS_server_method", "SSL_CTX_new", "SSL_new"):
    getattr(library, name).restype = ctypes.c_void_p
for name in ("BIO_s_mem", "BIO_new"):
    getattr(crypto, name).restype = ctypes.c_void_p


def make_context() -> ctypes.c_void_p:
    context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_server_method())))
    assert library.SSL_CTX_use_certificate_chain_file(context, CERTIFICATE.encode()) == 1
    assert library.SSL_CTX_use_PrivateKey_file(context, KEY.encode(), PEM) == 1
    return context


class Connection:
    """The server's end of one."""

    def __init__(self, context: ctypes.c_void_p, taken: socket.socket) -> None:
        self._socket = taken
        self._session = ctypes.c_void_p(library.SSL_new(context))
        self._received = b""
        if WAY == "memory":
            self._in, self._out = (ctypes.c_void_p(crypto.BIO_new(ctypes.c_void_p(crypto.BIO_s_mem()))) for _ in "io")
            library.SSL_set_bio(self._session, self._in, self._out)
            return
        library.SSL_set_fd(self._session, taken.fileno())
        if IS_BLOCKED:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            taken.setblocking(False)
        if WAY == "partial":
            library.SSL_ctrl(self._session, MODES[0], ctypes.c_long(MODES[1]), None)

    def _call(self, function, *arguments) -> int:  # type: ignore[no-untyped-def]
        """What it returns; in memory, what it wants to be received and sent is."""
        while True:
            returned = int(function(self._session, *arguments))
            if IS_BLOCKED and returned <= 0 and (wants := WANTS.get(library.SSL_get_error(self._session, returned))):
                select.select([self._socket] * (wants == "read"), [self._socket] * (wants == "write"), [])
                continue
            wants_more = returned <= 0 and library.SSL_get_error(self._session, returned) == WANTS_TO_READ
            if WAY != "memory":
                return returned
            sent = ctypes.create_string_buffer(2 * RECORD_BYTES)
            while (size := crypto.BIO_read(self._out, sent, len(sent))) > 0:
                self._socket.sendall(sent.raw[:size])
            if not wants_more:
                return returned
            data = self._socket.recv(RECORD_BYTES)
            if not data:
                return 0
            crypto.BIO_write(self._in, data, len(data))

    def accept(self) -> None:
        self._call(library.SSL_accept)

    def read(self) -> bytes:
        """Some; empty at the end."""
        memory, moved = ctypes.create_string_buffer(RECORD_BYTES), ctypes.c_size_t()
        if WAY == "extended":
            self._call(library.SSL_read_ex, memory, ctypes.c_size_t(len(memory)), ctypes.byref(moved))
        elif WAY == "peek":
            seen, looked = ctypes.create_string_buffer(RECORD_BYTES), ctypes.c_size_t()
            size = self._call(library.SSL_peek, seen, len(seen))
            self._call(library.SSL_peek_ex, seen, ctypes.c_size_t(len(seen)), ctypes.byref(looked))
            assert looked.value == max(size, 0)
            moved.value = max(self._call(library.SSL_read, memory, PIECE_BYTES), 0)
            assert memory.raw[: moved.value] == seen.raw[: min(size, PIECE_BYTES)]
        else:
            moved.value = max(self._call(library.SSL_read, memory, len(memory)), 0)
        return memory.raw[: moved.value]

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            data = self.read()
            if not data:
                return b""
            self._received += data
        head, _, self._received = self._received.partition(mark)
        return head

    def read_exactly(self, size: int) -> None:
        while len(self._received) < size and (data := self.read()):
            self._received += data
        self._received = self._received[size:]

    def write(self, data: bytes) -> None:
        if WAY == "extended":
            self._call(library.SSL_write_ex, data, ctypes.c_size_t(len(data)), ctypes.byref(ctypes.c_size_t()))
        else:
            while data and (size := self._call(library.SSL_write, data, len(data))) > 0:
                data = data[size:]

    def close(self) -> None:
        self._call(library.SSL_shutdown)
        library.SSL_free(self._session)
        self._socket.close()


ANSWER = json.dumps({"state": "x" * LARGE_BYTES if IS_BLOCKED else "sent"}).encode()


def answer(method: str, path: str) -> tuple[int, bytes]:
    if path == "/orders" and method == "POST":
        return 201, b'{"number": 1}'
    if path.startswith("/orders/"):
        return (204, b"") if method == "DELETE" else (200, ANSWER)
    return (304, b"") if path.startswith("/users/") else (404, b"{}")


def serve(connection: Connection) -> None:
    with contextlib.suppress(OSError):
        connection.accept()
        while head := connection.read_until(b"\r\n\r\n").decode():
            line, _, rest = head.partition("\r\n")
            method, target, _ = line.split(" ")
            names = dict(field.lower().split(": ", 1) for field in rest.split("\r\n") if field)
            connection.read_exactly(int(names.get("content-length", "0")))
            status, body = answer(method, target.partition("?")[0])
            length = "" if status in (204, 304) else f"Content-Length: {len(body)}\r\n"
            told = f"HTTP/1.1 {status} Done\r\nContent-Type: application/json\r\n{length}\r\n".encode()
            connection.write(told + (body if method != "HEAD" else b""))
    connection.close()


context = make_context()
listener = socket.create_server((ADDRESS, 0), family=socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET, backlog=128)
print(json.dumps({"event": "ready", "port": listener.getsockname()[1]}), flush=True)
while True:
    taken, _ = listener.accept()
    taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=serve, args=(Connection(context, taken),), daemon=True).start()

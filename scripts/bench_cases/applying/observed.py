"""What was really called, from a packet capture of the application's port by tshark: no code of Apidae's is in it."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CAPTURE_BYTES = 65_535


@dataclass(frozen=True, slots=True)
class ObservedCall:
    """One request with its response."""

    method: str
    path: str  # Without the query.
    status: int  # 0: no response was seen.


class TsharkMissingError(Exception):
    """tshark is not installed."""


@contextlib.contextmanager
def record_packets(port: int, file: Path) -> Iterator[None]:
    """Writes all packets of loopback's `port` to `file`. Raises TsharkMissingError."""
    if shutil.which("dumpcap") is None or shutil.which("tshark") is None:
        raise TsharkMissingError("the calls are compared with a packet capture: apt-get install tshark")
    command = [
        "dumpcap",
        "-q",
        "-i",
        "lo",
        "-f",
        f"tcp port {port}",
        "-s",
        str(CAPTURE_BYTES),
        "-B",
        "64",
        "-w",
        str(file),
    ]
    process = subprocess.Popen([*command, "-w", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith(b"File:"):
                break
        else:
            raise TsharkMissingError("dumpcap did not start: run this as root")
        yield
        time.sleep(1.0)  # dumpcap takes packets from the kernel every second at the latest.
    finally:
        process.terminate()
        process.wait()


# tshark reports requests of methods that it does not know as data (MKCALENDAR: RFC 4791). Their head begins a segment.
_UNKNOWN_METHODS = "^(MKCALENDAR|MKADDRESSBOOK|QUERY) "
_HEADERS = "1"  # RFC 9113 section 6.2.


def read_calls(file: Path, port: int) -> list[ObservedCall]:
    """All HTTP/1 and HTTP/2 calls of a capture; those of a connection in the order of their requests."""
    fields = ("tcp.stream", "http.request.method", "http.request.uri", "http.response.code", "tcp.payload")
    is_unknown = f'tcp.dstport == {port} and tcp.payload matches "{_UNKNOWN_METHODS}"'
    requests: dict[str, list[tuple[str, str]]] = {}
    statuses: dict[str, list[int]] = {}
    for stream, method, uri, code, payload in _list_rows(
        file, port, f"http.request or http.response or ({is_unknown})", fields
    ):
        if code:
            if not code.startswith("1") or code == "101":
                statuses.setdefault(stream, []).append(int(code))
        elif method:
            requests.setdefault(stream, []).append((method, uri))
        else:
            own_method, own_uri, _ = bytes.fromhex(payload).decode("latin-1").split(" ", 2)
            requests.setdefault(stream, []).append((own_method, own_uri))
    calls = []
    for stream, asked in requests.items():
        answers = statuses.get(stream, [])
        for number, (method, uri) in enumerate(asked):
            calls.append(ObservedCall(method, strip_query(uri), answers[number] if number < len(answers) else 0))
    return calls + _read_http2(file, port)


def _read_http2(file: Path, port: int) -> list[ObservedCall]:
    names = ("http2.headers.method", "http2.headers.path", "http2.headers.status")
    fields = ("tcp.stream", "http2.type", "http2.streamid", *names)
    requests: dict[tuple[str, str], tuple[str, str]] = {}
    statuses: dict[tuple[str, str], int] = {}
    for stream, types, ids, methods, paths, codes in _list_rows(file, port, "http2.headers", fields):
        frames = zip(types.split(","), ids.split(","), strict=False)
        # A packet may have frames of several streams; trailers are a second HEADERS frame without a status.
        numbers = list(dict.fromkeys(number for kind, number in frames if kind == _HEADERS))
        if methods:
            asked = zip(methods.split(","), paths.split(","), strict=False)
            requests |= {(stream, number): one for number, one in zip(numbers, asked, strict=False)}
        elif codes:
            answers = zip(numbers, codes.split(","), strict=False)
            statuses |= {(stream, number): int(code) for number, code in answers}
    return [ObservedCall(method, strip_query(path), statuses.get(key, 0)) for key, (method, path) in requests.items()]


def _list_rows(file: Path, port: int, wanted: str, fields: tuple[str, ...]) -> list[list[str]]:
    command = [
        "tshark",
        "-r",
        str(file),
        "-d",
        f"tcp.port=={port},http",
        "-Y",
        wanted,
        "-T",
        "fields",
        "-E",
        "separator=/t",
    ]
    output = subprocess.run(
        [*command, *(part for field in fields for part in ("-e", field))], check=True, capture_output=True, text=True
    ).stdout
    return [line.split("\t") for line in output.splitlines() if line]


def strip_query(uri: str) -> str:
    """The path of a request's target, absolute or not."""
    if "://" in uri.split("?")[0]:
        uri = "/" + uri.split("://", 1)[1].partition("/")[2]
    return uri.split("?")[0].split("#")[0]

"""Reads HAR files (HTTP Archive 1.2), which browsers and proxies write, as exchanges. An edge: it reads files.

An entry is a call that its client saw, decoded. So the heads are written anew in the grammar of HTTP/1.1, whatever
version the call had. Servers have the names of their URLs, and clients have no address. Source: the draft of
w3c.github.io/web-performance/specs/HAR.

Browsers leave credentials out unless they are asked for them. Then every endpoint would seem to need none, so the
account says it.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from common.capture_report import UnreadPart
from sensor.capture.files.capture_file import CaptureFileError
from sensor.core.calls import CallFigures, Ends, Exchange, RawBodies, Role
from sensor.http.http1.head import shorten_head

HAR_BYTES_MAX: Final = 512 << 20  # It is read as a whole, and takes some times as much memory.
BODY_BYTES_MAX: Final = 65_536  # Of a side, as sensors keep.
SENT_BYTES_MAX: Final = 1 << 50  # Bytes: what a file says may be any number.
SPAN_MS_MAX: Final = 86_400_000  # The same.
RESPONSE_HEAD_BYTES: Final = 1_024
_PORTS: Final = {"http": 80, "https": 443}
_MS: Final = 1_000_000
_EARLIEST, _LATEST = 86_400_000, 4_000_000_000  # Unix seconds that can be shown and stored.
# Of the bytes on the wire: a HAR file has the body behind them.
_FRAMING: Final = frozenset(("content-length", "content-encoding", "transfer-encoding"))
_CREDENTIALS: Final = frozenset(("authorization", "cookie"))
_REASONS: Final = {
    "entry": "They lack a part that the format demands.",
    "scheme": "Their URLs have another scheme than http and https.",
    "time": "They have no time.",
}


class _Pair(msgspec.Struct, frozen=True):
    name: str
    value: str


class _Text(msgspec.Struct, frozen=True):
    text: str = ""
    encoding: str = ""


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    method: str
    url: str
    headers: list[_Pair]
    post_data: _Text | None = None


class _Response(msgspec.Struct, frozen=True, rename="camel"):
    status: int
    headers: list[_Pair]
    content: _Text = _Text()
    body_size: float = -1


class _Timings(msgspec.Struct, frozen=True):
    send: float = 0
    wait: float = 0
    receive: float = 0


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    started_date_time: str
    request: _Request
    response: _Response
    timings: _Timings = _Timings()


class _Log(msgspec.Struct, frozen=True):
    entries: list[msgspec.Raw]


class _Har(msgspec.Struct, frozen=True):
    log: _Log


def is_har(path: Path) -> bool:
    """Whether a file begins as JSON does."""
    try:
        with path.open("rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    except OSError:
        return False


class HarFile:
    """One file, read as a whole. Raises CaptureFileError where it is no HAR file."""

    def __init__(self, path: Path) -> None:
        self.size_bytes = path.stat().st_size
        if self.size_bytes > HAR_BYTES_MAX:
            raise CaptureFileError(f"{path} has {self.size_bytes:,} bytes; a HAR file may have {HAR_BYTES_MAX:,}")
        try:
            self._entries = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_Har).log.entries
        except OSError as error:
            raise CaptureFileError(f"cannot read {path}: {error.strerror}; name a capture") from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise CaptureFileError(f"{path} is no HAR file: {error}; export it again") from error
        self._unread: Counter[str] = Counter()
        self._exchanges = 0
        self._has_credentials = False

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self._entries)

    @property
    def exchanges(self) -> int:
        """How many were read."""
        return self._exchanges

    def read(self) -> Iterator[tuple[int, Exchange]]:
        """Exchanges with the times of their ends (unix ns), in that order."""
        found = []
        for number, raw in enumerate(self._entries):
            try:
                entry = msgspec.json.decode(raw, type=_Entry)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._unread["entry"] += 1
                continue
            exchange = self._build(entry, number)
            if isinstance(exchange, str):
                self._unread[exchange] += 1
            else:
                found.append((exchange.figures.time_unix_ns + exchange.figures.duration_ns, exchange))
        self._exchanges = len(found)
        yield from sorted(found, key=lambda one: one[0])

    def list_unread(self) -> Iterator[UnreadPart]:
        """What is in no exchange."""
        for reason, count in sorted(self._unread.items()):
            yield UnreadPart(what=f"Entries without a call ({reason})", count=count, why=_REASONS[reason])
        why = (
            "No request has an Authorization or Cookie header. Browsers leave these out of a sanitised file: export it "
            "with sensitive data, or read nothing into missing authentication."
        )
        yield UnreadPart(what="Credentials", count=0 if self._has_credentials else self._exchanges, why=why)

    def _build(self, entry: _Entry, number: int) -> Exchange | str:
        request, response, timings = entry.request, entry.response, entry.timings
        try:
            url = urlsplit(request.url)
        except ValueError:  # Brackets without an address.
            return "scheme"
        if url.scheme not in _PORTS or not url.hostname:
            return "scheme"
        time_ns = _read_time(entry.started_date_time)
        if time_ns is None:
            return "time"
        names = {pair.name.lower() for pair in request.headers}
        self._has_credentials |= not _CREDENTIALS.isdisjoint(names)
        body, answer = _decode(request.post_data or _Text()), _decode(response.content)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        lines = [
            f"{request.method} {_quote(target)} HTTP/1.1",
            *([] if "host" in names else [f"Host: {_strip_user(url.netloc)}"]),
        ]
        head = _write_head(lines, request.headers, len(body))
        response_head = _write_head([f"HTTP/1.1 {response.status:03d} "], response.headers, len(answer))
        first_ns = _read_span(timings.send) + _read_span(timings.wait)
        is_aborted = not 100 <= response.status <= 599
        sent_bytes = min(response.body_size, SENT_BYTES_MAX) if response.body_size >= 0 else len(answer)
        shortened = shorten_head(head)
        return Exchange(
            Ends(
                connection=number + 1,
                role=Role.SERVER,
                cgroup_id=0,
                peer_cgroup_id=0,
                local_address=url.hostname,
                local_port=_read_port(url.netloc) or _PORTS[url.scheme],
                remote_address="",
                remote_port=0,
                is_encrypted=url.scheme == "https",
            ),
            CallFigures(
                time_unix_ns=time_ns,
                status_code=0 if is_aborted else response.status,
                request_bytes=len(head) + len(body),
                response_bytes=0 if is_aborted else len(response_head) + round(sent_bytes),
                time_to_first_byte_ns=0 if is_aborted else first_ns,
                duration_ns=first_ns + _read_span(timings.receive),
                calls=1,
                is_final=True,
                is_aborted=is_aborted,
                is_lossy=False,
            ),
            0,
            shortened,
            len(shortened) < len(head),
            b"" if is_aborted else response_head[:RESPONSE_HEAD_BYTES],
            bodies=RawBodies(
                body[:BODY_BYTES_MAX],
                answer[:BODY_BYTES_MAX],
                whole=(len(body) <= BODY_BYTES_MAX, len(answer) <= BODY_BYTES_MAX),
            )
            if body or answer
            else None,
        )


def _read_time(text: str) -> int | None:
    """Unix ns of an ISO 8601 time; None of other texts, and of times that cannot be stored."""
    try:
        moment = datetime.fromisoformat(text)
        seconds = moment.timestamp() if moment.tzinfo is not None else 0.0
    except (ValueError, OverflowError):
        return None
    return round(seconds * 1e9) if _EARLIEST <= seconds <= _LATEST else None


def _read_port(authority: str) -> int:
    """The port that a URL names; 0 without one."""
    port = _strip_user(authority).rpartition("]")[2].rpartition(":")[2]
    return int(port) if port.isdecimal() and 0 < int(port[:6]) < 65_536 else 0


def _strip_user(authority: str) -> str:
    """Host and port of a URL, without the user and password before them."""
    return authority.rpartition("@")[2]


def _read_span(milliseconds: float) -> int:
    """Nanoseconds; 0 of what was not measured, which is -1."""
    return round(min(max(milliseconds, 0), SPAN_MS_MAX) * _MS)


def _decode(content: _Text) -> bytes:
    if content.encoding.lower() != "base64":
        return content.text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(content.text)
    except (binascii.Error, ValueError):
        return b""


def _quote(target: str) -> str:
    """As it would have been sent: no spaces, no control characters."""
    return "".join(one if one.isprintable() and one != " " else "%20" for one in target)


def _write_head(lines: list[str], headers: list[_Pair], body_bytes: int) -> bytes:
    for pair in headers:
        is_line = pair.name.isprintable() and "\r" not in pair.value and "\n" not in pair.value
        if is_line and pair.name and not pair.name.startswith(":") and pair.name.lower() not in _FRAMING:
            lines.append(f"{pair.name}: {pair.value}")
    if body_bytes:
        lines.append(f"Content-Length: {body_bytes}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass")

"""Conversations of HTTP/1 drawn by chance, and what each of their calls is: for whoever reads them off a connection.

Everything that two honest ends may do: pipelines, interim and early responses, chunks with extensions and trailers,
bodies without framing, segments cut anywhere and joined over messages, ends in the middle of all of it. Excluded is
what may be read in two ways (docs/internals/capture.md, ambiguous requests), and what looks like a message where one
may begin.
"""

import itertools
import random
from dataclasses import dataclass, field
from typing import Final

from sensor.http.reassembly import Direction

FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD
PATHS: Final = ("/", "/a", "/p/7", "/v1/users", "/x/y/z")
ENDS: Final = ("reset by client", "reset by server", "close by client", "close by server")
_METHODS: Final = ("GET", "GET", "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH")
_WITH_BODY: Final = ("POST", "PUT", "PATCH", "DELETE")
_INTERIM: Final = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
_FILLERS: Final = (b"x", b"\r\n", b"0\r\n\r\n", b"abc GET / HTTP/1.1\r\nHost: h\r\n\r\n", b".HTTP/1.1 200 OK\r\n\r\n")


@dataclass(slots=True)
class ConversedCall:
    """What was said of one call."""

    method: str
    head: bytes
    status: int = 0  # Of what was said so far; 0 without a response.
    request_bytes: int = 0
    response_bytes: int = 0
    is_aborted: bool = True
    unsaid: list[bytes] = field(default_factory=list)  # Parts of the request.
    answer: list[bytes] | None = None  # Parts of the response that are left.
    answer_head: int = 0
    answer_status: int = 0
    is_last: bool = False

    @property
    def told(self) -> tuple[int, int, int, bool]:
        """(status, bytes of the request and of the response, is aborted) as capture tells it."""
        return self.status, self.request_bytes, self.response_bytes, self.is_aborted


class Conversation:
    """Drawn whole at once: `said` in order, `calls`, and how it `end`s."""

    def __init__(self, seed: int, calls: int) -> None:
        self._chance = random.Random(seed)
        self._oddity = self._chance.choice((0.0, 0.3, 1.0, 3.0))  # How often what is rare happens.
        self._parts: list[tuple[Direction, bytes]] = []
        self._waiting: list[ConversedCall] = []
        self.calls: list[ConversedCall] = []
        self.end = self._chance.choice(ENDS)
        self._talk(calls)
        self.said = self._cut_into_segments()

    def _talk(self, calls: int) -> None:
        chance = self._chance
        while len(self.calls) < calls or self._waiting:
            if self._parts and self._is_rare(0.004):
                return
            depth = chance.choice((1, 1, 4, 8))
            may_ask = len(self.calls) < calls and not any(call.unsaid for call in self._waiting)
            if may_ask and (not self._waiting or (len(self._waiting) < depth and chance.random() < 0.4)):
                self._ask(len(self.calls))
            elif self._waiting[-1].unsaid and chance.random() < 0.5:
                self._say(self._waiting[-1], 1)
            elif self._answer():
                self.end = "close by server"
                return

    def _is_rare(self, share: float) -> bool:
        return self._chance.random() < share * self._oddity

    def _draw_size(self) -> int:
        return self._chance.randrange(self._chance.choice((40, 40, 3_000, 8_000)))

    def _fill(self, size: int) -> bytes:
        filler = self._chance.choice(_FILLERS)
        return (filler * (size // len(filler) + 1))[:size]

    def _write_chunks(self, size: int, *, is_plain: bool) -> bytes:
        """`is_plain`: no spelling of which readers may disagree."""
        chance, out = self._chance, b""
        while size:
            length = chance.randrange(1, size + 1)
            extension = b"" if is_plain else chance.choice((b"", b"", b";a=b", b';q="z"'))
            out += (b"%x" % length if is_plain else chance.choice((b"%x", b"%X", b"00%x")) % length) + extension
            out += b"\r\n" + self._fill(length) + b"\r\n"
            size -= length
        return out + b"0\r\n" + chance.choice((b"", b"", b"X-T: 1\r\n", b"A: b\r\nC: d\r\n")) + b"\r\n"

    def _ask(self, number: int) -> None:
        chance = self._chance
        method = chance.choice(_METHODS)
        path = chance.choice(PATHS) if chance.random() < 0.7 else f"/new/{number}"
        fields = ["Host: h", *chance.sample(("Accept: */*", "User-Agent: curl/8", f"X-Request-Id: {number}"), 2)]
        if self._is_rare(0.05):
            fields.append("X-Filler: " + "f" * chance.randrange(6_000))
        body = b""
        if method in _WITH_BODY and chance.random() < 0.6:
            body = self._fill(self._draw_size())
            fields.append(chance.choice(("Content-Length: ", "content-length:", "CONTENT-LENGTH:\t")) + str(len(body)))
        elif method in _WITH_BODY:
            body = self._write_chunks(self._draw_size(), is_plain=True)
            fields.append(chance.choice(("Transfer-Encoding: chunked", "transfer-encoding:Chunked")))
        chance.shuffle(fields)
        query = chance.choice(("", "", "?a=1", "?"))
        head = "\r\n".join((f"{method} {path}{query} HTTP/1.1", *fields, "", "")).encode()
        call = ConversedCall(method, head, unsaid=self._divide(head, body))
        self.calls.append(call)
        self._waiting.append(call)
        self._say(call, len(call.unsaid) if chance.random() < 0.8 else 1)

    def _say(self, call: ConversedCall, parts: int) -> None:
        for _ in range(parts):
            part = call.unsaid.pop(0)
            self._parts.append((FORWARD, part))
            call.request_bytes += len(part)

    def _write_answer(self, call: ConversedCall) -> list[bytes]:
        chance = self._chance
        interim = b"".join(chance.choices(_INTERIM, k=2)) if self._is_rare(0.1) else b""
        call.answer_status = status = chance.choice((200, 200, 200, 201, 204, 304, 404, 500))
        fields, body = chance.sample(("Server: x", "Date: Fri", "Content-Type: application/json"), 2), b""
        if call.method == "HEAD" or status == 304:
            fields.append(chance.choice(("Content-Length: 70000", "Transfer-Encoding: chunked", "X-A: b")))
        elif status != 204 and self._is_rare(0.02):
            call.is_last, body = True, b"a" * self._draw_size()
        elif status != 204 and chance.random() < 0.6:
            body = self._fill(self._draw_size())
            fields.append(f"Content-Length: {len(body)}")
        elif status != 204:
            body = self._write_chunks(self._draw_size(), is_plain=False)
            fields.append("Transfer-Encoding: chunked")
        head = interim + "\r\n".join((f"HTTP/1.1 {status} Some Reason", *fields, "", "")).encode()
        call.answer_head = len(head)
        return self._divide(head, body)

    def _answer(self) -> bool:
        """Something of the oldest call's response; True where it ends the connection."""
        chance, call = self._chance, self._waiting[0]
        if call.request_bytes < len(call.head) or (call.unsaid and not self._is_rare(0.3)):
            self._say(call, 1)
            return False
        if call.answer is None:
            call.answer = self._write_answer(call)
        for _ in range(len(call.answer) if chance.random() < 0.8 else 1):
            part = call.answer.pop(0)
            self._parts.append((BACKWARD, part))
            call.response_bytes += len(part)
        if call.response_bytes >= call.answer_head:
            call.status = call.answer_status
        if call.answer:
            return False
        call.is_aborted = False
        self._say(call, len(call.unsaid))  # An early response: what was promised follows.
        self._waiting.pop(0)
        return call.is_last

    def _divide(self, head: bytes, body: bytes) -> list[bytes]:
        kind = self._chance.random()
        if kind < 0.7:
            return [head + body]
        parts = [head, *(self._cut(body) if kind < 0.85 else [body])]
        return [part for part in parts if part]

    def _cut(self, data: bytes) -> list[bytes]:
        if len(data) < 2:
            return [data]
        places = self._chance.sample(range(1, len(data)), min(self._chance.randrange(1, 4), len(data) - 1))
        bounds = [0, *sorted(places), len(data)]
        return [data[start:end] for start, end in itertools.pairwise(bounds)]

    def _cut_into_segments(self) -> list[tuple[Direction, bytes]]:
        joined: list[tuple[Direction, bytes]] = []
        for direction, data in self._parts:
            if joined and joined[-1][0] is direction and len(joined[-1][1]) < 1_000 and self._chance.random() < 0.5:
                joined[-1] = direction, joined[-1][1] + data
            else:
                joined.append((direction, data))
        return [
            (direction, part)
            for direction, data in joined
            for part in (self._cut(data) if self._is_rare(0.1) else [data])
        ]

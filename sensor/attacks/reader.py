"""Requests that come up whole, held against the attack rules: within a budget of bytes, for a consumer and the node.

Reads what was copied of target, headers and request body; the response's body only of an attack. Plain values (letters,
digits, dashes, underscores) cost one look at all of them together, and header lines are remembered, for clients send
the same ones. What the budget has no room for is counted and not looked at.
"""

import re
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from sensor.attacks.account import AttackAccount
from sensor.attacks.classes import Attack, pack_payload
from sensor.attacks.conduct import is_judged, is_method
from sensor.attacks.evidence import Answer, AnswerJudge
from sensor.attacks.request import Part, Request, find_part, is_passed_over

CONSUMER_SHARE: Final = 4  # Of the node's budget a consumer has the fourth part.
CONSUMERS_MAX: Final = 8_192  # Whose use of a second is known; past it, all further ones have one share together.
BODY_BYTES_MAX: Final = 8_192  # Of a request's body.
HEADER_BYTES_MAX: Final = 2_048
HEADERS_MAX: Final = 4_096  # Lines remembered; all are forgotten at once.
_SECOND_NS: Final = 1_000_000_000
_LATE_SECONDS: Final = 60
# A target without anything that most payloads are made of.
_PLAIN: Final = re.compile(r"(?:/[\w-]*)*(?:\.(?:json|xml))?\Z", re.ASCII)
_PLAIN_QUERY: Final = re.compile(r"[\w&=-]*\Z", re.ASCII)
# A query that may name a session: who sent the client here is then looked at.
_SESSION: Final = re.compile(r"sess|sid|token|cfid|viewstate", re.IGNORECASE)
_TOKEN: Final = re.compile(r"[\w.:-]*\Z", re.ASCII)
_SENDERS: Final = (b"host", b"referer")
_READ_TYPES: Final = re.compile(
    r"(?:application/(?:.*json|.*xml|x-www-form-urlencoded|graphql)|text/(?:plain|xml|json)|multipart/form-data|)\Z"
)


class AttackedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request and its answer. Private to the node; ends here."""

    consumer: int
    method: str
    path: str
    query: str
    head: bytes  # Of HTTP/1, as it came; else empty.
    headers: tuple[tuple[bytes, bytes], ...]  # Of HTTP/2.
    content_type: str
    time_ns: int
    answer: Answer
    # Bodies are decoded when they are looked at: (bytes of the request's, bytes of the response's).
    read_bodies: Callable[[bool], bytes] | None = None

    def __repr__(self) -> str:
        return "AttackedRequest(redacted)"


class Classifier(Protocol):
    """`sensor.attacks.classifier`."""

    def find(self, request: Request) -> tuple[Attack, str] | None:
        """The surest attack of a request, and its value."""
        ...

    def is_odd(self, text: str) -> bool:
        """Whether a text that is not decoded holds what a rule looks for."""
        ...


class AttackReader:
    """Mutable state: budgets of this second, header lines met lately, sizes of answers. Not thread-safe."""

    def __init__(
        self, classifier: Classifier, *, bytes_per_second: int, account: AttackAccount, judge: AnswerJudge | None = None
    ) -> None:
        """`bytes_per_second` of values, for the node; 0: nothing is looked at."""
        self._classifier = classifier
        self._judge = judge or AnswerJudge()
        self._limit = bytes_per_second
        self._second = -1
        self._used = 0
        self._by_consumer: dict[int, int] = {}
        # Lines, and whole heads of HTTP/2, by hashes, which this process has its own secret for.
        self._odd_lines: dict[int, bool] = {}
        self._account = account

    def read(self, request: AttackedRequest) -> int:
        """The payload of a request as it is told, 0 where there is none.

        Cost: 3 us of a plain one, else 22 us and some 95 ns a character (scripts/bench attacks).
        """
        if not self._limit:
            return 0
        body = self._read_body(request)
        is_plain = _PLAIN_QUERY.match(request.query) and _PLAIN.match(request.path) and not body
        lines = self._list_lines(request)
        odd = [line for line in lines if self._is_odd(line)]
        is_target_odd = self._classifier.is_odd(f"{request.path}?{request.query}") if is_plain else True
        if not is_target_odd and not odd and is_method(request.method):
            self._judge.learn(request.answer)
            return 0
        path = "" if not is_plain and _PLAIN.match(request.path) else request.path
        size = len(path) + len(request.query) + len(body) + sum(map(len, odd))
        found = None
        if self._may_spend(request.consumer, size, request.time_ns):
            found = self._classifier.find(_make_request(request, path, lines, odd, body))
        if found is None:
            self._judge.learn(request.answer)
            return 0
        attack, value = found
        answer = request.answer
        if request.read_bodies is not None:
            answer = msgspec.structs.replace(answer, body=request.read_bodies(False))
        evidence = self._judge.judge(attack, value, answer)
        self._account.attacks += 1
        self._account.confirmed += evidence > 0
        return pack_payload(attack, evidence)

    def _list_lines(self, request: AttackedRequest) -> list[bytes]:
        """Lines of the head; none of one of HTTP/2 that came before and had nothing odd."""
        if request.head:
            return request.head.split(b"\r\n")[1:]
        key = hash(request.headers)
        if self._odd_lines.get(key) is False and not _SESSION.search(request.query):
            return []
        lines = [b"%b: %b" % field for field in request.headers]
        is_odd = any(self._is_odd(line) for line in lines)
        self._odd_lines[key] = is_odd
        return lines

    def _is_odd(self, line: bytes) -> bool:
        """Whether a header line by itself holds an attack; the answer is remembered."""
        key = hash(line)
        known = self._odd_lines.get(key)
        if known is None:
            if len(self._odd_lines) >= HEADERS_MAX:
                self._odd_lines.clear()
            field = _read_line(line)
            known = self._odd_lines[key] = field is not None and self._is_odd_field(*field)
        return known

    def _is_odd_field(self, name: str, value: str) -> bool:
        if not is_judged(name):
            if is_passed_over(name, value):
                return False
            if find_part(name) is Part.TEXT and _TOKEN.match(value):  # As ids of requests, which are new each time.
                return self._classifier.is_odd(value)
        return self._classifier.find(Request(method="GET", headers=((name, value),))) is not None

    @staticmethod
    def _read_body(request: AttackedRequest) -> bytes:
        if request.read_bodies is None or not _READ_TYPES.match(request.content_type):
            return b""
        return request.read_bodies(True)[:BODY_BYTES_MAX]

    def _may_spend(self, consumer: int, size: int, time_ns: int) -> bool:
        second = time_ns // _SECOND_NS
        # Calls come in about the order of their ends; a clock that was set back begins anew.
        if not self._second - _LATE_SECONDS <= second <= self._second:
            self._second, self._used = second, 0
            self._by_consumer.clear()
        if consumer not in self._by_consumer and len(self._by_consumer) >= CONSUMERS_MAX:
            consumer = 0
        own = self._by_consumer.get(consumer, 0)
        if self._used + size > self._limit or own + size > max(self._limit // CONSUMER_SHARE, BODY_BYTES_MAX):
            self._account.skipped += 1
            return False
        self._by_consumer[consumer] = own + size
        self._used += size
        self._account.read_bytes += size
        return True


def _read_line(line: bytes) -> tuple[str, str] | None:
    name, colon, value = line[:HEADER_BYTES_MAX].partition(b":")
    if not colon:
        return None
    return name.decode("latin-1").lower(), value.strip(b" \t").decode("utf-8", "replace")


def _make_request(request: AttackedRequest, path: str, lines: list[bytes], odd: list[bytes], body: bytes) -> Request:
    """What is to be looked at: of the headers only the odd, and who sent the client where a session is named."""
    if _SESSION.search(request.query):
        odd = odd + [line for line in lines if line not in odd and line.lower().startswith(_SENDERS)]
    fields = (_read_line(line) for line in odd)
    return Request(
        path=path,
        query=request.query,
        method=request.method,
        headers=tuple(field for field in fields if field is not None),
        body=body.decode("utf-8", "replace"),
        content_type=request.content_type,
    )

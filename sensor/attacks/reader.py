"""Requests that come up whole, held against the attack rules: within a budget of bytes, for a consumer and the node.

Reads what was copied of target, headers and request body; the response's body only of an attack. Plain values (letters,
digits, dashes, underscores) cost nothing and headers are remembered, for clients send the same ones. What the budget
has no room for is counted and not looked at.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec

from sensor.attacks.account import AttackAccount
from sensor.attacks.classes import Attack, pack_payload
from sensor.attacks.evidence import Answer, AnswerJudge
from sensor.attacks.values import list_values

CONSUMER_SHARE: Final = 4  # Of the node's budget a consumer has the fourth part.
CONSUMERS_MAX: Final = 8_192  # Whose use of a second is known; past it, all further ones have one share together.
BODY_BYTES_MAX: Final = 8_192  # Of a request's body.
HEADER_BYTES_MAX: Final = 512
HEADERS_MAX: Final = 4_096  # Values remembered; all are forgotten at once.
_SECOND_NS: Final = 1_000_000_000
_LATE_SECONDS: Final = 60
# What applications read and clients choose.
_HEADER_NAMES: Final = rb"cookie|referer|user-agent|x-forwarded-for|x-forwarded-host|x-api-version|content-type"
_HEADER: Final = re.compile(rb"\n(?:" + _HEADER_NAMES + rb")[ \t]*:[ \t]*([^\r\n]+)", re.IGNORECASE)
# A target without anything that a payload is made of.
_PLAIN: Final = re.compile(r"(?:/[\w-]*)*(?:\.(?:json|xml))?\Z", re.ASCII)
_PLAIN_QUERY: Final = re.compile(r"[\w&=-]*\Z", re.ASCII)
# Headers of ordinary clients have none of these.
_ODD_HEADER: Final = re.compile(rb"[<>{}$'\"\\`|]|\.\./|%[0-9a-fA-F]{2}|/etc/|union|select|\(\)", re.IGNORECASE)
_READ_TYPES: Final = re.compile(
    r"(?:application/(?:.*json|.*xml|x-www-form-urlencoded|graphql)|text/(?:plain|xml|json))\Z"
)


class AttackedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request and its answer. Private to the node; ends here."""

    consumer: int
    path: str
    query: str
    head: bytes  # Of HTTP/1, as it came; else empty.
    headers: tuple[bytes, ...]  # Of HTTP/2: values of those that are read.
    content_type: str
    time_ns: int
    answer: Answer
    # Bodies are decoded when they are looked at: (bytes of the request's, bytes of the response's).
    read_bodies: Callable[[bool], bytes] | None = None

    def __repr__(self) -> str:
        return "AttackedRequest(redacted)"


class Classifier(Protocol):
    """`sensor.attacks.classifier`."""

    def find(self, values: Iterable[str]) -> tuple[Attack, str] | None:
        """The surest attack in decoded values, and the value."""
        ...


class AttackReader:
    """Mutable state: budgets of this second, headers met lately, sizes of answers. Not thread-safe."""

    def __init__(self, classifier: Classifier, *, bytes_per_second: int, account: AttackAccount) -> None:
        """`bytes_per_second` of values, for the node; 0: nothing is looked at."""
        self._classifier = classifier
        self._judge = AnswerJudge()
        self._limit = bytes_per_second
        self._second = -1
        self._used = 0
        self._by_consumer: dict[int, int] = {}
        self._odd_headers: dict[bytes, bool] = {}
        self._account = account

    def read(self, request: AttackedRequest) -> int:
        """The payload of a request as it is told, 0 where there is none.

        Cost: 2 us of a plain one, else 25 us and some 60 ns a byte (scripts/bench attacks).
        """
        if not self._limit:
            return 0
        path = "" if _PLAIN.match(request.path) else request.path
        query = "" if _PLAIN_QUERY.match(request.query) else request.query
        headers = [value for value in self._list_headers(request) if self._is_odd(value)]
        body = self._read_body(request)
        size = len(path) + len(query) + len(body) + sum(map(len, headers))
        found = None
        if size and self._may_spend(request.consumer, size, request.time_ns):
            texts = tuple(value.decode("utf-8", "replace") for value in headers)
            found = self._classifier.find(list_values(path, query, texts, body.decode("utf-8", "replace")))
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

    @staticmethod
    def _list_headers(request: AttackedRequest) -> list[bytes] | tuple[bytes, ...]:
        return _HEADER.findall(request.head) if request.head else request.headers

    def _is_odd(self, value: bytes) -> bool:
        value = value[:HEADER_BYTES_MAX]
        known = self._odd_headers.get(value)
        if known is None:
            if len(self._odd_headers) >= HEADERS_MAX:
                self._odd_headers.clear()
            known = self._odd_headers[value] = _ODD_HEADER.search(value) is not None
        return known

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

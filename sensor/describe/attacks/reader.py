"""Checks requests that were copied whole for attacks, within a budget of bytes, and looks for evidence in the response.

Reads what was copied of target, headers and request body. Plain values (letters, digits, dashes, underscores) cost one
look at all of them together. Header fields are remembered, because clients send the same ones. What exceeds the budget
of a consumer or the node is counted and not read.

The response is read only after an attack was found. Evidence is its status, body, size and duration. A 2xx alone
confirms nothing, because a search answers any query. A 4xx confirms nothing either, because payloads are blocked so.
Markers are texts that no API returns by itself: system files, output of `id`, cloud credentials, and database errors as
clients print them. The core rules know more of these errors.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from common.bounded import BoundedDict
from sensor.core.health import AttackAccount
from sensor.describe.attacks.classes import (
    Attack,
    AttackClass,
    AttackConfidence,
    AttackEvidence,
    Part,
    Request,
    find_part,
    is_passed_over,
    pack_payload,
)
from sensor.describe.attacks.conduct import is_judged, is_method
from sensor.describe.attacks.matching import ExpressionSet
from sensor.describe.attacks.prose import TEXT_MAX, shorten

EVIDENCE_BODY_BYTES_MAX: Final = 65_536  # Of a response that is searched.
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml", "image/svg+xml"})
_REFLECTED_MIN: Final = 8  # Characters; shorter texts are in any page.
_ERROR_STATUS: Final = 500
_DELAY_MIN: Final = 2  # Seconds a payload must ask for; less is what answers take anyway.
_DELAY_EXCESS: Final = 2.5  # Times what was asked for, and more is another cause.
_LARGE_RATIO: Final = 8  # Times the largest answer of the route so far.
_LARGE_BYTES: Final = 16_384
_LARGE_SAMPLES: Final = 10  # Fewer answers say nothing of a route's sizes.
ROUTES_MAX: Final = 4_096  # Whose sizes are known; the oldest is forgotten and begins anew.

_FILES: Final = (
    rb"root:[^:\s]{0,64}:0:0:|\[boot loader\]|; for 16-bit app support|\[fonts\]\s|-----BEGIN [A-Z ]*PRIVATE KEY|"
    rb"<web-app[\s>]|^PATH=/|Linux version \d"
)
_OUTPUT: Final = rb"uid=\d+\([\w-]+\) gid=\d+|Volume Serial Number is|" + _FILES
_CLOUD: Final = rb"\"(?:AccessKeyId|SecretAccessKey)\"|\bami-id\b|instance-identity|computeMetadata"
_DATABASE: Final = (
    rb"You have an error in your SQL syntax|SQLSTATE\[|\bORA-\d{5}:|[Uu]nclosed quotation mark|PSQLException|"
    rb"unterminated quoted string|syntax error at or near|near \\?\"[^\"]{1,80}\\?\": syntax error|"
    rb"sqlite3?\.OperationalError|MySQLSyntaxError|unrecognized token: |quoted string not properly terminated"
)
_MARKERS: Final = {
    kind: re.compile(pattern, re.MULTILINE)
    for kind, pattern in {
        AttackClass.SQLI: _DATABASE,
        AttackClass.NOSQL: rb"MongoError|MongoServerError|E11000 duplicate|unknown operator: \$|\bCastError\b",
        AttackClass.TRAVERSAL: _FILES,
        AttackClass.XXE: _FILES,
        AttackClass.SSRF: _CLOUD + b"|" + _FILES,
        AttackClass.RCE: _OUTPUT,
        AttackClass.SSTI: _OUTPUT,
        AttackClass.LOG4SHELL: _OUTPUT,
        AttackClass.LDAP: rb"LDAPException|javax\.naming\.|Bad search filter",
    }.items()
}
_BREAKS: Final = frozenset(_MARKERS) - {AttackClass.TRAVERSAL, AttackClass.SSRF}  # What breaks a server that takes it.
_DELAYS: Final = re.compile(r"sleep\W{1,4}(\d{1,2})(?:\.\d+)?\b|delay\s*\W0{0,2}:?0{0,2}:(\d{1,2})", re.IGNORECASE)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What is known of a response. Private to the node."""

    route_id: int
    status_code: int
    response_bytes: int
    duration_ns: int
    is_final: bool
    content_type: str = ""
    body: bytes = b""  # Decoded, as far as it was copied.

    def __repr__(self) -> str:
        return f"Answer(status_code={self.status_code}, redacted)"


class EvidenceFinder:
    """Mutable state: the largest answer of each route, of calls without payloads. Not thread-safe."""

    def __init__(self, load_database_errors: Callable[[], Sequence[str]] = tuple) -> None:
        """`load_database_errors`: expressions of more of them, asked for at the first payload of SQL."""
        self._load_errors = load_database_errors
        self._errors: ExpressionSet | None = None
        self._sizes: dict[int, tuple[int, int]] = {}  # Answers, and bytes of the largest; changed with each call.

    def learn(self, answer: Answer) -> None:
        """An answer to a call without a payload."""
        if not (answer.is_final and 200 <= answer.status_code < 300):
            return
        count, largest = self._sizes.get(answer.route_id, (0, 0))
        if not count and len(self._sizes) >= ROUTES_MAX:
            del self._sizes[next(iter(self._sizes))]
        self._sizes[answer.route_id] = count + 1, max(largest, answer.response_bytes)

    def find(self, attack: Attack, value: str, answer: Answer) -> AttackEvidence:
        """How the answer to a request with the payload `value` confirms it; the surest first."""
        kind = attack.attack_class
        markers = _MARKERS.get(kind)
        body = answer.body[:EVIDENCE_BODY_BYTES_MAX]
        # What the server gives back of the request is no evidence of what it did.
        own = value.encode("utf-8", "replace")
        bare = body.replace(own, b"") if own else body
        if markers is not None and bare and (markers.search(bare) or self._has_error(kind, bare)):
            return AttackEvidence.LEAKED
        is_script = kind is AttackClass.XSS and "<" in value and len(own) >= _REFLECTED_MIN
        if is_script and answer.content_type in _PAGES and own.strip() in body:
            return AttackEvidence.REFLECTED
        if _is_delayed(value, answer):
            return AttackEvidence.DELAYED
        if attack.confidence is not AttackConfidence.HIGH:
            return AttackEvidence.NONE
        if answer.status_code == _ERROR_STATUS and kind in _BREAKS:
            return AttackEvidence.SERVER_ERROR
        return AttackEvidence.LARGE if self._is_large(kind, answer) else AttackEvidence.NONE

    def _has_error(self, kind: AttackClass, body: bytes) -> bool:
        if kind is not AttackClass.SQLI:
            return False
        if self._errors is None:
            self._errors = ExpressionSet(self._load_errors())
        return bool(self._errors.match(body))

    def _is_large(self, kind: AttackClass, answer: Answer) -> bool:
        count, largest = self._sizes.get(answer.route_id, (0, 0))
        is_served = answer.is_final and 200 <= answer.status_code < 300 and count >= _LARGE_SAMPLES
        is_reading = kind in (AttackClass.SQLI, AttackClass.NOSQL, AttackClass.LDAP, AttackClass.TRAVERSAL)
        return is_served and is_reading and answer.response_bytes >= max(_LARGE_BYTES, _LARGE_RATIO * largest)


def _is_delayed(value: str, answer: Answer) -> bool:
    found = _DELAYS.search(value)
    if found is None or not answer.is_final:
        return False
    asked = int(found[1] or found[2])
    return asked >= _DELAY_MIN and asked <= answer.duration_ns / 1e9 <= _DELAY_EXCESS * asked


CONSUMER_SHARE: Final = 4  # Of the node's budget a consumer has the fourth part.
CONSUMERS_MAX: Final = 8_192  # Whose use of a second is known; past it, all further ones have one share together.
BODY_BYTES_MAX: Final = 65_536  # Of a request's body, as many as are copied; padding in it is skipped (`prose`).
HEADER_BYTES_MAX: Final = 2_048
HEADERS_MAX: Final = 4_096  # Lines remembered.
_SECOND_NS: Final = 1_000_000_000
_LATE_SECONDS: Final = 60
# A target without anything that most payloads are made of.
_PLAIN: Final = re.compile(r"(?:/[\w-]*)*(?:\.(?:json|xml))?\Z", re.ASCII)
_PLAIN_QUERY: Final = re.compile(r"[\w&=-]*\Z", re.ASCII)
# A query that may name a session: who sent the client here is then looked at.
_SESSION: Final = re.compile(r"sess|sid|token|cfid|viewstate", re.IGNORECASE)
_TOKEN: Final = re.compile(r"[\w.:-]*\Z", re.ASCII)
_SENDERS: Final = (b"host", b"referer")
_FORWARDED: Final = (b"forwarded", b"x-forwarded-", b"x-real-ip", b"via")
_USUAL_PORTS: Final = (80, 443)
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
    host: str = ""
    server: tuple[str, int] = ("", 0)  # Where the service got the call: address and port.

    def __repr__(self) -> str:
        return "AttackedRequest(redacted)"


class Classifier(Protocol):
    """`sensor.describe.attacks.classifier`."""

    def find(self, request: Request) -> tuple[Attack, str] | None:
        """The surest attack of a request, and its value."""
        ...

    def is_odd(self, text: str) -> bool:
        """Whether a text that is not decoded holds what a rule looks for."""
        ...


class AttackReader:
    """Mutable state: budgets of this second, header lines met lately, sizes of answers. Not thread-safe."""

    def __init__(
        self,
        classifier: Classifier,
        *,
        bytes_per_second: int,
        account: AttackAccount,
        evidence: EvidenceFinder | None = None,
    ) -> None:
        """`bytes_per_second` of values, for the node; 0: nothing is looked at."""
        self._classifier = classifier
        self._evidence = evidence or EvidenceFinder()
        self._limit = bytes_per_second
        self._second = -1
        self._used = 0
        self._by_consumer: dict[int, int] = {}
        # Lines, and whole heads of HTTP/2, by hashes, which this process has its own secret for.
        self._odd_lines: BoundedDict[int, bool] = BoundedDict(HEADERS_MAX)
        self._account = account

    def read(self, request: AttackedRequest) -> int:
        """The payload of a request as it is reported, 0 where there is none.

        Cost: 3 us of a plain one, else 22 us and some 95 ns a character (scripts/bench attacks).
        """
        if not self._limit:
            return 0
        body = self._read_body(request)
        query = request.query
        is_plain = _PLAIN_QUERY.match(query) and _PLAIN.match(request.path) and not (body or _is_linked(request))
        lines = self._list_lines(request)
        odd = [line for line in lines if self._is_odd(line)]
        is_target_odd = self._classifier.is_odd(f"{request.path}?{request.query}") if is_plain else True
        if not is_target_odd and not odd and is_method(request.method):
            self._evidence.learn(request.answer)
            return 0
        path = "" if not is_plain and _PLAIN.match(request.path) else request.path
        size = len(path) + len(request.query) + len(body) + sum(map(len, odd))
        found = None
        if self._may_spend(request.consumer, size, request.time_ns):
            found = self._classifier.find(_make_request(request, path, lines, odd, body))
        if found is None:
            self._evidence.learn(request.answer)
            return 0
        attack, value = found
        answer = request.answer
        if request.read_bodies is not None:
            answer = msgspec.structs.replace(answer, body=request.read_bodies(False))
        evidence = self._evidence.find(attack, value, answer)
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
    def _read_body(request: AttackedRequest) -> str:
        if request.read_bodies is None or not _READ_TYPES.match(request.content_type):
            return ""
        return shorten(request.read_bodies(True)[:BODY_BYTES_MAX].decode("utf-8", "replace"))

    def _may_spend(self, consumer: int, size: int, time_ns: int) -> bool:
        second = time_ns // _SECOND_NS
        # Calls come in about the order of their ends; a clock that was set back begins anew.
        if not self._second - _LATE_SECONDS <= second <= self._second:
            self._second, self._used = second, 0
            self._by_consumer.clear()
        if consumer not in self._by_consumer and len(self._by_consumer) >= CONSUMERS_MAX:
            consumer = 0
        own = self._by_consumer.get(consumer, 0)
        if self._used + size > self._limit or own + size > max(self._limit // CONSUMER_SHARE, TEXT_MAX):
            self._account.skipped += 1
            return False
        self._by_consumer[consumer] = own + size
        self._used += size
        self._account.read_bytes += size
        return True


def _is_linked(request: AttackedRequest) -> bool:
    """Whether a link of some page may have chosen the session that the query names."""
    if not _SESSION.search(request.query):
        return False
    in_head = b"\nReferer:" in request.head or b"\nreferer:" in request.head
    return in_head or any(name == b"referer" for name, _ in request.headers)


def _read_line(line: bytes) -> tuple[str, str] | None:
    name, colon, value = line[:HEADER_BYTES_MAX].partition(b":")
    if not colon:
        return None
    return name.decode("latin-1").lower(), value.strip(b" \t").decode("utf-8", "replace")


def _make_request(request: AttackedRequest, path: str, lines: list[bytes], odd: list[bytes], body: str) -> Request:
    """What is to be looked at: of the headers only the odd, and who sent the client where a session is named."""
    if _SESSION.search(request.query):
        odd = odd + [line for line in lines if line not in odd and line.lower().startswith(_SENDERS)]
    fields = (_read_line(line) for line in odd)
    return Request(
        path=path,
        query=request.query,
        method=request.method,
        headers=tuple(field for field in fields if field is not None),
        body=body,
        content_type=request.content_type,
        host=request.host,
        is_own_host=_is_own_host(request),
    )


def _is_own_host(request: AttackedRequest) -> bool:
    """Whether the host that the client called is the end of the connection. A name may be any, and behind a proxy of
    this node the address would be one that only the node can reach."""
    address, port = request.server
    written = f"[{address}]" if ":" in address else address
    is_own = request.host == f"{written}:{port}" or (request.host == written and port in _USUAL_PORTS)
    if not address or not is_own:
        return False
    fields = request.head.split(b"\r\n")[1:] if request.head else [name for name, _ in request.headers]
    return not any(field.lower().startswith(_FORWARDED) for field in fields)

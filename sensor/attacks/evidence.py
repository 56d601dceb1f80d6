"""Whether a response says that a payload worked: its status, its body, its size and how long it took.

Told of attacks only. A 2xx alone confirms nothing, for a search answers whatever it is asked; nor does a 4xx, which is
how a payload is blocked. Markers are texts that no API returns by itself: system files, output of `id`, credentials of
a cloud, errors of databases as their clients print them, of which the core rules know more.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from sensor.attacks.classes import Attack, AttackClass, AttackConfidence, AttackEvidence
from sensor.attacks.matching import ExpressionSet

BODY_BYTES_MAX: Final = 65_536  # Of a response that is searched.
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


class AnswerJudge:
    """Mutable state: the largest answer of each route, of calls without payloads. Not thread-safe."""

    def __init__(self, load_database_errors: Callable[[], Sequence[str]] = tuple) -> None:
        """`load_database_errors`: expressions of more of them, asked for at the first payload of SQL."""
        self._load_errors = load_database_errors
        self._errors: ExpressionSet | None = None
        self._sizes: dict[int, tuple[int, int]] = {}  # Answers, and bytes of the largest.

    def learn(self, answer: Answer) -> None:
        """An answer to a call without a payload."""
        if not (answer.is_final and 200 <= answer.status_code < 300):
            return
        count, largest = self._sizes.get(answer.route_id, (0, 0))
        if not count and len(self._sizes) >= ROUTES_MAX:
            del self._sizes[next(iter(self._sizes))]
        self._sizes[answer.route_id] = count + 1, max(largest, answer.response_bytes)

    def judge(self, attack: Attack, value: str, answer: Answer) -> AttackEvidence:
        """How the answer to a request with the payload `value` confirms it; the surest first."""
        kind = attack.attack_class
        markers = _MARKERS.get(kind)
        body = answer.body[:BODY_BYTES_MAX]
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

"""Requests held against the rules: what is told of them, what confirms them, what the budget leaves out."""

import base64
import hashlib

import pytest

from common.figures import list_figures
from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.coverage.limits import cover_attacks
from sensor.coverage.row import PortProtocol
from sensor.describe.attacks.classes import _CLASS_NUMBERS, EVIDENCE_MASK, AttackClass, AttackEvidence
from sensor.describe.attacks.classifier import AttackClassifier
from sensor.describe.attacks.prose import TEXT_MAX
from sensor.describe.attacks.reader import (
    CONSUMER_SHARE,
    Answer,
    AttackedRequest,
    AttackReader,
    EvidenceFinder,
)
from tests.sensor.records import make_service

CLASSIFIER = AttackClassifier(KeyedHash(1, bytes(16)).compute)
SECOND = 1_000_000_000


def read_class(payload: int) -> AttackClass | None:
    """The class in what `pack_payload` gave; None of 0."""
    return next((kind for kind, number in _CLASS_NUMBERS.items() if number == payload & 0xF), None)


def read_evidence(payload: int) -> AttackEvidence:
    return AttackEvidence((payload & EVIDENCE_MASK) >> 4)


class Room:
    """A reader with its account."""

    def __init__(self, bytes_per_second: int = 1 << 20) -> None:
        self.account = AttackAccount()
        self.reader = AttackReader(CLASSIFIER, bytes_per_second=bytes_per_second, account=self.account)

    def read(self, query: str = "", **changes: object) -> int:
        path, head = str(changes.pop("path", "/items")), changes.pop("head", b"")
        consumer, second = int(changes.pop("consumer", 1)), int(changes.pop("second", 1))  # type: ignore[call-overload]
        asked, told = changes.pop("asked", None), changes.pop("told", None)
        fields = changes.pop("fields", ())
        called = {"host": changes.pop("host", ""), "server": changes.pop("server", ("", 0))}
        content_type = str(changes.pop("content_type", "application/json"))
        changes["content_type"] = changes.pop("told_type", "")
        answer: dict[str, object] = {"status_code": 200, "response_bytes": 900, "duration_ns": 10**7}
        answer |= {"route_id": 7, "is_final": True} | changes
        bodies = None if asked is None and told is None else lambda is_request: (asked if is_request else told) or b""
        return self.reader.read(
            AttackedRequest(
                consumer=consumer,
                method="GET",
                path=path,
                query=query,
                head=head,
                headers=fields,  # type: ignore[arg-type]
                content_type=content_type,
                time_ns=second * SECOND,
                answer=Answer(**answer),  # type: ignore[arg-type]
                read_bodies=bodies,
                **called,  # type: ignore[arg-type]
            )
        )


def test_a_payload_is_told_by_class_and_hash_and_plain_requests_are_not() -> None:
    room = Room()
    first, second = room.read("id=1'+OR+'1'='1"), room.read("id=2'+OR+'1'='1")
    assert {read_class(first), read_class(second)} == {AttackClass.SQLI}
    assert first != second
    assert room.read("id=1%27%20OR%20%271%27%3D%271") == first  # The same once it is decoded.
    assert read_evidence(first) is AttackEvidence.NONE
    assert [room.read("page=2&limit=50"), room.read(path="/items/42"), room.read("q=rock+%26+roll")] == [0, 0, 0]
    assert (room.account.attacks, room.account.confirmed, room.account.skipped) == (3, 0, 0)


def test_headers_and_bodies_are_read_too() -> None:
    room = Room()
    head = b"GET /items HTTP/1.1\r\nHost: h\r\nUser-Agent: ${jndi:ldap://h/a}\r\n\r\n"
    assert read_class(room.read(head=head)) is AttackClass.LOG4SHELL
    assert room.read(head=head.replace(b"${jndi:ldap://h/a}", b"curl/8.5.0 (x)")) == 0
    body = b'{"name": "x\' UNION SELECT password FROM users--"}'
    assert read_class(room.read(asked=body)) is AttackClass.SQLI
    assert room.read(asked=body, content_type="image/png") == 0


def test_heads_of_http2_are_read_and_ordinary_ones_once() -> None:
    room = Room()
    fields = ((b"user-agent", b"curl/8.5.0"), (b"x-trace", b"1"))
    odd = ((b"user-agent", b"() { :; }; /bin/bash -c id"), (b"x-trace", b"1"))
    assert [room.read(fields=fields), room.read(fields=fields)] == [0, 0]
    assert [read_class(room.read(fields=odd)) for _ in range(2)] == [AttackClass.RCE] * 2
    fixed = ((b"host", b"a.example"), (b"referer", b"https://b.example/"))
    assert room.read(fields=fixed) == 0
    assert read_class(room.read("phpsessid=1'", fields=fixed)) is AttackClass.FIXATION


@pytest.mark.parametrize(
    ("query", "answer", "evidence"),
    [
        ("id=1'+OR+'1'='1", {"status_code": 500}, AttackEvidence.SERVER_ERROR),
        ("id=1'+OR+'1'='1", {"status_code": 403}, AttackEvidence.NONE),
        ("id=1'+OR+'1'='1", {"status_code": 503}, AttackEvidence.NONE),
        ("id=1'+OR+'1'='1", {"told": b'{"error": "SQLSTATE[42000]: Syntax error"}'}, AttackEvidence.LEAKED),
        ("f=../../../etc/passwd", {"told": b"root:x:0:0:root:/root:/bin/sh"}, AttackEvidence.LEAKED),
        ("f=../../../etc/passwd", {"told": b"no file ../../../etc/passwd"}, AttackEvidence.NONE),
        ("h=x;id", {"told": b"uid=33(www-data) gid=33(www-data)"}, AttackEvidence.LEAKED),
        (
            "q=<script>alert(1)</script>",
            {"told": b"<p>No <script>alert(1)</script>", "told_type": "text/html"},
            AttackEvidence.REFLECTED,
        ),
        (
            "q=<script>alert(1)</script>",
            {"told": b"<p>No &lt;script&gt;alert(1)", "told_type": "text/html"},
            AttackEvidence.NONE,
        ),
        ("q=<script>alert(1)</script>", {"told": b'{"q": "<script>alert(1)</script>"}'}, AttackEvidence.NONE),
        ("id=1;waitfor delay '0:0:5'--", {"duration_ns": 5 * SECOND + 1}, AttackEvidence.DELAYED),
        ("id=1'+and+sleep(5)%23", {"duration_ns": 5 * SECOND + 1}, AttackEvidence.DELAYED),
        ("id=1'+and+sleep(5)%23", {"duration_ns": 30 * SECOND}, AttackEvidence.NONE),
        ("id=1'+and+sleep(5)%23", {"duration_ns": SECOND}, AttackEvidence.NONE),
    ],
)
def test_what_confirms_a_payload(query: str, answer: dict[str, object], evidence: AttackEvidence) -> None:
    assert read_evidence(Room().read(query, **answer)) is evidence


@pytest.mark.parametrize(
    ("query", "told", "evidence"),
    [
        ("id=1'+OR+'1'='1", b'{"error": "[ZZSQL] statement 4711 is broken"}', AttackEvidence.LEAKED),
        ("id=1'+OR+'1'='1", b'{"error": "no such order"}', AttackEvidence.NONE),
        ("f=../../../etc/passwd", b'{"error": "[ZZSQL] statement 4711 is broken"}', AttackEvidence.NONE),
    ],
)
def test_errors_that_the_core_rules_know_confirm_sql(query: str, told: bytes, evidence: AttackEvidence) -> None:
    asked: list[int] = []

    def load() -> tuple[str, ...]:
        asked.append(1)
        return (r"\[zzsql\] statement \d+", r"(?!x)unsupported")

    room = Room()
    room.reader = AttackReader(
        CLASSIFIER, bytes_per_second=1 << 20, account=room.account, evidence=EvidenceFinder(load)
    )
    assert room.read("page=1", told=told) == 0
    assert asked == []  # Not before there is a payload.
    assert read_evidence(room.read(query, told=told)) is evidence


def test_an_answer_far_larger_than_the_routes_confirms() -> None:
    room = Room()
    for _ in range(10):
        room.read("page=1")
    assert read_evidence(room.read("id=1'+OR+'1'='1", response_bytes=200_000)) is AttackEvidence.LARGE
    assert read_evidence(room.read("id=1'+OR+'1'='1", response_bytes=200_000, route_id=8)) is AttackEvidence.NONE


def test_the_budget_is_the_consumers_and_the_nodes_and_what_is_skipped_is_counted() -> None:
    room = Room(bytes_per_second=CONSUMER_SHARE * TEXT_MAX)
    long = "id=1'+OR+'1'='1&x=" + "%20" * 1_000
    told = [room.read(long) > 0 for _ in range(4)]
    assert told == [True, True, False, False]  # A consumer's share is 8 KiB.
    assert room.read(long, consumer=2) > 0
    assert room.read(long, second=2) > 0
    assert room.account.skipped == 2
    (row,) = cover_attacks(room.account, make_service())
    assert (row.protocol, row.connections) == (PortProtocol.MISSED, 2)
    for consumer in range(20):
        room.read(long, consumer=consumer, second=3)
    assert room.account.read_bytes <= 3 * CONSUMER_SHARE * TEXT_MAX
    assert "attacks_skipped" in {figure.name for figure in list_figures(room.account, "attacks_")}


@pytest.mark.parametrize(
    "body",
    [
        b"a=" + b"A" * 40_000 + b"<script>alert(1)</script>",
        b'{"a": "' + b"x" * 20_000 + b'", "b": "1\' or \'1\'=\'1"}',
        b"a=1&" + b"note=many+words&" * 2_000 + b"id=1'+union+select+password+from+users--",
    ],
)
def test_payloads_behind_padding_are_found(body: bytes) -> None:
    assert Room().read(asked=body, content_type="application/x-www-form-urlencoded") > 0


def test_padding_costs_as_much_as_a_short_body() -> None:
    room = Room()
    room.read(asked=b"a=" + b"A" * 60_000 + b";cat /etc/passwd", content_type="application/x-www-form-urlencoded")
    assert room.account.attacks == 1
    assert room.account.read_bytes < 200


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "1' or '1'='1' -- x", ";cat /etc/passwd", "../../etc/passwd"]
)
@pytest.mark.parametrize("place", ["path", "query", "name", "cookie", "header"])
def test_payloads_in_base64_are_found_in_targets_that_look_plain(text: str, place: str) -> None:
    hidden = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    lines = {"cookie": f"Cookie: a={hidden}", "header": f"X-State: {hidden}"}
    head = f"GET / HTTP/1.1\r\n{lines[place]}\r\n\r\n".encode() if place in lines else b""
    query = {"query": f"next={hidden}", "name": hidden}.get(place, "")
    path = f"/items/{hidden}" if place == "path" else "/items"
    assert Room().read(query, path=path, head=head) > 0


def test_a_session_that_another_sites_link_chose_is_found_in_a_plain_query() -> None:
    head = b"GET / HTTP/1.1\r\nHost: shop.example\r\nReferer: https://%s/a\r\n\r\n"
    assert read_class(Room().read("PHPSESSID=abc", head=head % b"other.test")) is AttackClass.FIXATION
    assert Room().read("PHPSESSID=abc", head=head % b"www.shop.example") == 0
    assert Room().read("PHPSESSID=abc", head=head.replace(b"Referer", b"X-A") % b"other.test") == 0


OWN = {"host": "127.0.0.1:8080", "server": ("127.0.0.1", 8080)}


@pytest.mark.parametrize("target", ["http://127.0.0.1:8080/photos/7.jpg", "http%3A%2F%2F127.0.0.1%3A8080/photos"])
def test_a_url_of_the_service_itself_is_no_forgery(target: str) -> None:
    assert Room().read(f"from={target}", **OWN) == 0
    assert Room().read(asked=b'{"from": "http://127.0.0.1:8080/a"}', **OWN) == 0
    for other in ("http://127.0.0.1:9090/a", "http://127.0.0.1:8080@127.0.0.2/", "http://169.254.169.254/latest"):
        assert read_class(Room().read(f"from={other}", **OWN)) is AttackClass.SSRF


def test_a_host_that_only_the_client_names_is_not_the_services_own() -> None:
    target = "from=http://127.0.0.1:8080/admin"
    assert read_class(Room().read(target, host="127.0.0.1:8080", server=("10.2.0.7", 8080))) is AttackClass.SSRF
    assert read_class(Room().read(target, host="shop.example", server=("127.0.0.1", 8080))) is AttackClass.SSRF
    head = b"GET / HTTP/1.1\r\nX-Forwarded-For: 10.1.2.3\r\n\r\n"
    assert read_class(Room().read(target, head=head, **OWN)) is AttackClass.SSRF
    room, fields = Room(), ((b"x-forwarded-for", b"10.1.2.3"),)
    assert [read_class(room.read(target, fields=fields, **OWN)) for _ in range(2)] == [AttackClass.SSRF] * 2
    plain = {"host": "127.0.0.1", "server": ("127.0.0.1", 80)}
    assert Room().read("from=http://127.0.0.1/a", **plain) == 0
    assert read_class(Room().read("from=http://127.0.0.1/a", **{**plain, "server": ("127.0.0.1", 8080)})) is not None


def test_a_copy_within_the_same_server_is_no_forgery() -> None:
    head = b"COPY / HTTP/1.1\r\nDestination: http://dav.files.svc.cluster.local/b\r\n\r\n"
    assert Room().read(head=head, host="dav.files.svc.cluster.local", server=("10.2.0.7", 8080)) == 0
    assert read_class(Room().read(head=head, host="shop.example")) is AttackClass.SSRF


def test_ids_and_tokens_are_not_looked_at() -> None:
    room = Room()
    for number in range(200):
        token = base64.urlsafe_b64encode(hashlib.sha256(b"%d" % number).digest()).decode().rstrip("=")
        room.read(f"token_hint={token}", path=f"/v1/files/{token}/versions/3fa85f64-5717-4562-b3fc-2c963f66afa6")
    assert room.account.attacks == 0


def test_nothing_of_a_payload_is_in_any_repr() -> None:
    request = AttackedRequest(1, "GET", "/a", "id=1'+OR+'1'='1", b"secret", (), "", 0, Answer(1, 200, 1, 1, True))
    assert "OR" not in repr(request)
    assert "secret" not in repr(request)

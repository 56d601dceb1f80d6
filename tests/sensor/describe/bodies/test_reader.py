"""From raw bodies to facts: the classes and the exact number of records, however the body travelled."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import BodyFacts, BodyFlag, RawBodies
from sensor.describe.bodies.decoding import Payload
from sensor.describe.bodies.reader import BodyCall, BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.sensitive.kinds import DataKind, DataPlace, list_kinds, make_codes
from tests.sensor.describe.bodies.messages import ENCODERS, chunk, response_head

ALL = SampleRule(first_count=1 << 30)
ROWS = [{"id": i, "email": f"ada{i}@example.org", "phone": "+1 415 555 2671"} for i in range(40)]
BODY = json.dumps(ROWS).encode()
ASKED = b'{"password": "correct horse battery staple"}'
REQUEST = b"POST /a HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ASKED)
FOUND = make_codes(DataPlace.RESPONSE_BODY, {DataKind.EMAIL, DataKind.PHONE})
BOTH = tuple(sorted(make_codes(DataPlace.REQUEST_BODY, {DataKind.PASSWORD}) | FOUND))


def _call(head: bytes, raw: bytes, *, wire: bytes | None = None, status: int = 200, time_ns: int = 1) -> BodyCall:
    whole = raw if wire is None else wire
    sizes = len(REQUEST) + len(ASKED), len(head) + len(whole)
    return BodyCall(9, status, REQUEST, head, *sizes, time_ns, RawBodies(ASKED, raw))


@pytest.mark.parametrize("coding", ["", *ENCODERS])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_classes_and_records(coding: str, is_chunked: bool) -> None:
    encoded = ENCODERS[coding](BODY) if coding else BODY
    head = response_head(coding=coding, length=None if is_chunked else len(encoded))
    facts = BodyReader(ALL).read(_call(head, chunk(encoded, 700) if is_chunked else encoded))
    read = BodyFlag.REQUEST_READ | BodyFlag.RESPONSE_READ
    assert facts == BodyFacts(40, BOTH, read | BodyFlag.MEASURED)


@pytest.mark.parametrize(("coding", "error"), [("", 20), ("gzip", 120), ("br", 350)])
def test_a_cut_body_is_estimated(coding: str, error: int) -> None:
    """brotli gives what it has decoded later than the others."""
    rows = [{"id": i, "email": f"ada{i * 7919 % 9973}@example.org"} for i in range(1_000)]
    body = json.dumps(rows).encode()
    wire = ENCODERS[coding](body) if coding else body
    facts = BodyReader(ALL).read(_call(response_head(coding=coding, length=len(wire)), wire[:-3_000], wire=wire))
    assert facts is not None
    assert facts.flags == BodyFlag.REQUEST_READ | BodyFlag.RESPONSE_READ | BodyFlag.ESTIMATED
    assert abs(facts.records - 1_000) < error
    assert list_kinds(facts.data, DataPlace.RESPONSE_BODY) == [DataKind.EMAIL]


def test_a_body_that_ends_with_its_connection() -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
    facts = BodyReader(ALL).read(_call(head, BODY))
    assert facts is not None
    assert (facts.records, facts.flags & BodyFlag.MEASURED) == (40, BodyFlag.MEASURED)


def test_what_follows_the_message_is_no_part_of_it() -> None:
    head = response_head()
    facts = BodyReader(ALL).read(_call(head, chunk(BODY) + b"HTTP/1.1 200 OK\r\n\r\n[1,2", wire=chunk(BODY)))
    assert facts is not None
    assert facts.records == 40


def test_errors_return_no_records_but_may_leak() -> None:
    facts = BodyReader(ALL).read(_call(response_head(length=len(BODY)), BODY, status=500))
    assert facts is not None
    assert (facts.records, facts.flags) == (0, BodyFlag.REQUEST_READ | BodyFlag.RESPONSE_READ)
    assert set(facts.data) >= FOUND


def test_between_samples_records_are_estimated() -> None:
    reader = BodyReader(SampleRule(first_count=1))
    head = response_head(length=len(BODY))
    assert reader.estimate(9, 200, 5_000) is None
    assert reader.read(_call(head, BODY)) is not None
    size = len(head) + len(BODY)
    estimated = BodyFacts(40, (), BodyFlag.ESTIMATED)
    assert reader.read(_call(head, BODY, time_ns=2)) == estimated
    assert reader.estimate(9, 200, size) == estimated
    assert reader.estimate(9, 404, size) is None
    assert reader.read_count == 2


def test_a_page_for_people_is_not_counted_by_the_lists_of_its_route() -> None:
    """One route answers programs with a list and browsers with a large page."""
    reader = BodyReader(ALL)
    assert reader.read(_call(response_head(length=len(BODY)), BODY)) is not None
    page = b"<!doctype html><html><body>" + b"<p>A line of help.</p>" * 5_000 + b"</body></html>"
    facts = reader.read(_call(response_head(media_type="text/html", length=len(page)), page, time_ns=2))
    assert facts is not None
    assert (facts.records, facts.flags & (BodyFlag.MEASURED | BodyFlag.ESTIMATED)) == (0, BodyFlag.NONE)


@pytest.mark.parametrize(
    ("head", "raw", "word"),
    [
        (response_head(media_type="image/svg", length=9), b"<p>x</p>!", "type_not_read"),
        (response_head(length=9), b"<p>x</p>!", "not_its_type"),
        (response_head(coding="gzip", length=9), b"<p>x</p>!", "coding_broken"),
        (response_head(coding="exi", length=9), b"<p>x</p>!", "coding_unknown"),
    ],
)
def test_what_cannot_be_read_is_counted(head: bytes, raw: bytes, word: str) -> None:
    reader = BodyReader(ALL)
    facts = reader.read(_call(head, raw))
    assert facts is not None
    assert facts.flags == BodyFlag.REQUEST_READ
    assert reader.unread == {word: 1}
    assert {figure.name: figure.value for figure in reader.figures()}[f"bodies_{word}"] == 1


@given(st.binary(max_size=400), st.binary(max_size=400), st.binary(max_size=400))
def test_never_raises(head: bytes, asked: bytes, told: bytes) -> None:
    reader = BodyReader(ALL)
    for response in (head, response_head() + head, b"HTTP/1.1 200 OK\r\n\r\n"):
        reader.read(BodyCall(1, 200, head, response, 500, 500, 1, RawBodies(asked, told)))


def test_no_repr_shows_a_value() -> None:
    call = _call(response_head(length=len(BODY)), BODY)
    assert "example" not in repr(call) + repr(call.bodies)
    assert "horse" not in repr(call) + repr(call.bodies)


@pytest.mark.parametrize("coding", ["", *ENCODERS])
def test_bodies_of_a_stream(coding: str) -> None:
    """They come without framing."""
    encoded = ENCODERS[coding](BODY) if coding else BODY
    asked, told = (
        Payload(data, True, b"application/json", content_encoding)
        for data, content_encoding in ((ASKED, b""), (encoded, coding.encode()))
    )
    call = BodyCall(9, 200, b"", b"", 100, 90 + len(encoded), 1, None, (asked, told), 90)
    facts = BodyReader(ALL).read(call)
    read = BodyFlag.REQUEST_READ | BodyFlag.RESPONSE_READ
    assert facts == BodyFacts(40, BOTH, read | BodyFlag.MEASURED)


def test_a_cut_body_of_a_stream_is_estimated() -> None:
    nothing, told = Payload(b"", True, b"", b""), Payload(BODY[: len(BODY) // 2], False, b"application/json", b"")
    facts = BodyReader(ALL).read(BodyCall(9, 200, b"", b"", 50, 90 + len(BODY), 1, None, (nothing, told), 90))
    assert facts is not None and facts.flags == BodyFlag.RESPONSE_READ | BodyFlag.ESTIMATED
    assert abs(facts.records - 40) <= 2


def test_what_is_not_protobuf_is_counted() -> None:
    reader, body = BodyReader(ALL), Payload(b"\1\0\0\0\2\x08\x01", True, b"application/grpc", b"")
    assert reader.read(BodyCall(9, 200, b"", b"", 50, 50, 1, None, (body, body), 20)) is None
    assert reader.unread == {"not_its_type": 2}

"""Exchanges out of kernel events: parts joined, ends told once, lost heads counted, everything bounded."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.packets import exchange as exchange_module
from sensor.capture.packets.exchange import DROP_HEAD_LOST, ExchangeAssembler
from sensor.core.calls import Role
from sensor.core.health import StageCounter
from sensor.coverage.unread import UnreadCount, UnreadEnd, UnreadReason
from sensor.ebpf.abi import EVENT, EventFlag, EventKind, KernelEvent
from tests.sensor.records import make_exchange

FIRST, LAST, ENDED, ABORTED = EventFlag.FIRST, EventFlag.LAST, EventFlag.ENDED, EventFlag.ABORTED
WHOLE = FIRST | LAST
SECOND_NS = 1_000_000_000


def event(
    kind: EventKind, flags: int, data: bytes = b"", *, connection: int = 7, call: int = 0, **fields: int
) -> memoryview:
    """One record as the ring gives it."""
    values = KernelEvent(
        time_ns=fields.get("time_ns", 5_000),
        connection=connection,
        cgroup_id=3,
        peer_cgroup_id=4,
        request_time_ns=1_000,
        response_time_ns=fields.get("response_time_ns", 4_000),
        end_time_ns=fields.get("end_time_ns", 9_000),
        request_bytes=100,
        response_bytes=200,
        call=call,
        position=fields.get("position", 0),
        length=len(data),
        status=fields.get("status", 200),
        local_port=80,
        remote_port=50_000,
        kind=kind,
        role=1,
        flags=flags,
        family=4,
        marks=fields.get("marks", 0),
        profile=21,
        host=22,
        credential=23,
        local_address=b"\x7f\x00\x00\x01" + bytes(12),
        remote_address=b"\x0a\x01\x02\x03" + bytes(12),
    )
    return memoryview(EVENT.pack(*values) + data + bytes(5))


def test_an_event_that_fails_is_given_up_and_the_next_is_taken(assembler: ExchangeAssembler) -> None:
    request = event(EventKind.REQUEST_HEAD, WHOLE, b"GET / HTTP/1.1\r\n\r\n")
    answer = event(EventKind.RESPONSE_HEAD, WHOLE | ENDED, b"HTTP/1.1 200 OK\r\n\r\n")
    assert len(assembler.take([request, memoryview(b"short"), answer])) == 1


@pytest.fixture
def stage() -> StageCounter:
    return StageCounter("exchange")


@pytest.fixture
def assembler(stage: StageCounter) -> ExchangeAssembler:
    return ExchangeAssembler(
        to_unix_ns=lambda ns: ns + SECOND_NS, stage=stage, take_first_bytes=lambda event, data: None
    )


def test_a_head_in_long_parts_is_joined_and_shortened(assembler: ExchangeAssembler) -> None:
    raw = b"GET /long HTTP/1.1\r\n" + b"X-Pad: %s\r\n" % (b"p" * 50_000) + b"Host: shop\r\n\r\n"
    (exchange,) = assembler.take(
        [
            event(EventKind.REQUEST_HEAD, FIRST, raw[:40_000]),
            event(EventKind.REQUEST_HEAD, LAST, raw[40_000:], position=40_000),
            event(EventKind.RESPONSE_HEAD, WHOLE | ENDED, b"HTTP/1.1 200 OK\r\n\r\n"),
        ]
    )
    assert exchange.request_head == b"GET /long HTTP/1.1\r\nHost: shop\r\n\r\n"
    assert exchange.is_request_head_truncated
    end = UnreadEnd(3, 80, "10.1.2.3", UnreadReason.HEAD)
    assert assembler.unread.totals == {end: UnreadCount(1, len(raw) - len(exchange.request_head))}


def test_a_head_of_which_no_more_is_copied_keeps_what_was(assembler: ExchangeAssembler) -> None:
    """The budget refused the second part: its event has no data, and a place that fits nothing."""
    (exchange,) = assembler.take(
        [
            event(EventKind.REQUEST_HEAD, FIRST, b"GET /cut HTTP/1.1\r\nHost: sh"),
            event(EventKind.REQUEST_HEAD, LAST | EventFlag.TRUNCATED, position=262_144),
            event(EventKind.RESPONSE_HEAD, WHOLE | ENDED, b"HTTP/1.1 200 OK\r\n\r\n"),
        ]
    )
    assert exchange.request_head == b"GET /cut HTTP/1.1\r\nHost: sh" and exchange.is_request_head_truncated


def test_a_call_in_two_events(assembler: ExchangeAssembler, stage: StageCounter) -> None:
    (exchange,) = assembler.take(
        [
            event(EventKind.REQUEST_HEAD, WHOLE, b"GET / HTTP/1.1\r\n\r\n"),
            event(EventKind.RESPONSE_HEAD, WHOLE | ENDED, b"HTTP/1.1 200 OK\r\n\r\n"),
        ]
    )
    assert exchange == make_exchange(
        time_unix_ns=SECOND_NS + 1_000,
        connection=7,
        call=0,
        role=Role.SERVER,
        cgroup_id=3,
        peer_cgroup_id=4,
        local_address="127.0.0.1",
        local_port=80,
        remote_address="10.1.2.3",
        remote_port=50_000,
        request_head=b"GET / HTTP/1.1\r\n\r\n",
        is_request_head_truncated=False,
        response_head=b"HTTP/1.1 200 OK\r\n\r\n",
        status_code=200,
        request_bytes=100,
        response_bytes=200,
        time_to_first_byte_ns=3_000,
        duration_ns=8_000,
        calls=1,
        is_final=True,
        is_aborted=False,
        is_lossy=False,
        profile=21,
        host=22,
        credential=23,
    )
    assert len(assembler._pending) == 0
    assert (stage.count().seen, stage.count().used) == (1, 1)
    assert b"GET" not in repr(exchange).encode()


@pytest.mark.parametrize("marks", [(1, 0), (0, 1), (0, 0)])
def test_a_mark_of_the_head_or_of_the_end_counts(assembler: ExchangeAssembler, marks: tuple[int, int]) -> None:
    """Where a request has no certain end is known with its head, or with its chunks."""
    (exchange,) = assembler.take(
        [
            event(EventKind.REQUEST_HEAD, WHOLE, b"POST / HTTP/1.1\r\n\r\n", marks=marks[0]),
            event(EventKind.RESPONSE_HEAD, WHOLE | ENDED, b"HTTP/1.1 200 OK\r\n\r\n", marks=marks[1]),
        ]
    )
    assert exchange.figures.is_ambiguous is any(marks)


def test_parts_are_joined_and_a_first_part_starts_over(assembler: ExchangeAssembler) -> None:
    (exchange,) = assembler.take(
        [
            event(EventKind.REQUEST_HEAD, FIRST, b"garbage"),
            event(EventKind.REQUEST_HEAD, FIRST, b"GE"),
            event(EventKind.REQUEST_HEAD, 0, b"T / HT", position=2),
            event(EventKind.REQUEST_HEAD, LAST, b"TP/1.1\r\n\r\n", position=8),
            event(EventKind.RESPONSE_HEAD, FIRST, b"HTTP/1.1 "),
            event(EventKind.RESPONSE_HEAD, LAST, b"204 \r\n\r\n", position=9),
            event(EventKind.CALL_END, ENDED),
        ]
    )
    assert exchange.request_head == b"GET / HTTP/1.1\r\n\r\n"
    assert exchange.response_head == b"HTTP/1.1 204 \r\n\r\n"


def test_a_lost_request_head_is_counted(assembler: ExchangeAssembler, stage: StageCounter) -> None:
    assert assembler.take([event(EventKind.RESPONSE_HEAD, WHOLE | ENDED, b"HTTP/1.1 200 \r\n\r\n")]) == []
    assert dict(stage.count().dropped) == {DROP_HEAD_LOST: 1}


def test_a_lost_end_is_forgotten_at_the_next_call(assembler: ExchangeAssembler, stage: StageCounter) -> None:
    exchanges = assembler.take(
        [
            event(EventKind.REQUEST_HEAD, WHOLE, b"GET /a HTTP/1.1\r\n\r\n", call=0),
            event(EventKind.REQUEST_HEAD, WHOLE, b"GET /b HTTP/1.1\r\n\r\n", call=1),
            event(EventKind.RESPONSE_HEAD, WHOLE | ENDED, b"HTTP/1.1 200 \r\n\r\n", call=1),
        ]
    )
    assert [exchange.call for exchange in exchanges] == [1]
    assert len(assembler._pending) == 0
    assert stage.count().seen == 1  # The kernel counted the other.


@pytest.mark.parametrize("polled", [0, SECOND_NS])
def test_a_lost_end_of_an_answered_call_is_told_without_it(
    assembler: ExchangeAssembler, stage: StageCounter, polled: int
) -> None:
    exchanges = assembler.take(
        [
            event(EventKind.REQUEST_HEAD, WHOLE, b"GET /a HTTP/1.1\r\n\r\n", call=0),
            event(EventKind.RESPONSE_HEAD, WHOLE, b"HTTP/1.1 200 \r\n\r\n", call=0, time_ns=5_000),
        ]
    )
    exchanges += assembler.poll(5_000 + polled)
    exchanges += assembler.take(
        [
            event(EventKind.REQUEST_HEAD, WHOLE, b"GET /b HTTP/1.1\r\n\r\n", call=1),
            event(EventKind.RESPONSE_HEAD, WHOLE | ENDED, b"HTTP/1.1 200 \r\n\r\n", call=1),
        ]
    )
    assert sorted((one.call, one.figures.calls, one.figures.is_final) for one in exchanges) == [
        (0, 1, False),
        (1, 1, True),
    ]
    assert (stage.count().seen, stage.count().used) == (2, 2)


def test_an_aborted_call_has_no_status(assembler: ExchangeAssembler) -> None:
    (exchange,) = assembler.take(
        [
            event(EventKind.REQUEST_HEAD, WHOLE, b"GET / HTTP/1.1\r\n\r\n"),
            event(EventKind.CALL_END, ENDED | ABORTED, status=0, response_time_ns=0),
        ]
    )
    assert (exchange.figures.is_aborted, exchange.figures.status_code, exchange.figures.time_to_first_byte_ns) == (
        True,
        0,
        0,
    )


@pytest.mark.parametrize(
    ("method", "media_type", "copied"),
    [
        ("GET", "text/event-stream", b"data: 1"),
        ("POST", "text/event-stream", None),
        ("GET", "application/octet-stream", None),
    ],
)
def test_the_early_half_of_server_sent_events_has_what_came_of_them(
    assembler: ExchangeAssembler, method: str, media_type: str, copied: bytes | None
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n\r\n".encode()
    end = event(EventKind.RESPONSE_HEAD, ENDED, time_ns=9_000)
    assembler.take(
        [
            event(EventKind.REQUEST_HEAD, WHOLE, f"{method} / HTTP/1.1\r\n\r\n".encode()),
            event(EventKind.RESPONSE_HEAD, WHOLE, head, time_ns=5_000, end_time_ns=0),
            event(EventKind.RESPONSE_BODY, 0, b"data: 1"),
        ]
    )
    (early,) = assembler.poll(5_000 + SECOND_NS)
    assert (early.bodies and early.bodies.response) == copied
    (late,) = assembler.take([event(EventKind.RESPONSE_BODY, 0, b"23", position=7), end])
    assert late.bodies is not None
    assert late.bodies.response == b"data: 123"


def test_a_long_response_is_told_after_a_second_and_completed(
    assembler: ExchangeAssembler, stage: StageCounter
) -> None:
    assembler.take(
        [
            event(EventKind.REQUEST_HEAD, WHOLE, b"GET / HTTP/1.1\r\n\r\n"),
            event(EventKind.RESPONSE_HEAD, WHOLE, b"HTTP/1.1 200 \r\n\r\n", time_ns=5_000, end_time_ns=0),
        ]
    )
    assert assembler.poll(5_000 + SECOND_NS - 1) == []
    (early,) = assembler.poll(5_000 + SECOND_NS)
    assert (early.figures.calls, early.figures.is_final, early.figures.response_bytes, early.figures.status_code) == (
        1,
        False,
        0,
        200,
    )
    assert assembler.poll(5_000 + 9 * SECOND_NS) == []
    (late,) = assembler.take([event(EventKind.CALL_END, ENDED)])
    assert (late.figures.calls, late.figures.is_final, late.figures.response_bytes) == (0, True, 200)
    assert (stage.count().seen, stage.count().used) == (1, 1)


def test_the_client_end_of_a_local_call_is_forgotten(assembler: ExchangeAssembler) -> None:
    assert (
        assembler.take([event(EventKind.REQUEST_HEAD, WHOLE, b"GET / HTTP/1.1\r\n\r\n"), event(EventKind.FORGET, 0)])
        == []
    )
    assert len(assembler._pending) == 0


def test_the_oldest_is_given_up_as_one_whose_end_nobody_saw(
    assembler: ExchangeAssembler, stage: StageCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "PENDING_MAX", 2)
    exchanges = assembler.take(
        [event(EventKind.REQUEST_HEAD, WHOLE, b"GET / HTTP/1.1\r\n\r\n", connection=n) for n in range(3)]
    )
    assert [(e.ends.connection, e.figures.is_lossy, e.figures.is_aborted, e.figures.calls) for e in exchanges] == [
        (0, True, False, 1)
    ]
    assert len(assembler._pending) == 2
    assert stage.count().seen == stage.count().used == 1


@pytest.mark.parametrize(
    ("lost", "request_head"), [(None, b"GET /a HTTP/1.1\r\n\r\n"), (0, None), (1, None), (2, None)]
)
def test_a_request_head_of_which_a_part_was_lost_is_none(
    assembler: ExchangeAssembler, stage: StageCounter, lost: int | None, request_head: bytes | None
) -> None:
    parts = [
        event(EventKind.REQUEST_HEAD, FIRST, b"GET /a "),
        event(EventKind.REQUEST_HEAD, 0, b"HTTP/1.1\r\n", position=7),
        event(EventKind.REQUEST_HEAD, LAST, b"\r\n", position=17),
    ]
    came = [part for number, part in enumerate(parts) if number != lost]
    told = assembler.take([*came, event(EventKind.CALL_END, ENDED)])
    assert [one.request_head for one in told] == ([] if request_head is None else [request_head])
    assert stage.count().dropped == (() if lost is None else ((DROP_HEAD_LOST, 1),))
    assert (len(assembler._pending), assembler._pending_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("lost", "response_head"), [(0, b""), (1, b"HTTP/1.1 200 OK\r\n"), (2, b"HTTP/1.1 200 OK\r\nA: 1\r\n")]
)
def test_a_response_head_ends_where_a_part_was_lost(
    assembler: ExchangeAssembler, lost: int, response_head: bytes
) -> None:
    parts = [
        event(EventKind.RESPONSE_HEAD, FIRST, b"HTTP/1.1 200 OK\r\n"),
        event(EventKind.RESPONSE_HEAD, 0, b"A: 1\r\n", position=17),
        event(EventKind.RESPONSE_HEAD, LAST, b"\r\n", position=23),
    ]
    came = [part for number, part in enumerate(parts) if number != lost]
    asked = event(EventKind.REQUEST_HEAD, WHOLE, b"GET / HTTP/1.1\r\n\r\n")
    (told,) = assembler.take([asked, *came, event(EventKind.CALL_END, ENDED)])
    assert told.response_head == response_head
    assert (len(assembler._pending), assembler._pending_bytes) == (0, 0)


def test_a_call_whose_end_may_have_been_lost_is_given_up_untold(
    assembler: ExchangeAssembler, stage: StageCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the kernel has counted it."""
    monkeypatch.setattr(exchange_module, "PENDING_MAX", 2)
    heads = [
        event(EventKind.REQUEST_HEAD, WHOLE, b"GET / HTTP/1.1\r\n\r\n", connection=n, time_ns=5_000 + n)
        for n in range(5)
    ]
    assembler.doubt(5_001)
    assert [one.ends.connection for one in assembler.take(heads)] == [2]
    assert len(assembler._pending) == 2
    assert stage.count().seen == stage.count().used == 1


@st.composite
def _streams(draw: st.DrawFn) -> Iterable[memoryview]:
    kinds = st.sampled_from([kind for kind in EventKind if kind <= EventKind.FORGET])
    flags = st.integers(0, 127)
    return [
        event(
            draw(kinds),
            draw(flags),
            draw(st.binary(max_size=6)),
            connection=draw(st.integers(0, 2)),
            call=draw(st.integers(0, 3)),
        )
        for _ in range(draw(st.integers(0, 40)))
    ]


@given(records=_streams())
def test_any_events_keep_the_account(records: Iterable[memoryview]) -> None:
    stage = StageCounter("exchange")
    assembler = ExchangeAssembler(to_unix_ns=lambda ns: ns, stage=stage, take_first_bytes=lambda event, data: None)
    taken = assembler.take(records)
    ended = sum(
        1
        for record in records
        if (e := KernelEvent._make(EVENT.unpack_from(record))).flags & ENDED and e.kind in (2, 3)
    )
    endless = sum(not exchange.figures.is_final for exchange in taken)  # Their ends were lost at the ring.
    assert stage.count().seen == ended + endless
    assert stage.count().used == len(taken)
    assert stage.held == 0

"""Calls that are like one just described are counted from that, with their own times and sizes, and no others are."""

import msgspec
import pytest

from sensor.capture.http2.repeats import LIFE_NS, Repeats
from sensor.core.calls import CALL, BodyFlag, Ends
from sensor.describe.bodies.sampling import Estimate
from sensor.http.http2.exchange import StreamExchange, build_stream_exchange
from sensor.http.http2.streams import AlikeCalls, CallPattern, StreamBodies, StreamCall
from tests.sensor.capture.http2.test_exchange import ENDS, make_call

CALL_OF_ONE = msgspec.structs.replace(make_call(), is_lossy=False)
NAMES = CALL.names or ()
ROW = tuple(0 if name == "body" else 1_000 + place for place, name in enumerate(NAMES))
OWN = {"time_unix_ns", "request_bytes", "response_bytes", "duration_us", "ttfb_us"}


def exchange(call: StreamCall = CALL_OF_ONE, ends: Ends = ENDS) -> StreamExchange:
    return build_stream_exchange(ends, call, int)


@pytest.fixture
def repeats() -> Repeats:
    repeats = Repeats()
    repeats.begin(0, 0)
    repeats.keep(exchange(), ROW)
    return repeats


def test_a_repeated_call_has_its_own_times_and_sizes(repeats: Repeats) -> None:
    again = msgspec.structs.replace(
        CALL_OF_ONE, stream=25, request_bytes=7, response_bytes=9, started_ns=5_000, answered_ns=8_000, ended_ns=99_000
    )
    row = repeats.find(exchange(again))
    assert row is not None
    found = dict(zip(NAMES, row, strict=True))
    assert {name: found[name] for name in OWN} == {
        "time_unix_ns": 5_000,
        "request_bytes": 7,
        "response_bytes": 9,
        "duration_us": 94,
        "ttfb_us": 3,
    }
    assert {name: value for name, value in found.items() if name not in OWN} == {
        name: ROW[place] for place, name in enumerate(NAMES) if name not in OWN
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"status_code": 500},
        {"response_content_type": "text/plain"},
        {"grpc_status": 5},
        {"request_messages": 3},
        {"response_messages": 3},
        {"calls": 0},
        {"is_final": False},
        {"is_aborted": True},
        {"is_lossy": True},
        {"has_unknown_fields": True},
        {"is_inferred": True},
        {"request": msgspec.structs.replace(CALL_OF_ONE.request)},
    ],
)
def test_a_call_that_differs_is_described(repeats: Repeats, changes: dict[str, object]) -> None:
    assert repeats.find(exchange()) is not None
    assert repeats.find(exchange(msgspec.structs.replace(CALL_OF_ONE, **changes))) is None


def test_another_connection_is_described(repeats: Repeats) -> None:
    assert repeats.find(exchange(ends=msgspec.structs.replace(ENDS, connection=8))) is None


def test_what_is_lossy_teaches_nothing() -> None:
    repeats = Repeats()
    repeats.begin(0, 0)
    lossy = exchange(msgspec.structs.replace(CALL_OF_ONE, is_lossy=True))
    repeats.keep(lossy, ROW)
    assert repeats.find(exchange()) is None


BODIES = StreamBodies(b"", b"{}", True, True, b"", 9)


def test_a_call_whose_bodies_came_is_described_and_teaches_nothing(repeats: Repeats) -> None:
    sampled = exchange(msgspec.structs.replace(CALL_OF_ONE, bodies=BODIES))
    assert repeats.find(sampled) is None
    fresh = Repeats()
    fresh.begin(0, 0)
    fresh.keep(sampled, ROW)
    assert fresh.find(exchange()) is None


def pattern_of(call: StreamCall) -> StreamCall:
    return msgspec.structs.replace(call, pattern=CallPattern(call, ()))


@pytest.mark.parametrize("record_bytes", [0.0, 10.0])
@pytest.mark.parametrize("has_pattern", [False, True])
def test_records_that_follow_from_the_size(record_bytes: float, has_pattern: bool) -> None:
    estimate = Estimate(100.0, record_bytes, 1_000)
    row = tuple(BodyFlag.ESTIMATED.value if name == "body" else 7 for name in NAMES)
    alike = AlikeCalls()
    repeats = Repeats(alike)
    repeats.begin(0, 0)
    first = pattern_of(CALL_OF_ONE) if has_pattern else CALL_OF_ONE
    repeats.keep(exchange(first), row, estimate)
    sizes = (90, 100, 144, 146, 10_000)
    expected = [estimate.count(size) for size in sizes]
    found = [repeats.find(exchange(msgspec.structs.replace(first, response_bytes=size))) for size in sizes]
    assert [dict(zip(NAMES, one or (), strict=True))["records"] for one in found] == expected
    if has_pattern:
        for size in sizes:
            alike.figures.extend((first.pattern.place, 1, 2, 3, 4, size))
        assert repeats.collect(0)["records"].tolist() == expected


def test_what_is_told_of_bodies_depends_on_their_size() -> None:
    repeats = Repeats()
    repeats.begin(0, 0)
    repeats.keep(exchange(), tuple(1 if name == "body" else 0 for name in NAMES))
    assert repeats.find(exchange()) is None


@pytest.mark.parametrize(("now_ns", "generation"), [(LIFE_NS, 0), (1, 1)])
def test_rows_do_not_outlive_their_time_and_the_facts(repeats: Repeats, now_ns: int, generation: int) -> None:
    repeats.begin(1, 0)
    assert repeats.find(exchange()) is not None
    repeats.begin(now_ns, generation)
    assert repeats.find(exchange()) is None

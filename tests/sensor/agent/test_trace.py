"""What `apidae trace` gets of a sensor: each call with its stages, rows until they are acknowledged, and what stops."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sensor.agent.trace import (
    ADDED_UP,
    KERNEL_CACHE,
    NOT_READ,
    NOT_READ_FIX,
    SensorView,
    Trace,
    TraceRefusedError,
    TraceRequest,
)
from sensor.aggregate.aggregator import Aggregator
from sensor.capture.syscalls.streams import DROP_CUT, DROP_HEAD_LOST
from sensor.core.calls import CALL, CallFlag
from sensor.core.config import CaptureWay
from sensor.core.health import StageCount
from sensor.core.state import SensorState, StartError
from sensor.coverage.remedies import OF_DROPS, OF_PROTOCOLS
from sensor.coverage.report import CLOSED
from sensor.coverage.row import PortCoverage, PortProtocol, build_node_row
from sensor.describe.filter import Exclusion
from sensor.export.convert import UNWRITABLE, BatchConverter
from tests.sensor.agent.test_agent import make_records
from tests.sensor.clocks import FakeClock
from tests.sensor.export.collector import FakeCollector
from tests.sensor.records import ROUTE, make_exchange, make_record, make_service
from tests.sensor.sensor_fakes import make_users_exchange
from tests.sensor.sensor_life import Life, live, wait_capturing

SERVICE = ROUTE.service
PORT = SERVICE.port
VIEW = SensorView(
    state=SensorState.CAPTURING, way=CaptureWay.CGROUP_SKB, fallback_reason="", reads_tls=False, is_connected=True
)


def make_row(protocol: PortProtocol, *, connections: int, reason: str = "", calls: int = 0) -> PortCoverage:
    return PortCoverage(
        service=SERVICE, protocol=protocol, connections=connections, bytes=connections * 100, address="0.0.0.0",
        reason=reason, calls=calls,
    )  # fmt: skip


class Traced:
    """A trace of the port, with an aggregator and a converter beside it, by a clock that stands still."""

    def __init__(self, *, calls: int = 20, view: SensorView = VIEW) -> None:
        self.clock = FakeClock()
        self.aggregator = Aggregator()
        self.converter = BatchConverter(node="node-1", boot_id="c" * 32)
        request = TraceRequest(port=PORT, calls=calls)
        facts, self.rows, self.stages = self.aggregator.facts, [], ()
        self.trace = Trace(request, view, facts=facts, clock=self.clock)
        self.look()

    rows: list[PortCoverage]
    stages: tuple[StageCount, ...]

    def look(self) -> None:
        self.trace.observe(lambda: self.rows, lambda: self.stages)

    def call(self, **changes: object) -> None:
        exchange, record = make_exchange(), make_record(time_unix_ns=self.clock.unix_ns(), **changes)
        self.trace.see_row(exchange, self.aggregator.add(record))

    def pass_second(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.advance(1)
            self.poll()

    def poll(self) -> None:
        columns = self.aggregator.poll(self.clock.unix_ns())
        batches = []
        if len(columns):
            batches = self.converter.convert(
                columns, key_id=1, policy_epoch=0, clock_segment=0, lost_calls_total=0, seen_calls_total=0
            )
        self.trace.see_batches(columns, batches, self.clock.unix_ns())
        self.look()

    def pop(self, kind: str) -> list[Mapping[str, object]]:
        return [event for event in self.trace.pop() if event["event"] == kind]


def test_a_call_is_followed_until_its_row_is_acknowledged() -> None:
    traced = Traced()
    traced.call()
    traced.pass_second()
    events = list(traced.trace.pop())
    assert [event["event"] for event in events] == ["begin", "call", "sent"]
    call = events[1]
    assert (call["method"], call["template"], call["status"], call["version"]) == (
        "GET",
        "/users/{word}/{integer}",
        200,
        "1.1",
    )
    assert (events[2]["numbers"], events[2]["batches"]) == ([1], [1])
    traced.trace.settle(1, "acknowledged")
    (settled,) = traced.pop("settled")
    assert (settled["numbers"], settled["stage"], settled["reason"]) == ([1], "spool", "acknowledged")


def test_a_row_that_is_known_leaves_with_its_window_and_not_with_the_next_early_one() -> None:
    traced = Traced()
    traced.call()
    traced.pass_second()
    traced.call()  # Of a row that left before: kept in the window.
    traced.pass_second()
    assert [event["numbers"] for event in traced.pop("sent")] == [[1]]
    for _ in range(20):  # So many within a second leave early, without the one before.
        traced.call()
    traced.pass_second()
    (early,) = traced.pop("sent")
    assert 2 not in early["numbers"]  # type: ignore[operator]
    traced.pass_second(12)
    assert [event["numbers"] for event in traced.pop("sent")] == [[2]]


def test_a_call_of_the_current_second_is_not_in_the_early_row_of_the_second_before() -> None:
    traced = Traced()
    traced.call()
    traced.clock.advance(1)
    traced.call()
    traced.poll()
    assert [event["numbers"] for event in traced.pop("sent")] == [[1]]
    traced.pass_second(12)
    assert [event["numbers"] for event in traced.pop("sent")] == [[2]]


@pytest.mark.parametrize("outcome", ["refused", "spool_full"])
def test_a_batch_that_is_lost_stops_its_calls_with_the_fix(outcome: str) -> None:
    traced = Traced()
    traced.call()
    traced.pass_second()
    traced.trace.settle(1, outcome)
    (settled,) = traced.pop("settled")
    assert (settled["reason"], settled["fix"]) == (outcome, OF_DROPS[outcome])


def test_calls_that_ended_before_the_trace_began_are_not_shown() -> None:
    traced = Traced()
    before_ns = traced.clock.unix_ns() - 10**9
    for ended_ns in (before_ns + 10**8, before_ns + 2 * 10**9):
        record = make_record(time_unix_ns=before_ns, duration_ns=ended_ns - before_ns)
        traced.trace.see_row(make_exchange(), traced.aggregator.add(record))
    assert [event["number"] for event in traced.pop("call")] == [1]


def test_an_estimated_call_is_not_lost_at_the_ring_but_of_a_service_that_is_not_read_always() -> None:
    traced = Traced()
    calls = np.array([tuple(traced.aggregator.add(make_record(time_unix_ns=traced.clock.unix_ns())))], CALL)
    calls["flags"] |= int(CallFlag.ENCRYPTED | CallFlag.ESTIMATED)
    traced.trace.see_calls(calls, ADDED_UP)
    (call,) = traced.pop("call")
    assert (call["reason"], call["fix"]) == (NOT_READ, NOT_READ_FIX)


def test_calls_of_another_port_are_not_shown() -> None:
    traced = Traced()
    other = Trace(TraceRequest(port=PORT + 1), VIEW, facts=traced.aggregator.facts, clock=traced.clock)
    other.observe(list, lambda: ())
    other.see_row(make_exchange(), traced.aggregator.add(make_record()))
    other.see_exchange(make_exchange(), None)
    assert [event["event"] for event in other.pop()] == ["begin"]


def test_excluded_calls_are_named_once_and_no_more_by_the_coverage() -> None:
    traced = Traced()
    exclusion = Exclusion(SERVICE, "health checks", "Recognised and kept out.")
    traced.trace.see_exchange(make_exchange(), exclusion)
    (call,) = traced.pop("call")
    assert (call["stage"], call["reason"]) == ("describe", "health checks: Recognised and kept out.")
    traced.rows = [replace(make_row(PortProtocol.LEFT_OUT, connections=0, calls=3), address="health checks")]
    traced.pass_second()
    assert [event["calls"] for event in traced.pop("port")] == [2]


def test_unread_connections_are_those_since_the_last_look() -> None:
    traced = Traced()
    traced.rows = [make_row(PortProtocol.ENCRYPTED, connections=2, reason="TLS.")]
    traced.pass_second()
    traced.rows = [make_row(PortProtocol.ENCRYPTED, connections=5, reason="TLS.")]
    traced.pass_second()
    events = traced.pop("port")
    assert [event["connections"] for event in events] == [2, 3]
    assert {(event["stage"], event["reason"]) for event in events} == {("kernel", "TLS.")}
    assert all(str(event["fix"]).startswith("Set read_tls") for event in events)


def test_a_trace_ends_after_its_calls_once_their_rows_are_acknowledged() -> None:
    traced = Traced(calls=2)
    for _ in range(3):
        traced.call()
    traced.pass_second()
    assert not traced.trace.is_over
    traced.trace.settle(1, "acknowledged")
    traced.look()
    assert traced.trace.is_over
    events = list(traced.trace.pop())
    assert [event["number"] for event in events if event["event"] == "call"] == [1, 2]
    assert events[-1]["why"] == "2 calls"
    assert events[-1]["sums"] == {"acknowledged": 2, "more": 1, "read": 2, "sent": 2}


def test_what_the_collector_does_not_acknowledge_is_named_at_the_end() -> None:
    traced = Traced(calls=1)
    traced.call()
    traced.pass_second(20)
    assert traced.trace.is_over
    (end,) = traced.pop("end")
    assert end["unacknowledged"] == [1]
    assert "log" in str(end["advice"])


def test_losses_of_stages_and_of_the_node_meanwhile_are_in_the_end() -> None:
    traced = Traced(calls=1)
    missed = build_node_row(make_service(port=0), "heads past the budget", "Raise heads_per_second.", connections=7)
    traced.stages = (StageCount(stage="exchange", seen=9, used=7, dropped=(("request_head_lost", 2),)),)
    traced.rows = [missed]
    traced.call()
    traced.pass_second(20)
    lost = traced.pop("lost")
    assert [(event["stage"], event["reason"], event["calls"]) for event in lost] == [
        ("exchange", "request_head_lost", 2),
        ("kernel", "Raise heads_per_second.", 7),
    ]


@pytest.mark.parametrize(
    ("view", "rows", "advice"),
    [
        (replace(VIEW, state=SensorState.PAUSED), [], "The sensor is paused"),
        (VIEW, [], f"Nothing that this sensor watches listens on port {PORT}"),
        (VIEW, [make_row(PortProtocol.HTTP, connections=0, reason=CLOSED)], "Nothing that this sensor watches listens"),
        (VIEW, [make_row(PortProtocol.SILENT, connections=0)], f"No connection to port {PORT} came"),
    ],
    ids=["paused", "nobody listens", "nobody listens any more", "nobody calls"],
)
def test_a_trace_without_a_call_ends_with_the_next_step(
    view: SensorView, rows: list[PortCoverage], advice: str
) -> None:
    traced = Traced(view=view)
    traced.rows = rows
    traced.pass_second(31)
    (end,) = traced.pop("end")
    assert (end["why"], end["sums"]) == ("30 s", {})
    assert str(end["advice"]).startswith(advice)


def test_a_fault_of_the_trace_ends_it_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    traced = Traced()
    for _ in range(3):  # Calls come until whoever reads the trace has seen its end.
        traced.trace.see_row(make_exchange(), ("no", "columns"))  # type: ignore[arg-type]
    assert traced.trace.is_over
    assert caplog.text.count("a trace failed and ends") == 1
    assert len(traced.pop("end")) == 1


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "name one with --port or --service"),
        ({"port": 70_000}, "port is 70000; use a whole number from 0 to 65,535"),
        ({"port": "80"}, "port is '80'"),
        ({"port": 80, "calls": 0}, "calls is 0"),
        ({"port": 80, "seconds": 10_000}, "seconds is 10000"),
    ],
)
def test_a_request_that_cannot_be_is_one_sentence(asked: Mapping[str, object], sentence: str) -> None:
    with pytest.raises(TraceRefusedError, match=sentence):
        TraceRequest.parse(asked)


@pytest.mark.parametrize(
    ("asked", "is_included"),
    [
        ({"service": "nginx.service"}, True),
        ({"service": "/nginx.service"}, True),
        ({"service": "shop/nginx.service"}, False),
        ({"service": "nginx.service", "port": PORT + 1}, False),
    ],
)
def test_a_service_is_named_with_its_namespace_or_without(asked: Mapping[str, object], is_included: bool) -> None:
    assert TraceRequest.parse(asked).includes(SERVICE) is is_included


def test_every_reason_has_what_to_do() -> None:
    assert set(OF_PROTOCOLS) == set(PortProtocol)
    assert {DROP_CUT, DROP_HEAD_LOST, UNWRITABLE, "spool_full", "refused", "unreadable", "disk_error"} <= set(OF_DROPS)


# A whole sensor


async def trace_until_end(life: Life, asked: Mapping[str, object]) -> list[Mapping[str, object]]:
    """All events, in a thread as the control socket's. Once the calls are counted, the sensor's clock goes on a
    second."""
    loop = asyncio.get_running_loop()

    def read() -> list[Mapping[str, object]]:
        events: list[Mapping[str, object]] = []
        for event in life.sensor.trace(asked):
            if event is None:
                time.sleep(0.005)
                continue
            events.append(event)
            if event["event"] == "begin":
                life.capture.waiting = [make_users_exchange(path) for path in (b"/users", b"/bug", b"/none")]
                life.capture.records = make_records(200)
            if sum(one["event"] == "call" for one in events) == asked["calls"]:
                loop.call_soon_threadsafe(life.clock.advance, 1)
        return events

    async with asyncio.timeout(60):
        return await asyncio.to_thread(read)


def test_a_sensor_traces_described_matched_and_dropped_calls(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            events = await trace_until_end(life, {"port": PORT, "calls": 4})
            calls = [event for event in events if event["event"] == "call"]
            assert sorted((str(one["stage"]), str(one.get("reason", ""))) for one in calls) == [
                ("aggregate", ""),
                ("aggregate", ""),
                ("describe", "failed"),
                ("describe", "request_method"),
            ]
            assert f"packets, {KERNEL_CACHE}" in {one["way"] for one in calls}
            acknowledged = [n for one in events if one["event"] == "settled" for n in one["numbers"]]  # type: ignore[attr-defined]
            assert len(acknowledged) == 2
            assert events[-1]["sums"] == {"acknowledged": 2, "dropped": 2, "read": 2, "sent": 2}
            assert life.spool.on_settled is None

    asyncio.run(main())


def test_one_trace_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            first = life.sensor.trace({"port": PORT})
            assert (await asyncio.to_thread(next, first))["event"] == "begin"  # type: ignore[index]
            with pytest.raises(TraceRefusedError, match="another trace is on"):
                await asyncio.to_thread(next, life.sensor.trace({"port": PORT}))
            await asyncio.to_thread(first.close)
            second = life.sensor.trace({"port": PORT})
            assert (await asyncio.to_thread(next, second))["event"] == "begin"  # type: ignore[index]
            await asyncio.to_thread(second.close)


def test_a_trace_that_begins_after_its_timeout_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            begin = life.sensor._begin_trace

            def begin_too_late(request: TraceRequest) -> Trace:
                begin(request)
                raise StartError("it takes more than 5 s and goes on")

            with monkeypatch.context() as patch:
                patch.setattr(life.sensor, "_begin_trace", begin_too_late)
                with pytest.raises(StartError):
                    await asyncio.to_thread(next, life.sensor.trace({"port": PORT}))
            assert life.spool.on_settled is None
            following = life.sensor.trace({"port": PORT})
            assert (await asyncio.to_thread(next, following))["event"] == "begin"  # type: ignore[index]
            await asyncio.to_thread(following.close)

    asyncio.run(main())

    asyncio.run(main())

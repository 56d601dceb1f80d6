"""One stream: a message that cannot be processed ends nothing, and one node uses no more than its share."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
from apidae.v1 import data_pb2, stream_pb2

from collector.receiver import service as services
from collector.receiver import stream as streams
from collector.receiver import witness as witnesses
from collector.receiver.clocks import SensorClocks
from collector.receiver.commit import CommitOutcome, Committed, Submission
from collector.receiver.convert import convert_payloads
from collector.receiver.own_traffic import OwnTraffic
from collector.receiver.policy import SensorPolicy
from collector.receiver.reports import PROTOCOL_VERSION, RevealBook
from collector.receiver.sensors import SensorRegistry
from collector.receiver.service import CollectorService
from collector.receiver.stream import IngestContext
from collector.receiver.witness import WitnessBook
from collector.trust.admission import Admission
from collector.trust.revocation import Revocations
from collector.trust.tls_terminator import RefusalLog
from tests.collector.wire_batches import NOW, make_batch

SECRET = "hunter2"


class Call:
    """A sensor's side of a stream that says these messages and leaves; `is_open`: it stays instead. Its Hello says
    `time` in unix seconds; 0 says none."""

    def __init__(
        self,
        *messages: stream_pb2.ConnectRequest,
        node: str = "node-a",
        is_open: bool = False,
        time: int = 0,
        features: tuple[str, ...] = (),
    ) -> None:
        hello = stream_pb2.Hello(
            protocol=PROTOCOL_VERSION,
            node=node,
            boot_id="b",
            version="1",
            time_unix_ns=time * 10**9,
            features=features,
        )
        self._messages = [stream_pb2.ConnectRequest(hello=hello), *messages]
        self._is_open = is_open
        self.heard: list[stream_pb2.ConnectResponse] = []
        self.end = ""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def read(self) -> bytes | None:
        if self._messages:
            return self._messages.pop(0).SerializeToString()
        if self._is_open:
            await asyncio.Event().wait()
        return None

    async def write(self, response: stream_pb2.ConnectResponse) -> None:
        self.heard.append(response)

    async def abort(self, code: object, reason: str) -> None:
        self.end = reason

    def list_answers(self) -> list[tuple[int, int, str]]:
        """Sequence, status and reason of each acknowledgement."""
        acks = [one.ack for one in self.heard if one.WhichOneof("message") == "ack"]
        return [(ack.sequence, ack.status, ack.reason) for ack in acks]

    def list_refused(self) -> list[tuple[int, str]]:
        refused = stream_pb2.ACK_STATUS_REFUSED
        return [(sequence, reason) for sequence, status, reason in self.list_answers() if status == refused]


class InstantCommit:
    """Stands for the log; batches of these sequences come again later."""

    unknown_values = 0
    later: frozenset[int] = frozenset()

    def submit(self, submission: Submission) -> "asyncio.Future[Committed]":
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        is_later = submission.append.sequence in self.later
        future.set_result(Committed(CommitOutcome.RETRY, "Later.") if is_later else Committed(CommitOutcome.DURABLE))
        return future


def make_service(clock: Callable[[], float] = lambda: NOW) -> CollectorService:
    sensors = SensorRegistry(clock)
    context = IngestContext(
        commit=cast(Any, InstantCommit()),
        sensors=sensors,
        keys=(),
        policy=SensorPolicy(epoch=1, consumer_order=()),
        admission=Admission(
            token=None,
            takes_certificates=False,
            find_peer=None,
            on_admitted=lambda _: None,
            find_revocations=Revocations,
            refusals=RefusalLog(lambda: 0.0),
            clock=clock,
        ),
        authorities=lambda: b"",
        clock=clock,
        clocks=SensorClocks(clock),
        own_traffic=OwnTraffic,
        reveals=RevealBook(),
        witnesses=WitnessBook(lambda *_: None, clock),
        on_coverage=lambda *_: None,
        on_workloads=lambda *_: None,
        on_former_names=lambda _: None,
        on_node_addresses=lambda *_: None,
        on_revealed=lambda _: None,
        on_schemas=lambda _: None,
        on_schema_offer=lambda *_: None,
        on_attachments=lambda _: None,
        on_enforcement=lambda *_: None,
    )
    return CollectorService(context)


def wrap(sequence: int) -> stream_pb2.ConnectRequest:
    return stream_pb2.ConnectRequest(batch=make_batch(sequence=sequence))


def fail(*_: object, **__: object) -> None:
    raise ValueError(SECRET)


def test_a_message_that_cannot_be_processed_is_counted_and_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams, "convert_health", fail)
    service = make_service()
    health = stream_pb2.ConnectRequest(health=stream_pb2.Health(reason=SECRET))
    enforcement = stream_pb2.ConnectRequest(enforcement=stream_pb2.EnforcementReport())
    service.context.on_enforcement = fail
    with caplog.at_level(logging.ERROR):
        asyncio.run(service.connect(None, Call(health, health, enforcement, wrap(1))))
    assert service.context.failures == {"health": 2, "enforcement": 1}
    assert service.context.counts.batches_durable == 1
    assert len(caplog.records) == 2 and SECRET not in caplog.text  # Once of a kind, without what stood in it.


def test_a_batch_that_cannot_be_processed_is_refused_so_that_it_does_not_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "count_unknown_fields", fail)
    service, call = make_service(), Call(wrap(7))
    asyncio.run(service.connect(None, call))
    assert call.list_refused() == [(7, "The collector could not process the batch; its log says where.")]
    assert (service.context.counts.batches_refused, service.context.failures) == (1, {"batch": 1})


def test_what_a_sensor_says_of_the_measure_of_its_batch_is_dropped() -> None:
    log: list[bytes] = []

    class Log(InstantCommit):
        def submit(self, submission: Submission) -> "asyncio.Future[Committed]":
            log.append(submission.append.payload)
            return super().submit(submission)

    service, plain, lying = make_service(), wrap(1), wrap(2)
    service.context.commit = cast(Any, Log())
    lying.batch.measure.node.extend(["node-b", "node-c"])
    lying.batch.measure.numbers.extend([1] * 72)
    asyncio.run(service.connect(None, Call(plain, lying)))
    converted = convert_payloads(log, [NOW, NOW])
    assert converted.group is not None
    assert [(head.node, head.sequence) for head in converted.group.heads] == [("node-a", 1), ("node-a", 2)]
    first, second = (data_pb2.Batch.FromString(payload).measure for payload in log)
    assert (second.node, second.layout, second.numbers[1:]) == (first.node, first.layout, first.numbers[1:])


def test_a_batch_that_no_reader_of_the_log_would_take_is_refused_before_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = wrap(7)
    limit = len(message.SerializeToString())
    monkeypatch.setattr(streams, "MESSAGE_LIMIT_BYTES", limit)
    service, call = make_service(), Call(message)
    asyncio.run(service.connect(None, call))
    ((sequence, reason),) = call.list_refused()
    assert sequence == 7 and f"bytes in the log; the limit is {limit}." in reason
    assert (service.context.counts.batches_refused, service.context.counts.batches_durable) == (1, 0)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (("ack_range",), [(1, 3, "ACCEPTED"), (4, 0, "RETRY"), (5, 6, "ACCEPTED"), (9, 0, "ACCEPTED")]),
        ((), [(one, 0, "RETRY" if one == 4 else "ACCEPTED") for one in (1, 2, 3, 4, 5, 6, 9)]),
    ],
)
def test_batches_in_a_row_are_acknowledged_as_a_range_where_the_sensor_takes_one(
    features: tuple[str, ...], told: list[tuple[int, int, str]]
) -> None:
    service, call = make_service(), Call(*map(wrap, (1, 2, 3, 4, 5, 6, 9)), features=features)
    cast(InstantCommit, service.context.commit).later = frozenset({4})
    asyncio.run(service.connect(None, call))
    acks = [one.ack for one in call.heard if one.WhichOneof("message") == "ack"]
    names = [stream_pb2.AckStatus.Name(ack.status).removeprefix("ACK_STATUS_") for ack in acks]
    assert [(ack.sequence, ack.last_sequence, name) for ack, name in zip(acks, names, strict=True)] == told
    assert (service.context.counts.batches_durable, service.context.counts.batches_retry) == (6, 1)


def test_batches_come_again_while_the_tables_are_far_behind() -> None:
    service, call = make_service(), Call(wrap(1), wrap(2))
    service.context.find_backlog = lambda: "The collector's tables are 61 s behind its log; send again."
    asyncio.run(service.connect(None, call))
    retry, reason = stream_pb2.ACK_STATUS_RETRY, service.context.find_backlog()
    assert call.list_answers() == [(1, retry, reason), (2, retry, reason)]
    assert (service.context.counts.batches_retry, service.context.counts.batches_durable) == (2, 0)


@pytest.mark.parametrize("days", [-400, -2, 2, 30])
def test_a_collector_with_a_wrong_clock_asks_for_batches_again_and_refuses_none(days: int) -> None:
    service, call = make_service(lambda: NOW + days * 86_400), Call(wrap(1), wrap(2), time=NOW)
    asyncio.run(service.connect(None, call))
    retry = stream_pb2.ACK_STATUS_RETRY
    assert [answer[:2] for answer in call.list_answers()] == [(1, retry), (2, retry)]
    assert "connected sensors, so it takes no rows. Set the clock" in call.list_answers()[0][2]
    counts = service.context.counts
    assert (counts.batches_seen, counts.batches_retry, counts.batches_refused, counts.batches_durable) == (2, 2, 0, 0)
    again = Call(wrap(1), time=NOW + days * 86_400)  # Once the clocks agree; the other stream has ended.
    asyncio.run(service.connect(None, again))
    assert not [answer for answer in again.list_answers() if answer[1] == retry]


def test_a_large_batch_is_processed_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "THREAD_BYTES", 100)
    service = make_service()
    asyncio.run(service.connect(None, Call(wrap(1), wrap(2))))
    assert service.context.counts.batches_durable == 2


def test_a_node_beyond_its_share_is_held_back_and_no_other_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """All streams of a node together: another stream gives no second share."""
    size = wrap(1).ByteSize()
    monkeypatch.setattr(witnesses, "BYTES_BURST", size + 1)
    monkeypatch.setattr(witnesses, "BYTES_RATE", 4 * size)
    service = make_service()

    async def run() -> None:
        await service.connect(None, Call(wrap(1), node="honest"))
        assert service.context.counts.held_seconds == 0
        await service.connect(None, Call(wrap(1), wrap(2), wrap(3)))
        held = service.context.counts.held_seconds
        assert held > 0
        await service.connect(None, Call(wrap(4), wrap(5), wrap(6)))
        assert service.context.counts.held_seconds > held
        held = service.context.counts.held_seconds
        await service.connect(None, Call(node="honest"))
        assert service.context.counts.held_seconds == held

    asyncio.run(run())


def test_a_node_that_opens_many_streams_has_its_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service()

    async def run() -> None:
        limit = services.STREAMS_OF_NODE_LIMIT
        calls = [Call(is_open=True) for _ in range(limit + 3)]
        other = Call(node="honest", is_open=True)
        tasks = [asyncio.create_task(service.connect(None, call)) for call in (other, *calls)]
        while service.context.counts.streams_displaced < 3 or not all(task.done() for task in tasks[1:4]):
            await asyncio.sleep(0)
        assert [bool(call.end) for call in (other, *calls)] == [False, True, True, True, *[False] * limit]
        assert service.streams == limit + 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())

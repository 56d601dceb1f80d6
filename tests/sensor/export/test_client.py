"""The stream: everything given to the uplink reaches the collector, through every way a stream can go wrong."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from apidae.v1 import data_pb2, stream_pb2

from sensor.aggregate.aggregator import Triggers
from sensor.core.printable import SENTENCE_BYTES_MAX
from sensor.export.client import UplinkRejectedError
from sensor.export.policy import Policy, PolicyResult, PolicyUpdate
from sensor.export.session import StatusError
from sensor.export.spool import Spool
from sensor.export.target import Target, parse_target
from tests.sensor.export.collector import FakeCollector, accept
from tests.sensor.export.sending import BOOT, Sender, with_sender
from tests.sensor.records import make_service


def test_batches_are_acknowledged_and_forgotten(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        sender.send(3)
        await sender.drain()
        sender.send(20)
        await sender.drain()
        assert collector.sequences == list(range(1, 24))
        count = sender.spool.count()
        assert (count.seen, count.used, count.dropped) == (230, 230, ())

    with_sender(tmp_path, test)


def test_the_greeting_says_who_speaks(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        await sender.drain()
        (hello,) = collector.hellos
        assert (hello.protocol, hello.cluster, hello.node, hello.boot_id) == (1, "test", "node-1", BOOT)
        assert (hello.key_id, hello.version, hello.kernel_release) == (0, "1.2.3", "6.18")
        assert hello.monotonic_ns and hello.time_unix_ns
        (welcome,) = sender.listener.welcomes
        assert welcome.keys[0].secret == b"0123456789abcdef"
        assert "0123456789" not in repr(welcome)
        assert sender.listener.connections == [True]

    with_sender(tmp_path, test)


def test_health_and_coverage_keep_coming(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        await collector.wait_for(lambda: len(collector.healths) > 1 and len(collector.coverages) > 1)
        health = collector.healths[0]
        (stage,) = health.stages
        assert (stage.stage, stage.seen, stage.used) == ("spool", 5, 3)
        assert list(zip(stage.dropped_reasons, stage.dropped_counts, strict=True)) == [("refused", 2)]
        assert (health.state, health.lag_ms, health.spool_bytes, health.memory_bytes, health.cpu_ns) == (1, 1, 2, 3, 4)
        assert (health.capture, health.fallback_reason) == (stream_pb2.CAPTURE_WAY_SYSCALLS, "packets are refused")
        (port,) = collector.coverages[0].ports
        assert (port.service.workload, port.service.workload_kind, port.protocol) == ("nginx.service", 1, 1)
        assert list(collector.coverages[0].node_addresses) == ["10.244.0.1"]

    with_sender(tmp_path, test)


def test_a_duplicate_is_forgotten(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        def answer(batch: data_pb2.Batch) -> stream_pb2.Ack:
            ack = accept(batch)
            ack.status = stream_pb2.ACK_STATUS_DUPLICATE
            return ack

        collector.answer = answer
        sender.send(2)
        await sender.drain()
        assert sender.spool.count().used == 20

    with_sender(tmp_path, test)


def test_one_acknowledgement_may_be_of_a_range(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        def answer(batch: data_pb2.Batch) -> stream_pb2.Ack | None:
            if batch.sequence < 5:
                return None
            return stream_pb2.Ack(boot_id=batch.boot_id, sequence=1, last_sequence=5, status=accept(batch).status)

        collector.answer = answer
        sender.send(5)
        await sender.drain()
        assert "ack_range" in collector.hellos[0].features
        assert (sender.spool.count().used, sender.spool.waiting_bytes) == (50, 0)

    with_sender(tmp_path, test)


def test_a_refusal_is_counted_by_reason(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        def answer(batch: data_pb2.Batch) -> stream_pb2.Ack:
            ack = accept(batch)
            if batch.sequence == 2:
                ack.status = stream_pb2.ACK_STATUS_REFUSED
                ack.reason = "column calls is short"
            return ack

        collector.answer = answer
        sender.send(3)
        await sender.drain()
        count = sender.spool.count()
        assert (count.seen, count.used, count.dropped) == (30, 20, (("refused", 10),))
        assert sender.uplink.refusal_reasons == {"column calls is short": 1}

    with_sender(tmp_path, test)


@pytest.mark.parametrize("said", ["\x1b[31mred\nline two\u202e", "x" * 100_000, "\u2028" * 9_000])
def test_what_a_collector_says_is_printable_and_bounded(tmp_path: Path, said: str) -> None:
    """It comes into the log, and onto the terminal of whoever starts a sensor."""

    async def test(sender: Sender, collector: FakeCollector) -> None:
        def answer(batch: data_pb2.Batch) -> stream_pb2.Ack:
            return stream_pb2.Ack(
                boot_id=batch.boot_id, sequence=batch.sequence, status=stream_pb2.ACK_STATUS_REFUSED, reason=said
            )

        collector.answer = answer
        sender.send(1)
        await sender.drain()
        (reason,) = sender.uplink.refusal_reasons
        assert reason.isprintable() and 0 < len(reason.encode()) <= SENTENCE_BYTES_MAX

    with_sender(tmp_path, test)
    error = StatusError(grpc.StatusCode.UNAUTHENTICATED, said)
    for text in (str(error), error.details):
        assert text.isprintable() and len(text.encode()) <= SENTENCE_BYTES_MAX + 32


def test_reasons_are_bounded(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        def answer(batch: data_pb2.Batch) -> stream_pb2.Ack:
            ack = accept(batch)
            ack.status = stream_pb2.ACK_STATUS_REFUSED
            ack.reason = f"reason {batch.sequence}"
            return ack

        collector.answer = answer
        sender.send(50)
        await sender.drain()
        assert len(sender.uplink.refusal_reasons) == 33
        assert sum(sender.uplink.refusal_reasons.values()) == 50

    with_sender(tmp_path, test)


@pytest.mark.parametrize("status", [stream_pb2.ACK_STATUS_RETRY, 99])
def test_a_retry_is_sent_again(tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensor.export.session.UNKNOWN_STATUS_RETRY_MS", 20)

    async def test(sender: Sender, collector: FakeCollector) -> None:
        refused: set[int] = set()

        def answer(batch: data_pb2.Batch) -> stream_pb2.Ack:
            ack = accept(batch)
            if batch.sequence not in refused:
                refused.add(batch.sequence)
                ack.status = status  # type: ignore[assignment]
                ack.retry_after_ms = 20
            return ack

        collector.answer = answer
        sender.send(3)
        await sender.drain()
        assert sorted(collector.sequences) == [1, 1, 2, 2, 3, 3]
        assert sender.spool.count().used == 30
        assert len(collector.hellos) == 1

    with_sender(tmp_path, test)


def test_a_stream_that_breaks_loses_nothing(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        collector.hang_up_after = 3
        sender.send(7)
        await sender.drain()
        assert set(collector.sequences) == set(range(1, 8))
        assert len(collector.hellos) >= 3
        assert sender.spool.count().used == 70
        assert sender.listener.connections[:2] == [True, False]

    with_sender(tmp_path, test)


def test_no_acknowledgement_no_forgetting(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        collector.answer = lambda batch: None
        sender.send(3)
        await collector.wait_for(lambda: len(collector.batches) == 3)
        assert [entry.key.sequence for entry in sender.spool.waiting()] == [1, 2, 3]
        assert sender.spool.count().seen == 0

    with_sender(tmp_path, test)


def test_the_first_refused_dial_keeps_its_status(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with socket.socket() as bound:  # A port that nobody listens on and nobody else gets.
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
            for number in range(20):
                caplog.clear()
                async with Sender(tmp_path / str(number), port).running(), asyncio.timeout(60):
                    while not caplog.records:
                        await asyncio.sleep(0.001)
                assert f"127.0.0.1:{port} cannot be reached (UNAVAILABLE: connection refused)" in caplog.messages[0]

    asyncio.run(main())


def test_a_collector_that_never_answers_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            async with Sender(tmp_path, port).running() as sender:
                await asyncio.sleep(0.05)
                assert f"127.0.0.1:{port} has not answered yet; start it or correct" in sender.uplink.last_error

    asyncio.run(main())


def test_the_collector_may_come_late_and_go_away(tmp_path: Path) -> None:
    async def main() -> None:
        collector = FakeCollector()
        async with collector.serve():
            port = collector.port
        async with Sender(tmp_path, port).running() as sender:
            sender.send(2)
            async with asyncio.timeout(60):
                while "UNAVAILABLE" not in sender.uplink.last_error:
                    await asyncio.sleep(0.005)
            assert not sender.uplink.is_connected
            for _ in range(2):
                async with collector.serve(port):
                    await sender.drain()
                    sender.send(2)
                    await sender.drain()
                while sender.uplink.is_connected:
                    await asyncio.sleep(0.005)
                sender.send(1)
            assert set(collector.sequences) == {1, 2, 3, 4, 5, 6, 7}
            assert [entry.key.sequence for entry in sender.spool.waiting()] == [8]

    asyncio.run(main())


def test_who_stops_while_the_collector_was_away_dials_once_more(tmp_path: Path) -> None:
    async def main() -> None:
        collector = FakeCollector()
        async with collector.serve():
            port = collector.port
        async with Sender(tmp_path, port, first_backoff_seconds=3600).running() as sender, asyncio.timeout(60):
            while "UNAVAILABLE" not in sender.uplink.last_error:
                await asyncio.sleep(0.005)
            sender.send(2)
            await sender.uplink.drain()  # In vain, and not for an hour.
            assert [entry.key.sequence for entry in sender.spool.waiting()] == [1, 2]
            async with collector.serve(port):
                await sender.uplink.drain()
                assert collector.sequences == [1, 2]
                assert not sender.spool.waiting()

    asyncio.run(main())


def test_an_earlier_process_is_sent_first(tmp_path: Path) -> None:
    before = "f" * 32
    spool = Spool(tmp_path, boot_id=before)
    for sequence in (1, 2):
        batch = data_pb2.Batch(node="node-1", boot_id=before, sequence=sequence)
        spool.append(sequence=sequence, payload=batch.SerializeToString(), calls=1, now_unix_ns=1)
    spool.close()

    async def test(sender: Sender, collector: FakeCollector) -> None:
        sender.send(2)
        await sender.drain()
        told = [(batch.boot_id, batch.sequence) for batch in collector.batches]
        assert told == [(before, 1), (before, 2), (BOOT, 1), (BOOT, 2)]

    with_sender(tmp_path, test)


def test_a_redirect_is_followed(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = FakeCollector(), FakeCollector()
        async with first.serve(), second.serve():
            first.answer = lambda batch: stream_pb2.Ack(
                boot_id=batch.boot_id,
                sequence=batch.sequence,
                status=stream_pb2.ACK_STATUS_REDIRECT,
                redirect_to=f"127.0.0.1:{second.port}",
            )
            async with Sender(tmp_path, first.port).running() as sender:
                sender.send(2)
                await sender.drain()
                assert second.sequences == [1, 2]
                assert sender.spool.count().used == 20

    asyncio.run(main())


def test_policies_are_applied_or_refused_with_a_reason(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        await sender.drain()
        triggers = stream_pb2.Triggers(distinct_objects_per_second=5, calls_per_second=6)
        for policy in (
            stream_pb2.Policy(epoch=3, is_full=True, triggers=triggers),
            stream_pb2.Policy(epoch=4, base_epoch=2, triggers=triggers),
            stream_pb2.Policy(epoch=5, is_full=True, triggers=stream_pb2.Triggers(calls_per_second=1)),
        ):
            collector.push(stream_pb2.ConnectResponse(policy=policy))
        await collector.wait_for(lambda: len(collector.results) == 3)
        assert [(result.epoch, result.is_applied) for result in collector.results] == [
            (3, True),
            (4, False),
            (5, False),
        ]
        assert "holds epoch 3" in collector.results[1].reason
        assert "distinct_objects_per_second is 0" in collector.results[2].reason
        assert sender.listener.policy == Policy(
            epoch=3, triggers=Triggers(distinct_objects_per_second=5, calls_per_second=6)
        )

    with_sender(tmp_path, test)


def test_reveal_requests_are_answered(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        await sender.drain()
        request = stream_pb2.RevealRequest(hashes=range(1, 1_201))
        collector.push(stream_pb2.ConnectResponse(reveal_request=request))
        await collector.wait_for(lambda: bool(collector.revealed))
        (revealed,) = collector.revealed
        assert (list(revealed.hashes), list(revealed.texts), revealed.key_id) == ([1], ["users"], 7)
        assert sender.listener.asked == [tuple(range(1, 1_001))]

    with_sender(tmp_path, test)


def test_what_cannot_be_written_of_a_report_is_left_out_and_the_stream_goes_on(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        await sender.drain()
        bad = "\udcff\udcfe\udc80.service"
        (good_port,), (good_workload,) = sender.listener.read_coverage(), sender.listener.read_workloads()
        bad_port = replace(good_port, service=make_service(bad))
        bad_workload = replace(good_workload, labels=(("team", bad),))
        sender.listener.read_coverage = lambda: [bad_port, good_port]  # type: ignore[method-assign]
        sender.listener.read_workloads = lambda: [good_workload, bad_workload]  # type: ignore[method-assign]
        count = len(collector.coverages)
        await collector.wait_for(lambda: len(collector.coverages) > count + 1)
        coverage = collector.coverages[-1]
        assert [port.service.workload for port in coverage.ports] == [good_port.service.workload]
        assert [workload.workload for workload in coverage.workloads] == [good_workload.workload]
        sender.listener.on_reveal = lambda hashes: {1: bad}  # type: ignore[method-assign]
        collector.push(stream_pb2.ConnectResponse(reveal_request=stream_pb2.RevealRequest(hashes=[1])))
        healths = len(collector.healths)
        await collector.wait_for(lambda: len(collector.healths) > healths + 1)
        assert not collector.revealed
        sender.send(2)
        await sender.drain()
        assert (collector.sequences, len(collector.hellos)) == ([1, 2], 1)

    with_sender(tmp_path, test)


def test_a_policy_on_which_the_sensor_fails_is_refused(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        def fail(update: PolicyUpdate) -> PolicyResult:
            raise RuntimeError("a bug")

        await sender.drain()
        sender.listener.on_policy = fail  # type: ignore[method-assign]
        collector.push(stream_pb2.ConnectResponse(policy=stream_pb2.Policy(epoch=3, is_full=True)))
        await collector.wait_for(lambda: len(collector.results) == 1)
        (result,) = collector.results
        assert (result.epoch, result.is_applied) == (3, False) and "the sensor failed" in result.reason
        assert len(collector.hellos) == 1

    with_sender(tmp_path, test)


def test_a_stream_on_which_the_sensor_fails_is_dialled_again(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        on_connection, faults = sender.listener.on_connection, [RuntimeError("a bug"), ValueError("another")]

        def fail_twice(is_connected: bool) -> None:
            if is_connected and faults:
                raise faults.pop()
            on_connection(is_connected)

        sender.listener.on_connection = fail_twice  # type: ignore[method-assign]
        sender.send(3)
        await sender.drain()
        assert len(collector.hellos) >= 3
        assert set(collector.sequences) == {1, 2, 3}

    with_sender(tmp_path, test)


def test_a_wrong_token_is_one_sentence(tmp_path: Path) -> None:
    async def main() -> None:
        collector = FakeCollector()
        collector.token = "right"
        async with collector.serve(), Sender(tmp_path, collector.port, token=lambda: "wrong").running() as sender:
            with pytest.raises(
                UplinkRejectedError, match=r"UNAUTHENTICATED: the token is not known.*--token-file"
            ) as caught:
                await sender.uplink.wait_welcome()
            assert "wrong" not in str(caught.value)

    asyncio.run(main())


def test_the_token_is_read_at_every_dial(tmp_path: Path) -> None:
    async def main() -> None:
        collector = FakeCollector()
        collector.token = "right"
        tokens = iter([OSError(2, "No such file", "/run/token"), "right"])

        def read() -> str:
            token = next(tokens, "right")
            if isinstance(token, OSError):
                raise token
            return token

        async with collector.serve(), Sender(tmp_path, collector.port, token=read).running() as sender:
            sender.send()
            await sender.drain()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("welcome", "error"),
    [
        (stream_pb2.Welcome(protocol=2), "speaks protocol 2"),
        (stream_pb2.Welcome(protocol=1), "no usable installation key"),
        (
            stream_pb2.Welcome(protocol=1, keys=[stream_pb2.InstallationKey(key_id=1, secret=b"short")]),
            "no usable installation key",
        ),
    ],
)
def test_a_bad_welcome_is_told_and_tried_again(tmp_path: Path, welcome: stream_pb2.Welcome, error: str) -> None:
    async def main() -> None:
        collector = FakeCollector()
        good, collector.welcome = collector.welcome, welcome
        async with collector.serve(), Sender(tmp_path, collector.port).running() as sender:
            async with asyncio.timeout(60):
                while error not in sender.uplink.last_error:
                    await asyncio.sleep(0.005)
            collector.welcome = good
            sender.send()
            await sender.drain()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "target", "is_loopback"),
    [
        ("collector.example:7443", Target(host="collector.example", port=7443), False),
        ("[2001:db8::1]:7443", Target(host="2001:db8::1", port=7443), False),
        ("127.0.0.9:1", Target(host="127.0.0.9", port=1), True),
        ("[::1]:1", Target(host="::1", port=1), True),
        ("localhost:1", Target(host="localhost", port=1), True),
        ("localhost.example:1", Target(host="localhost.example", port=1), False),
    ],
)
def test_targets(text: str, target: Target, is_loopback: bool) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target
    assert target.is_loopback == is_loopback


@pytest.mark.parametrize(
    "text", ["", "collector", ":7443", "collector:", "collector:0", "collector:65536", "collector:x"]
)
def test_targets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|port 0"):
        parse_target(text)

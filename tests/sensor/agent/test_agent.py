"""The sensor's life with a fake capture and a collector in the test's loop: first contact, calls, pause, failures,
end."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from apidae.v1 import stream_pb2

from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from sensor.agent.pause import Command
from sensor.agent.pipeline import Pipeline
from sensor.agent.wakeup import PollScheduler
from sensor.core.health import StageCount
from sensor.core.keyed import InstallationKey
from sensor.core.state import SensorState, StartError
from sensor.ebpf.abi import RECORD, Counter
from sensor.enrich.own_traffic import NOTHING_OWN, CollectorTraffic
from sensor.export.client import UplinkRejectedError
from sensor.export.convert import SerialisedBatch
from sensor.export.state import StateDirectory
from tests.sensor.export.collector import FakeCollector
from tests.sensor.sensor_fakes import make_users_exchange
from tests.sensor.sensor_life import count_calls, live, wait_capturing


def test_calls_reach_the_collector_and_every_loss_its_count(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            assert life.capture.listening == {80}
            bad = [make_users_exchange(b"/bug"), make_users_exchange(b"/none"), make_users_exchange(b"/odd")]
            life.capture.waiting = [make_users_exchange() for _ in range(1_200)] + bad
            await life.end()
            assert count_calls(collector) == 1_200
            assert {batch.key_id for batch in collector.batches} == {7}
            assert collector.batches[0].lost_calls == 3 + 3
            assert collector.batches[0].seen_calls == 3 + 1_203
            assert (collector.batches[0].tls_lost_calls, collector.batches[0].tls_seen_calls) == (2, 9)
            stages = {count.stage: count for count in life.sensor.read_health().stages}
            assert stages["describe"] == StageCount(
                stage="describe", seen=1_203, used=1_201, dropped=(("failed", 1), ("request_method", 1))
            )
            assert stages["aggregate"] == StageCount(
                stage="aggregate", seen=1_201, used=1_200, dropped=(("failed", 1),)
            )
            assert stages["spool"] == StageCount(stage="spool", seen=1_200, used=1_200, dropped=())
            assert life.capture.moves == ["detach", "close"]

    asyncio.run(main())


def make_records(*statuses: int) -> np.ndarray:
    records = np.zeros(len(statuses), RECORD)
    records["calls"] = 1
    records["status"] = statuses
    return records


def test_recognised_calls_and_sums_are_counted_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            life.capture.records = make_records(*[200] * 700)
            life.capture.waiting = [make_users_exchange(), make_users_exchange(b"/dull")]
            async with asyncio.timeout(60):
                while life.capture.pending_bytes():
                    await asyncio.sleep(0.001)
            life.capture.records = make_records(200, 999)
            life.capture.totals |= {Counter.CALLS: 706, Counter.OVERFLOW: 4}
            life.capture.sums = {b"key": (4, 0, 0, 0)}
            await life.end()
            assert count_calls(collector) == 706
            stages = {count.stage: count for count in life.sensor.read_health().stages}
            assert stages["recognise"] == StageCount(stage="recognise", seen=706, used=704, dropped=(("failed", 2),))
            assert stages["aggregate"].seen == stages["aggregate"].used
            assert collector.batches[-1].lost_calls == 3 + 2
            (processor,) = life.processors
            assert [exchange.request_head.split()[1] for exchange in processor.learned] == [b"/users"]
            assert processor.heads_per_second == 50
            assert life.capture.taught == {"settings": {b"k": b"v"}}
            figures = {figure.name: figure.value for figure in life.sensor.read_metrics().figures}
            assert (figures["taught_roots"], figures["heads_per_second_limit"], figures["records"]) == (3, 50, 0)

    asyncio.run(main())


def test_of_what_tls_carried_the_kernel_learns_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            life.capture.waiting = [make_users_exchange(), make_users_exchange(b"/secret", is_encrypted=True)]
            await life.end()
            assert count_calls(collector) == 2
            learned = life.processors[0].learned
            assert [exchange.request_head.split()[1] for exchange in learned] == [b"/users"]

    asyncio.run(main())


def test_a_kernel_that_refuses_to_learn_starts_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            life.capture.refusal = OSError(7, "Argument list too long")
            await wait_capturing(life)
            async with asyncio.timeout(60):
                while not life.processors[0].forgotten_count:
                    await asyncio.sleep(0.001)
            life.capture.waiting = [make_users_exchange()]
            await life.end()
            assert count_calls(collector) == 1

    asyncio.run(main())


def test_a_sensor_ends_where_what_it_watches_is_gone(tmp_path: Path) -> None:
    """It would see nothing any more, and say nothing of it."""

    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            life.capture.waiting = [make_users_exchange()]
            life.node.lost_scope = "the watched cgroup is gone"
            async with asyncio.timeout(60):
                with pytest.raises(StartError, match="the watched cgroup is gone"):
                    await life.task
            assert count_calls(collector) == 1

    asyncio.run(main())


def test_a_wait_is_quiet_where_nothing_was_installed_and_urgent_where_somebody_is_blocked_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[bool, bool]] = []
    wait = PollScheduler.wait

    async def note(
        scheduler: PollScheduler, seconds: float, *, is_quiet: bool = False, is_urgent: bool = False
    ) -> None:
        waits.append((is_quiet, is_urgent))
        await wait(scheduler, min(seconds, 0.001), is_urgent=True)

    async def observe() -> tuple[bool, bool]:
        waits.clear()
        async with asyncio.timeout(60):
            while len(waits) < 3:
                await asyncio.sleep(0.001)
        return waits[-1]

    async def main() -> None:
        monkeypatch.setattr(PollScheduler, "wait", note)
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            (processor,) = life.processors
            assert await observe() == (False, False)
            processor.is_teaching = False
            assert await observe() == (True, False)
            life.enforcement.is_naming = True
            assert (await observe())[1]

    asyncio.run(main())


def test_a_new_row_leaves_while_the_sensor_lives(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            life.capture.waiting = [make_users_exchange()]
            async with asyncio.timeout(60):
                while not collector.batches:
                    life.clock.advance(0.5)
                    await asyncio.sleep(0.01)
            assert count_calls(collector) == 1

    asyncio.run(main())


def test_without_a_key_nothing_is_captured_before_first_contact(tmp_path: Path) -> None:
    async def main() -> None:
        collector = FakeCollector()
        async with collector.serve():
            port = collector.port
        async with live(tmp_path, port, first_contact=0.05) as life:
            # The first try may not have failed yet.
            reason = r"no collector gave .* installation key within 0.05 s.*(UNAVAILABLE|has not answered yet)"
            with pytest.raises(StartError, match=reason):
                await life.task
            assert not life.capturing.is_set()

    asyncio.run(main())


def test_with_a_key_an_outage_is_spooled_and_sent_later(tmp_path: Path) -> None:
    StateDirectory(tmp_path).save_keys((InstallationKey(key_id=7, secret=b"0123456789abcdef"),))

    async def main() -> None:
        collector = FakeCollector()
        async with collector.serve():
            port = collector.port
        async with live(tmp_path, port) as life:
            await wait_capturing(life)
            life.capture.waiting = [make_users_exchange()]
            await life.end()
            assert life.spool.waiting_bytes
        async with collector.serve(port), live(tmp_path, port) as life:
            await wait_capturing(life)
            await collector.wait_for(lambda: count_calls(collector) == 1)

    asyncio.run(main())


def test_a_rejected_sensor_ends_with_the_reason(tmp_path: Path) -> None:
    async def main(is_known: bool) -> None:
        if is_known:
            StateDirectory(tmp_path).save_keys((InstallationKey(key_id=7, secret=b"0123456789abcdef"),))
        collector = FakeCollector()
        collector.token = "right"
        async with collector.serve(), live(tmp_path, collector.port, token="wrong") as life:
            with pytest.raises(UplinkRejectedError, match="UNAUTHENTICATED"):
                async with asyncio.timeout(60):
                    await life.task

    for is_known in (False, True):
        asyncio.run(main(is_known))


def test_a_pause_that_takes_long_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensor.agent.agent.COMMAND_TIMEOUT_SECONDS", 0.01)
    is_told = threading.Event()

    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            detach = life.capture.detach

            def detach_late() -> None:
                is_told.wait(60)
                detach()

            def pause() -> None:
                with pytest.raises(StartError, match="goes on"):
                    life.sensor.carry_out(Command.PAUSE)
                is_told.set()

            monkeypatch.setattr(life.capture, "detach", detach_late)
            await asyncio.to_thread(pause)
            async with asyncio.timeout(60):
                while life.sensor.carry_out(Command.STATUS) is not SensorState.PAUSED:
                    await asyncio.sleep(0.001)

    asyncio.run(main())


def test_pause_and_resume(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            assert life.sensor.carry_out(Command.STATUS) is SensorState.CAPTURING
            await asyncio.to_thread(life.sensor.carry_out, Command.PAUSE)
            await asyncio.to_thread(life.sensor.carry_out, Command.PAUSE)
            assert life.capture.moves == ["detach"]
            assert life.sensor.carry_out(Command.STATUS) is SensorState.PAUSED
            await collector.wait_for(
                lambda: any(one.state == stream_pb2.SENSOR_STATE_PAUSED for one in collector.healths)
            )
            assert collector.healths[-1].reason
            await asyncio.to_thread(life.sensor.carry_out, Command.RESUME)
            assert life.capture.moves == ["detach", "attach"]
            await collector.wait_for(lambda: collector.healths[-1].state == stream_pb2.SENSOR_STATE_CAPTURING)
            await life.end()
            await collector.wait_for(lambda: collector.healths[-1].state == stream_pb2.SENSOR_STATE_STOPPING)

    asyncio.run(main())


def test_a_capture_that_fails_once_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            life.capture.error = OSError(5, "Input/output error")
            async with asyncio.timeout(60):
                while life.capture.error:
                    await asyncio.sleep(0.001)
            life.capture.waiting = [make_users_exchange()]
            await life.end()
            assert count_calls(collector) == 1

    asyncio.run(main())


def test_a_row_that_cannot_be_written_is_lost_alone_and_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            life.capture.waiting = [make_users_exchange(b"/unwritable")] * 3 + [make_users_exchange()] * 20
            async with asyncio.timeout(60):
                while life.capture.waiting:
                    await asyncio.sleep(0.001)
            life.clock.step(-7_200)  # All that was counted leaves.
            await collector.wait_for(lambda: count_calls(collector) == 20)
            life.capture.waiting = [make_users_exchange()] * 7
            await life.end()
            assert count_calls(collector) == 27
            stages = {count.stage: count for count in life.sensor.read_health().stages}
            assert stages["convert"] == StageCount(stage="convert", seen=30, used=27, dropped=(("unwritable", 3),))
            # 3 found the ring full, which the first batch told; 3 could not be written, which the next one does.
            assert [batch.lost_calls for batch in collector.batches] == [3, 3]
            assert len(collector.hellos) == 1

    asyncio.run(main())


def test_a_turn_that_fails_is_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [RuntimeError("a bug"), UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")]
    poll = Pipeline.poll

    def fail_twice(pipeline: Pipeline) -> list[SerialisedBatch]:
        if faults:
            raise faults.pop()
        return poll(pipeline)

    async def main() -> None:
        monkeypatch.setattr(Pipeline, "poll", fail_twice)
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            life.capture.waiting = [make_users_exchange()]
            async with asyncio.timeout(60):
                while faults:
                    await asyncio.sleep(0.001)
            await life.end()
            assert count_calls(collector) == 1

    asyncio.run(main())


def test_a_report_that_fails_keeps_no_other_from_being_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            failing_since_ns, life.node.is_failing = life.clock.unix_ns(), True
            life.clock.advance(1)

            def is_told_without() -> bool:
                healths = [health for health in collector.healths if health.time_unix_ns > failing_since_ns]
                return len(healths) > 3 and life.node.failures > 3

            await collector.wait_for(is_told_without)
            assert all(coverage.time_unix_ns <= failing_since_ns for coverage in collector.coverages)
            assert life.sensor.read_metrics().figures, "figures of others are shown"
            life.node.is_failing, coverages = False, len(collector.coverages)
            await collector.wait_for(lambda: len(collector.coverages) > coverages + 1)
            assert len(collector.hellos) == 1

    asyncio.run(main())


def test_a_clock_step_ends_the_segment(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            life.capture.waiting = [make_users_exchange()]
            async with asyncio.timeout(60):
                while life.capture.waiting:
                    await asyncio.sleep(0.001)
            life.clock.step(-7_200)
            await collector.wait_for(lambda: len(collector.batches) == 1)
            life.capture.waiting = [make_users_exchange()]
            await life.end()
            assert [batch.clock_segment for batch in collector.batches] == [0, 1]
            assert [list(batch.rows.flags) for batch in collector.batches] == [[0], [1 << 4]]
            first, second = (batch.base_time_unix_seconds for batch in collector.batches)
            assert second - first == -7_200

    asyncio.run(main())


def test_another_key_starts_with_rows_of_its_own(tmp_path: Path) -> None:
    old = InstallationKey(key_id=3, secret=b"f" * 16)
    StateDirectory(tmp_path).save_keys((old,))

    async def main() -> None:
        collector = FakeCollector()
        async with collector.serve():
            port = collector.port
        async with live(tmp_path, port) as life:
            await wait_capturing(life)
            life.capture.waiting = [make_users_exchange()]
            async with asyncio.timeout(60):
                while life.capture.waiting:
                    await asyncio.sleep(0.001)
            async with collector.serve(port):
                await collector.wait_for(lambda: len(collector.batches) == 1)
                life.capture.waiting = [make_users_exchange()]
                await life.end()
            assert [processor.forgotten_count for processor in life.processors] == [1, 0]
            assert [(batch.key_id, list(batch.rows.principal)) for batch in collector.batches] == [(3, [3]), (7, [7])]
            assert [key.key_id for key in StateDirectory(tmp_path).load_keys()] == [7]

    asyncio.run(main())


def test_how_the_collectors_own_traffic_is_known_is_taken_up_kept_and_looked_for_at_once(tmp_path: Path) -> None:
    own = CollectorTraffic(boot_id=36 * "a", process_mark="apidae-" + 64 * "5", ends=(("10.0.0.9", 8443),))

    async def main() -> None:
        collector = FakeCollector()
        collector.welcome.own_traffic.CopyFrom(
            stream_pb2.OwnTraffic(
                boot_id=own.boot_id,
                process_mark=own.process_mark,
                ends=[stream_pb2.OwnEnd(address="10.0.0.9", port=8443)],
            )
        )
        # Its own time for reading the node does not come.
        async with collector.serve(), live(tmp_path, collector.port, refresh_seconds=1e6) as life:
            await wait_capturing(life)
            assert life.node.collectors == [NOTHING_OWN, own]
            assert [find("127.0.0.1", 80, "127.0.0.1", 5) for find in life.node.finders] == [0]
            async with asyncio.timeout(60):
                while life.node.refreshes < 2:
                    await asyncio.sleep(0.01)
            await life.end()
        assert StateDirectory(tmp_path).load_own_traffic() == own
        async with live(tmp_path, 1) as life:
            await wait_capturing(life)
            assert life.node.collectors == [own]
            await life.end()

    asyncio.run(main())


def test_policy_is_applied_and_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            triggers = stream_pb2.Triggers(distinct_objects_per_second=5, calls_per_second=6)
            order = [stream_pb2.CONSUMER_COLUMN_CLIENT_WORKLOAD, stream_pb2.CONSUMER_COLUMN_PRINCIPAL]
            policy = stream_pb2.Policy(epoch=3, is_full=True, triggers=triggers, consumer_order=order)
            assert life.processors[-1].consumer_order == CONSUMER_ORDER
            collector.push(stream_pb2.ConnectResponse(policy=policy))
            await collector.wait_for(lambda: len(collector.results) == 1)
            assert collector.results[0].is_applied
            life.capture.waiting = [make_users_exchange()]
            await life.end()
            assert collector.batches[-1].policy_epoch == 3
            kept = StateDirectory(tmp_path).load_policy()
            assert kept.triggers.calls_per_second == 6
            assert kept.consumer_order == life.processors[-1].consumer_order
            assert kept.consumer_order == (ConsumerColumn.CLIENT_WORKLOAD, ConsumerColumn.PRINCIPAL)

    asyncio.run(main())


@pytest.mark.parametrize("is_paused", [True, False])
def test_another_sensor_may_capture_as_soon_as_this_one_has_detached(tmp_path: Path, is_paused: bool) -> None:
    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port) as life:
            await wait_capturing(life)
            life.lock.acquire()
            moves: list[list[str]] = []
            release = life.lock.release_scope

            def note() -> None:
                moves.append([*life.capture.moves])
                release()

            life.lock.release_scope = note  # type: ignore[method-assign]
            life.capture.waiting = [make_users_exchange() for _ in range(50)]
            if is_paused:
                await asyncio.to_thread(life.sensor.carry_out, Command.PAUSE)
            assert not moves
            await life.end()
            assert moves == [["detach"] * (1 + is_paused)]
            assert not life.lock.is_followed()
            assert count_calls(collector) == 50

    asyncio.run(main())


@pytest.mark.parametrize("is_followed", [True, False])
def test_a_stop_is_short_where_another_sensor_captures_already(
    tmp_path: Path, is_followed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensor.agent.agent.FOLLOWED_STOP_SECONDS", 0.01)
    drains: list[None] = []

    async def drain_never() -> None:
        drains.append(None)
        await asyncio.Event().wait()

    async def main() -> None:
        async with FakeCollector().serve() as collector, live(tmp_path, collector.port, stop_seconds=0.1) as life:
            await wait_capturing(life)
            life.uplink.drain = drain_never  # type: ignore[method-assign]
            if is_followed:
                monkeypatch.setattr(life.lock, "is_followed", lambda: True)
            await life.end()
            assert len(drains) == (1 if is_followed else 2)

    asyncio.run(main())

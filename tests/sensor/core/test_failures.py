"""Whatever fails is counted by place and class, logged once a minute with its traceback and without its text."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from common.log_lines import LineFormatter
from sensor.core.health import (
    LOG_INTERVAL_SECONDS,
    MAX_KINDS,
    Failures,
    HealthReport,
    MetricsCollector,
    SensorState,
    format_failure,
    log_loop_failure,
    log_thread_failure,
    take_each,
)
from sensor.coverage.limits import ROW_NAME, cover_failures
from sensor.coverage.row import CoverageRole, PortProtocol
from tests.sensor.records import make_service

SECRET = "hunter2"


class Log:
    """A handler as the sensor has it, and the lines that it wrote."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.failures = Failures(lambda: self.now)
        self.lines: list[dict[str, object]] = []
        self.handler = logging.Handler()
        self.handler.emit = lambda record: self.lines.append(json.loads(self.handler.format(record)))  # type: ignore[method-assign]
        self.handler.setFormatter(LineFormatter(is_json=True, describe_failure=format_failure))
        self.handler.addFilter(self.failures)
        self.logger = logging.getLogger("sensor.room")


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    root = logging.getLogger()
    root.addHandler(log.handler)
    yield log
    root.removeHandler(log.handler)


def fail_on(log: Log, error: Exception) -> None:
    try:
        raise error
    except Exception:
        log.logger.exception("an item failed")


def test_a_failure_is_counted_each_time_and_logged_once_a_minute(log: Log) -> None:
    for _ in range(3):
        fail_on(log, KeyError(SECRET))
    fail_on(log, ValueError(SECRET))
    log.now += LOG_INTERVAL_SECONDS
    fail_on(log, KeyError(SECRET))
    assert log.failures.counts == {("room.fail_on", "KeyError"): 4, ("room.fail_on", "ValueError"): 1}
    assert [(line["message"], line["failures"]) for line in log.lines] == [("an item failed", n) for n in (1, 1, 4)]
    assert all("in fail_on" in str(line["traceback"]) for line in log.lines)
    assert SECRET not in json.dumps(log.lines)


def test_what_is_no_failure_passes(log: Log) -> None:
    for _ in range(3):
        log.logger.warning("no stream: %s", "refused")
    assert [line["message"] for line in log.lines] == ["no stream: refused"] * 3
    assert not log.failures.counts


def test_a_traceback_has_classes_and_code_and_no_text() -> None:
    def fail() -> None:
        try:
            SECRET.encode("ascii")[99]
        except IndexError as error:
            raise OSError(28, "No space left on device", f"/{SECRET}") from error

    with pytest.raises(OSError) as caught:
        fail()
    text = format_failure(caught.value)
    assert "OSError: No space left on device\n\nwhich followed\n\n" in text and text.endswith("IndexError")
    assert f"/{SECRET}" not in text


def test_a_recursion_and_a_long_chain_are_cut() -> None:
    def recur() -> None:
        recur()

    with pytest.raises(RecursionError) as caught:
        recur()
    assert len(format_failure(caught.value)) < 20_000
    error: Exception | None = None
    for _ in range(50):
        error, cause = ValueError(), error
        error.__cause__ = cause
    assert error is not None and format_failure(error).count("ValueError") == 5


def test_kinds_are_bounded(log: Log) -> None:
    for number in range(MAX_KINDS + 5):
        fail_on(log, type(f"Error{number}", (Exception,), {})())
    assert len(log.failures.counts) == MAX_KINDS + 1
    assert log.failures.counts["other", "other"] == 5


def test_tasks_callbacks_and_threads_that_end_are_counted(log: Log) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log_loop_failure)
        loop.call_soon(lambda: [][0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    before, threading.excepthook = threading.excepthook, log_thread_failure
    try:
        thread = threading.Thread(target=lambda: {}[SECRET], name="apidae-test")
        thread.start()
        thread.join()
    finally:
        threading.excepthook = before
    assert {kind for _, kind in log.failures.counts} == {"IndexError", "KeyError"}
    assert log.lines[-1]["message"] == "the thread apidae-test failed and ended"
    assert SECRET not in json.dumps(log.lines)


def test_records_go_on_behind_one_that_fails(log: Log) -> None:
    taken: list[int] = []

    def take(left: Iterator[int]) -> None:
        taken.extend(100 // number for number in left)

    take_each([1, 0, 2, 0, 0, 4], take, log.logger)
    assert taken == [100, 50, 25]
    assert list(log.failures.counts.values()) == [3]


def test_metrics_and_coverage_tell_where(log: Log) -> None:
    fail_on(log, KeyError(SECRET))
    fail_on(log, KeyError(SECRET))
    report = HealthReport(
        time_unix_ns=1, state=SensorState.CAPTURING, stages=(), lag_ms=0, spool_bytes=0, memory_bytes=0, cpu_ns=0,
        reason="", figures=log.failures.figures(),
    )  # fmt: skip
    registry = CollectorRegistry()
    registry.register(MetricsCollector(lambda: report))
    labels = {"place": "room.fail_on", "exception": "KeyError"}
    assert registry.get_sample_value("apidae_sensor_failures_total", labels) == 2
    (row,) = cover_failures(log.failures.counts, make_service())
    assert (row.protocol, row.role, row.address) == (PortProtocol.MISSED, CoverageRole.NODE, ROW_NAME)
    assert row.connections == 2 and "room.fail_on (KeyError, 2 times)" in row.reason
    assert not list(cover_failures({}, make_service()))

"""Streams of events at a collector that runs: they say what a sensor caused, and do not hold up its stop."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.collector.running import Conversation, RunningCollector, make_hello

pytestmark = [pytest.mark.store, pytest.mark.full("collector.api", "collector.server")]


def read_until(lines: Iterator[str], wanted: str) -> None:
    assert any(wanted in line for line in lines), f"the stream ended without {wanted}"


def test_a_stream_hears_of_a_sensor_and_ends_with_the_collector(tmp_path: Path) -> None:
    collector = RunningCollector(tmp_path, "--no-auth")
    with httpx.stream("GET", f"http://{collector.ready['http']}/api/v1/events", timeout=60) as stream:
        lines = stream.iter_lines()
        read_until(lines, "event: hello")
        conversation = Conversation(collector.ready["grpc"], make_hello())
        assert conversation.hear() is not None
        read_until(lines, '"sensors"')
        conversation.close()
        assert "apidae_collector_http_event_streams 1" in collector.get("/metrics").text
        assert collector.stop() == 0
        list(lines)  # It ended in order: no error, no wait.

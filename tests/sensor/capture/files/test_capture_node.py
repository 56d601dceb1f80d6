"""A capture file as a node: the messages that a sensor would have sent, at the times of the packets."""

import os
import ssl
from pathlib import Path

import pytest
from apidae.v1 import data_pb2

from common.capture_report import CaptureReportError, SentMessage
from sensor.capture.files.capture_file import CapturedPacket, CaptureFile
from sensor.cli.capture_node import CaptureNode, hash_file
from sensor.cli.capture_sources import PacketSource
from tests.sensor.capture.files.packets import GET, OK, START_NS, Talk, write_pcap
from tests.sensor.http.test_tls_hello import make_client_hello

PROBE = b"GET /metrics HTTP/1.1\r\nHost: h\r\nUser-Agent: Prometheus/2.50\r\n\r\n"
START = START_NS // 10**9


def talk_at(seconds: float, request: bytes = GET, *, port: int = 40_000) -> list[CapturedPacket]:
    """A connection with one call."""
    talk = Talk(client=(bytes((10, 0, 0, 1)), port)).open().ask(request).answer(OK).close()
    shift = int(seconds * 10**9)
    return [CapturedPacket(one.time_ns + shift, one.link_type, one.data) for one in talk.packets]


def read(path: Path, packets: list[CapturedPacket]) -> tuple[CaptureNode, list[SentMessage]]:
    capture = CaptureFile(write_pcap(path / "x.pcap", packets))
    node = CaptureNode(PacketSource(capture, capture), path / "x.pcap")
    messages = list(node.read())
    capture.close()
    return node, messages


def sum_calls(messages: list[SentMessage]) -> int:
    batches = [data_pb2.Batch.FromString(one.batch) for one in messages if one.batch]
    return sum(sum(batch.rows.calls) for batch in batches)


def test_each_call_is_in_one_batch_and_a_window_leaves_when_it_is_over(tmp_path: Path) -> None:
    packets = [*talk_at(0), *talk_at(0.5, port=40_001), *talk_at(2, port=40_002), *talk_at(300, port=40_003)]
    node, messages = read(tmp_path, packets)
    assert (node.count().calls, sum_calls(messages)) == (4, 4)
    times = [one.sent_unix_ns for one in messages]
    assert times == sorted(times)
    seconds = {time // 10**9 - START for time in times}
    # What is new leaves with its second, the rest a second after its window; nothing waits for the packet at 300 s.
    assert seconds == {1, 11, 300}


def test_packets_out_of_order_do_not_turn_the_clock_back(tmp_path: Path) -> None:
    late = talk_at(5, port=40_001)
    node, messages = read(tmp_path, [*talk_at(20), *late, *talk_at(21, port=40_002)])
    assert sum_calls(messages) == node.count().calls == 3
    times = [one.sent_unix_ns for one in messages]
    assert times == sorted(times)
    assert node.count().first_unix_ns == START_NS + 5 * 10**9


@pytest.mark.parametrize("seconds", [-START, 5 * 10**9])
def test_a_file_without_real_times_is_moved_and_says_so(tmp_path: Path, seconds: int) -> None:
    packets = [*talk_at(seconds), *talk_at(seconds + 20, port=40_001)]
    capture = CaptureFile(write_pcap(tmp_path / "x.pcap", talk_at(0)))
    node = CaptureNode(PacketSource(capture, packets), tmp_path / "x.pcap")
    messages = list(node.read())
    capture.close()
    account = node.count()
    assert sum_calls(messages) == account.calls == 2
    assert account.first_unix_ns == 1_000 * 86_400 * 10**9
    assert (account.last_unix_ns - account.first_unix_ns) // 10**9 == 20
    assert {part.what: part.count for part in account.unread} == {"Times of packets": len(packets)}


def test_health_checks_are_excluded_and_counted(tmp_path: Path) -> None:
    node, messages = read(tmp_path, [*talk_at(0), *talk_at(1, PROBE, port=40_001)])
    assert sum_calls(messages) == 1
    assert {part.what: part.count for part in node.count().unread} == {"Health checks and metrics scrapes": 1}


def test_what_is_missing_is_counted_with_its_reason(tmp_path: Path) -> None:
    lossy = Talk().open().ask(GET).answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + bytes(4_000)).lose(-2)
    tls = Talk(client=(bytes((10, 0, 0, 1)), 41_000), server=(bytes((10, 0, 0, 4)), 443)).open()
    hello = make_client_hello(ssl.create_default_context(), "shop.example")
    tls.ask(hello).answer(bytes.fromhex("1603030005") + bytes(40))
    late = Talk(client=(bytes((10, 0, 0, 1)), 42_000)).ask(b"x" * 2_000).close()
    node, _ = read(tmp_path, [*lossy.close().packets, *tls.close().packets, *late.packets])
    found = {part.what: part.count for part in node.count().unread}
    assert found["Gaps in connections"] == 1
    assert found["Connections to shop.example at 10.0.0.4:443 (tls)"] == 1
    assert found["Connections that were open before"] == 1
    assert all(part.why.endswith(".") and part.count for part in node.count().unread)


def test_the_same_file_gives_the_same_messages(tmp_path: Path) -> None:
    packets = [*talk_at(0), *talk_at(3, port=40_001)]
    (tmp_path / "a").mkdir()
    assert read(tmp_path, packets)[1] == read(tmp_path / "a", packets)[1]
    other = read(tmp_path, [*packets, *talk_at(9, port=40_002)])[1]
    assert other[0] != read(tmp_path / "a", packets)[1][0]  # Hashes of another file are others.


def test_no_value_is_in_a_message(tmp_path: Path) -> None:
    _, messages = read(tmp_path, talk_at(0))
    assert messages
    assert not any(secret in one.batch + one.schemas for one in messages for secret in (b"s3cret", b"t0ps3cret"))


def test_a_name_that_is_not_utf8_can_be_written(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.pcap"))
    capture = CaptureFile(write_pcap(path, talk_at(0)))
    account = CaptureNode(PacketSource(capture, capture), path).count()
    capture.close()
    assert account.file_name == "caf\ufffd.pcap"


@pytest.mark.parametrize("name", ["nowhere.pcap", "pipe"])
def test_a_file_that_cannot_be_read_twice_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    with pytest.raises(CaptureReportError, match=name):
        hash_file(path)

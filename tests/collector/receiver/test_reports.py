"""Hello, health, coverage and words: bounded, kept, never an exception."""

import json
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from apidae.v1 import data_pb2, stream_pb2
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from collector.receiver.convert import Refusal
from collector.receiver.policy import convert_enforcement
from collector.receiver.reports import (
    ASKED_OF_ROUND,
    FORMER_NAME_LIMIT,
    HIDDEN_LIMIT,
    LONGEST_SECONDS,
    ROUND_SECONDS,
    HiddenWords,
    RevealBook,
    RevealedWord,
    convert_coverage,
    convert_former_names,
    convert_health,
    convert_hello,
    convert_node_addresses,
    convert_revealed,
    convert_workloads,
)
from collector.receiver.sensor_status import Greeting
from tests.collector.wire_batches import NOW


def test_health_keeps_every_stage_balanced() -> None:
    health = stream_pb2.Health(state=stream_pb2.SENSOR_STATE_CAPTURING, lag_ms=7, cpu_ns=2**64 - 1)
    health.stages.add(stage="ring", seen=23, used=20, dropped_reasons=["full", "late"], dropped_counts=[1, 2])
    report = convert_health(health)
    assert report.account is not None
    assert json.loads(report.account.stages) == [
        {"stage": "ring", "seen": 23, "used": 20, "dropped": {"full": 1, "late": 2}}
    ]
    assert (report.state, report.lag_ms) == (1, 7)


@pytest.mark.parametrize(
    ("told", "capture"),
    [
        (stream_pb2.CAPTURE_WAY_CGROUP_SKB, "cgroup_skb"),
        (stream_pb2.CAPTURE_WAY_SYSCALLS, "syscalls"),
        (stream_pb2.CAPTURE_WAY_UNSPECIFIED, ""),  # An older sensor.
        (77, ""),
    ],
)
def test_health_says_how_calls_are_captured_and_why(told: stream_pb2.CaptureWay, capture: str) -> None:
    report = convert_health(stream_pb2.Health(capture=told, fallback_reason="x" * 2_000))
    assert (report.capture, report.fallback_reason) == (capture, "x" * 1_024)


def test_what_any_stage_drops_is_lost_once() -> None:
    health = stream_pb2.Health()
    health.stages.add(stage="kernel", seen=1_000, used=940, dropped_reasons=["ring_full"], dropped_counts=[60])
    health.stages.add(stage="exchange", seen=940, used=900, dropped_reasons=["head_lost"], dropped_counts=[40])
    health.stages.add(stage="spool", seen=9, used=9)
    account = convert_health(health).account
    assert account is not None and (account.seen_calls, account.lost_calls) == (1_000, 100)
    nothing = convert_health(stream_pb2.Health()).account
    assert nothing is not None and nothing.seen_calls == 0
    assert convert_health(stream_pb2.Health(has_same_stages=True)).account is None


def test_coverage_is_of_the_node_that_speaks() -> None:
    service = data_pb2.Service(workload="nginx", host_name="h", port=70_000, workload_kind=3)
    coverage = stream_pb2.Coverage()
    coverage.ports.add(service=service, protocol=2, connections=3, bytes=4, address="::", reason="x" * 2_000)
    (record,) = convert_coverage(coverage, node="node-a", boot_id="b", now_unix_seconds=NOW)
    assert (record.node, record.port, record.protocol, record.connections) == ("node-a", 65_535, 2, 3)
    assert len(record.reason) == 1_024 and record.time.timestamp() == NOW
    assert (record.role, record.is_http_like, record.handshakes) == (1, 0, "")  # An older sensor says none of it.


def test_workloads_are_bounded() -> None:
    coverage = stream_pb2.Coverage()
    labels = [f"k{number}=" + "v" * 500 for number in range(40)]
    coverage.workloads.add(
        cluster="east", namespace="shop", workload="cart", kind="Deployment", labels=labels, pods=2**20
    )
    for number in range(2_000):
        coverage.workloads.add(workload=f"w{number}")
    first, *others = convert_workloads(coverage, node="node-a", now_unix_seconds=NOW)
    assert (first.cluster, first.namespace, first.workload, first.node) == ("east", "shop", "cart", "node-a")
    assert (first.kind, first.pods, len(first.labels), len(first.labels[0])) == ("Deployment", 65_535, 32, 400)
    assert len(others) == 999


def test_coverage_keeps_what_was_heard_within_bounds() -> None:
    coverage = stream_pb2.Coverage()
    port = coverage.ports.add(protocol=2, role=2, is_http_like=True, estimated_calls=2**64 - 1)
    port.handshakes.count = 3
    for number in range(40):
        port.handshakes.server_names.add(text="n" * 999, count=number)
    (record,) = convert_coverage(coverage, node="n", boot_id="b", now_unix_seconds=NOW)
    assert (record.role, record.is_http_like, record.estimated_calls) == (2, 1, 2**63)
    heard = json.loads(record.handshakes)
    assert heard["count"] == 3 and len(heard["server_names"]) == 16
    assert len(heard["server_names"][0][0]) == 253


@pytest.mark.parametrize(
    ("hello", "named"),
    [
        (stream_pb2.Hello(protocol=9, node="n", boot_id="b"), "protocol 9"),
        (stream_pb2.Hello(protocol=1, boot_id="b"), "hello.node"),
        (stream_pb2.Hello(protocol=1, node="n"), "hello.boot_id"),
        (stream_pb2.Hello(protocol=1, node="n", boot_id="b", cluster="c" * 254), "hello.cluster"),
    ],
)
def test_bad_hello_is_refused_by_name(hello: stream_pb2.Hello, named: str) -> None:
    refusal = convert_hello(hello)
    assert isinstance(refusal, Refusal) and named in refusal.reason


def test_words_are_taken_only_when_asked() -> None:
    book = RevealBook(question_limit=3)
    book.set_questions({1, 2, 3, 4})
    known = range(1, 5)
    assert sorted(book.choose(HiddenWords(known), 0.0)) == [2, 3, 4]
    words = convert_revealed(stream_pb2.Revealed(key_id=1, hashes=[3, 77], texts=["orders", "spam"]), NOW)
    assert not isinstance(words, Refusal)
    assert [(word.hash, word.text) for word in book.take(words)] == [(3, "orders")]
    book.set_questions({2})
    assert book.choose(HiddenWords(known), 0.0) == [2]
    assert book.take(words) == []


def test_a_few_sensors_at_a_time_are_asked_for_a_word_and_only_those_that_sent_it() -> None:
    book = RevealBook()
    book.set_questions({7})
    nodes = {f"node-{number}": HiddenWords([7, number + 100]) for number in range(20)}
    others = HiddenWords([8])
    asked: list[list[str]] = []
    for number in range(10):
        now = number * ROUND_SECONDS
        asked.append([node for node, words in nodes.items() if book.choose(words, now)])
        assert not book.choose(others, now)
    assert all(len(nodes_of_round) == ASKED_OF_ROUND for nodes_of_round in asked)
    assert len({node for nodes_of_round in asked for node in nodes_of_round}) > 3 * ASKED_OF_ROUND
    book.take([RevealedWord(hash=7, text="orders", key_id=1, time=datetime.fromtimestamp(NOW, UTC))])
    assert not any(book.choose(words, 10 * LONGEST_SECONDS) for words in nodes.values())


def test_a_sensor_that_does_not_answer_is_asked_less_and_less_and_never_forgotten() -> None:
    book, words = RevealBook(), HiddenWords([7])
    book.set_questions({7})
    times = [time for time in range(0, 7_200, 5) if book.choose(words, time)]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == sorted(waits) and waits[0] == ROUND_SECONDS and waits[-1] == LONGEST_SECONDS


def test_words_of_a_node_are_bounded() -> None:
    book = RevealBook()
    book.set_questions(set(range(1, 2_302)))
    assert len(book.choose(HiddenWords(range(1, 2_302)), 0.0)) == HIDDEN_LIMIT


def test_uneven_answers_are_refused() -> None:
    assert isinstance(convert_revealed(stream_pb2.Revealed(hashes=[1, 2], texts=["x"]), NOW), Refusal)
    assert convert_revealed(stream_pb2.Revealed(hashes=[1, 2], texts=["", "y" * 2_000]), NOW) == []


@given(st.binary(max_size=300))
def test_arbitrary_messages_never_raise(payload: bytes) -> None:
    for kind in (stream_pb2.Hello, stream_pb2.Health, stream_pb2.Coverage, stream_pb2.Revealed):
        try:
            message = kind.FromString(payload)
        except DecodeError:
            continue
        match message:
            case stream_pb2.Hello():
                convert_hello(message)
            case stream_pb2.Health():
                account = convert_health(message).account
                assert account is None or json.loads(account.stages) is not None
            case stream_pb2.Coverage():
                convert_coverage(message, node="n", boot_id="b", now_unix_seconds=NOW)
            case stream_pb2.Revealed():
                words = convert_revealed(message, NOW)
                assert isinstance(words, Refusal) or all(isinstance(word, RevealedWord) for word in words)


def test_times_that_cannot_be_are_bounded() -> None:
    assert convert_health(stream_pb2.Health(lag_ms=2**63)).lag_ms == 31 * 86_400_000
    report = stream_pb2.EnforcementReport()
    report.blocks.add(id="b", first_stop_unix_ms=2**64 - 1)
    report.blocks.add(id="c", first_stop_unix_ms=(NOW - 5) * 1_000)
    found = convert_enforcement(report, NOW)
    assert [block.first_stop_at for block in found.blocks] == [NOW, NOW - 5]


def test_former_names_of_a_message_are_bounded() -> None:
    coverage = stream_pb2.Coverage()
    for number in range(20):
        told = coverage.workloads.add(namespace="shop", workload=f"w{number}")
        told.former_names.extend(f"{number:06x}{n:06x}" for n in range(500))
    greeting = Greeting(
        cluster="c", node="n", boot_id="b", key_id=1, version="", kernel_release="", policy_epoch=0,
        features=frozenset(), name="n",
    )  # fmt: skip
    assert len(convert_former_names(coverage, greeting, NOW)) == FORMER_NAME_LIMIT


def test_a_node_has_addresses_of_its_own_network_alone() -> None:
    """A public address is somebody else's, and loopback is everybody's."""
    kept = {"10.244.0.1", "fd00::1", "100.64.0.1"}
    others = ("8.8.8.8", "2001:4860:4860::8888", "127.0.0.1", "::1", "169.254.1.1", "fe80::1", "0.0.0.0", "bridge", "")
    coverage = stream_pb2.Coverage(node_addresses=[*others, *kept, "FD00:0:0::1"])
    assert convert_node_addresses(coverage) == kept
    many = [f"10.0.{number // 256}.{number % 256}" for number in range(5_000)]
    assert len(convert_node_addresses(stream_pb2.Coverage(node_addresses=many))) <= 1_024

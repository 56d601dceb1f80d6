"""The log in Kafka: URLs, topics, brokers that fail, and topics that are not as they were."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from collector.log import kafka
from collector.log.base import STORE, LogError
from collector.log.kafka import KafkaLog, Topic
from collector.log.open import LogPlace, open_log
from collector.storage.state.store import StateStore
from tests.collector.kafka import BROKERS, MockCluster
from tests.collector.log.test_conformance import make_append, read_all

PRODUCE = 0  # A request's API key, as the next an error's number in the protocol.
MESSAGE_TOO_LARGE = 10


@pytest.fixture
def log(kafka_cluster: MockCluster, sqlite_state: StateStore) -> Iterator[KafkaLog]:
    """Of mock brokers, which can be made to fail."""
    topic = f"failing-{uuid4().hex}"
    kafka_cluster.create_topic(topic)
    with closing(KafkaLog(f"kafka://{kafka_cluster.servers}/{topic}", sqlite_state)) as opened:
        yield opened


def test_a_url_names_brokers_topic_and_settings_of_the_client() -> None:
    url = "kafka://ann:a%40b@one:9092,two:9093/apidae?security.protocol=SASL_SSL&sasl.mechanism=SCRAM-SHA-512"
    topic = Topic(url)
    assert topic.name == "apidae"
    assert topic.place == "Kafka at one:9092,two:9093, topic apidae"
    assert topic.settings == {
        "bootstrap.servers": "one:9092,two:9093",
        "client.id": "apidae",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "ann",
        "sasl.password": "a@b",
    }


@pytest.mark.parametrize(
    "wrong", ["kafka://h:1", "kafka:///t", "kafka://u:secret@h:1/t/x", "kafka://u:secret@h:1/t?acks=0", "kafka://h/t?x"]
)
def test_what_is_no_url_of_a_topic_is_named_without_its_password(
    wrong: str, sqlite_state: StateStore, tmp_path: Path
) -> None:
    with pytest.raises(LogError) as raised:
        open_log(LogPlace(directory=tmp_path, url=wrong), sqlite_state)
    assert "kafka://host:port/topic" in str(raised.value) and "secret" not in str(raised.value)


def test_a_topic_has_one_partition(kafka_cluster: MockCluster, sqlite_state: StateStore) -> None:
    kafka_cluster.create_topic("three", partitions=3)
    with pytest.raises(LogError, match="three has 3 partitions; make it with one"):
        KafkaLog(f"kafka://{kafka_cluster.servers}/three", sqlite_state)


def test_what_a_broker_refuses_is_not_acknowledged_and_may_come_again(
    log: KafkaLog, kafka_cluster: MockCluster
) -> None:
    reader = log.open_reader(STORE)
    log.append([make_append(1)])
    kafka_cluster.refuse(PRODUCE, MESSAGE_TOO_LARGE, times=1)
    with pytest.raises(LogError, match="cannot be used"):
        log.append([make_append(2)])
    assert not log.is_known("node-a", "boot-1", 2)
    log.append([make_append(2), make_append(3)])
    assert read_all(reader) == [1, 2, 3]


def test_when_no_broker_answers_nothing_is_acknowledged_and_it_goes_on_later(
    log: KafkaLog, kafka_cluster: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([make_append(1)])
    for name in ("DELIVERY_SECONDS", "_ANSWER_SECONDS"):
        monkeypatch.setattr(kafka, name, 1)
    log._drop_producer()
    for number in range(1, BROKERS + 1):
        kafka_cluster.stop_broker(number)
    with pytest.raises(LogError):
        log.append([make_append(2)])
    for number in range(1, BROKERS + 1):
        kafka_cluster.start_broker(number)
    monkeypatch.undo()
    log.append([make_append(2)])
    assert read_all(log.open_reader(STORE)) == [1, 2]


def test_what_brokers_deleted_before_it_was_read_is_counted(log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it went between two questions."""
    reader = log.open_reader(STORE)
    log.append([make_append(sequence) for sequence in range(1, 5)])
    stream = log._streams[0]
    whole = stream.fetch
    monkeypatch.setattr(stream, "fetch", lambda offset, end, size: whole(max(offset, 2), end, size))
    assert read_all(reader) == [3, 4] and reader.counts.skipped_batches == 2
    reader.rewind()
    assert read_all(reader) == [3, 4] and reader.counts.skipped_batches == 2


def test_a_topic_that_was_made_anew_is_noticed(
    log: KafkaLog, kafka_cluster: MockCluster, sqlite_state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([make_append(1), make_append(2)])
    reader = log.open_reader(STORE)
    read_all(reader)
    reader.commit(reader.position)
    kafka_cluster.create_topic("anew")
    with closing(KafkaLog(f"kafka://{kafka_cluster.servers}/anew", sqlite_state)) as other:
        monkeypatch.setattr(other, "_cursors", log._cursors)
        with pytest.raises(LogError, match="name another one in log_url"):
            other.open_reader(STORE)

"""Brokers for tests of the log."""

import os
from collections.abc import Iterator
from importlib import import_module
from itertools import count
from uuid import uuid4

import pytest

from tests.collector.kafka import MockCluster, find_library, run_cluster

_TOPICS = count(1)
FETCH_WAIT_MS = 20


@pytest.fixture(scope="session")
def kafka_cluster() -> Iterator[MockCluster]:
    library = find_library()
    if library is None:
        pytest.skip("confluent-kafka is not installed (the extra kafka)")
    with run_cluster(library) as cluster:
        yield cluster


@pytest.fixture
def kafka_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a new topic with one partition; of a real broker where scripts/test --services started one."""
    if given := os.environ.get("APIDAE_TEST_KAFKA"):
        topic, admin = f"batches-{uuid4().hex}", pytest.importorskip("confluent_kafka.admin")
        made = admin.AdminClient({"bootstrap.servers": given}).create_topics([admin.NewTopic(topic, 1, 1)])
        made[topic].result()
        return f"kafka://{given}/{topic}"
    cluster: MockCluster = request.getfixturevalue("kafka_cluster")
    # These brokers do not answer a fetch when something comes, but at its end; and all else waits behind it.
    module = import_module("collector.log.kafka")
    consumer = module.Consumer
    monkeypatch.setattr(module, "Consumer", lambda settings: consumer({**settings, "fetch.wait.max.ms": FETCH_WAIT_MS}))
    topic = f"batches-{next(_TOPICS)}"
    cluster.create_topic(topic)
    return f"kafka://{cluster.servers}/{topic}"

"""Brokers for tests of the log."""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.collector.kafka import MockCluster, find_library, run_cluster

_TOPICS = count(1)


@pytest.fixture(scope="session")
def kafka_cluster() -> Iterator[MockCluster]:
    library = find_library()
    if library is None:
        pytest.skip("confluent-kafka is not installed (the extra kafka)")
    with run_cluster(library) as cluster:
        yield cluster


@pytest.fixture
def kafka_url(kafka_cluster: MockCluster) -> str:
    """Of a new topic with one partition."""
    topic = f"batches-{next(_TOPICS)}"
    kafka_cluster.create_topic(topic)
    return f"kafka://{kafka_cluster.servers}/{topic}"

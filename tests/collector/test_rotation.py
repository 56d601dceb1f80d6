"""The installation key is rotated while sensors are connected: both keys reach them, and both keys' rows count."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from apidae.v1 import stream_pb2

from collector.core.config import CollectorSettings
from collector.core.keys import InstallationKey
from collector.storage.state.store import join_state
from collector.trust.installation_keys import InstallationKeyTable
from collector.trust.secrets import open_state_key
from tests.collector.running import Conversation, RunningCollector, clean_environment, make_hello, wrap
from tests.collector.wire_batches import make_batch
from tests.waiting import wait_until

pytestmark = pytest.mark.store


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[RunningCollector]:
    running = RunningCollector(tmp_path, "--no-auth")
    yield running
    assert running.stop() == 0


def rotate(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from common.main import main; main()", "keys", "rotate"]
    return subprocess.run(
        [*command, "--data-dir", str(directory)], env=clean_environment(), capture_output=True, text=True, timeout=60
    )


def load_keys(directory: Path) -> tuple[InstallationKey, ...]:
    with closing(join_state(directory)) as state:
        key = open_state_key(CollectorSettings(data_dir=directory), state)
        return InstallationKeyTable(state, key).load(time.time())


def send(conversation: Conversation, sequence: int, key_id: int) -> None:
    batch = make_batch(sequence=sequence, base=int(time.time()) - 60)
    batch.key_id = key_id
    # Under another key the same caller has another hash.
    for row, principal in enumerate(batch.rows.principal):
        batch.rows.principal[row] = principal + key_id
    conversation.say(wrap(batch))
    while (response := conversation.hear()) is not None:
        if response.WhichOneof("message") == "ack":
            assert response.ack.status == stream_pb2.ACK_STATUS_ACCEPTED
            return
    raise AssertionError("the stream ended without an acknowledgement")


def test_a_rotation_reaches_sensors_and_loses_no_row(tmp_path: Path, collector: RunningCollector) -> None:
    (old,) = load_keys(tmp_path)
    first = Conversation(collector.ready["grpc"], make_hello(key_id=0))
    assert [key.key_id for key in first.hear().welcome.keys] == [old.key_id]
    send(first, 1, old.key_id)
    done = rotate(tmp_path)
    assert done.returncode == 0, done.stderr
    new, kept = load_keys(tmp_path)
    assert kept == old and str(new.key_id) in done.stdout and new.secret.hex() not in done.stdout
    while first.hear() is not None:  # The stream ends in order, within seconds.
        pass
    first.close()
    second = Conversation(collector.ready["grpc"], make_hello(key_id=old.key_id))
    welcome = second.hear().welcome
    assert [(key.key_id, key.secret) for key in welcome.keys] == [(k.key_id, k.secret) for k in (new, old)]
    send(second, 2, old.key_id)  # Was in the spool.
    send(second, 3, new.key_id)
    second.close()

    def list_consumers():
        consumers = collector.get("/consumers").json()["items"]
        return consumers if sum(consumer["calls"] for consumer in consumers) == 3 * (1 + 2 + 3) else []

    consumers = wait_until(list_consumers, "all calls in the inventory")
    # The same three callers, by the key that names them.
    assert sorted(consumer["key_id"] for consumer in consumers) == sorted([old.key_id] * 3 + [new.key_id] * 3)
    assert "ingest_batches_of_unknown_key_total 0" in collector.get("/metrics").text
    again = rotate(tmp_path)
    assert again.returncode == 1 and "lasts for 8.0 days more" in again.stderr


def test_rows_of_an_unknown_key_count_and_are_told(collector: RunningCollector) -> None:
    conversation = Conversation(collector.ready["grpc"], make_hello())
    send(conversation, 1, 1)
    conversation.close()
    assert "ingest_batches_of_unknown_key_total 1" in collector.get("/metrics").text

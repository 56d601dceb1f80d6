"""A collector on a small volume that others fill and empty: nothing acknowledged is lost, every table agrees."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apidae.v1 import stream_pb2

from collector.storage.disk import DiskReserve, keep_reserve
from collector.storage.embedded import EmbeddedStore
from tests.collector.running import Conversation, RunningCollector, make_hello, wrap
from tests.collector.wire_batches import make_batch

VOLUME_BYTES = 400_000_000
RESERVE_BYTES = 80_000_000
STEP_BYTES = 4_000_000  # A program that fills a volume does so bit by bit.
ROWS = 300
CALLS = ROWS * (ROWS + 1) // 2  # Of one batch.
TABLES = ("rows_minute", "rows_hour", "routes_hour", "routes_day")
KEPT = (stream_pb2.ACK_STATUS_ACCEPTED, stream_pb2.ACK_STATUS_DUPLICATE)


def wait_until(check: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


class Volume:
    """A file system of its own, which `fill` leaves so many bytes of."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: list[Path] = []

    def measure_free(self) -> int:
        return DiskReserve(directory=self.directory, reserve_bytes=0).measure_free()

    def fill(self, left_bytes: int) -> None:
        while (excess := self.measure_free() - left_bytes) > 0:
            path = self.directory / f"fill{len(self._files)}"
            self._files.append(path)
            with path.open("wb") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, min(excess, STEP_BYTES))
                except OSError:  # The collector took the rest.
                    return
            time.sleep(0.002)

    def empty(self) -> None:
        while self._files:
            self._files.pop().unlink(missing_ok=True)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    directory = tmp_path / "volume"
    directory.mkdir()
    if os.geteuid() != 0:
        pytest.skip("Mounting a volume needs root.")
    options = ["-t", "tmpfs", "-o", f"size={VOLUME_BYTES}", "tmpfs", str(directory)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"A tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield Volume(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


class Node:
    """A sensor that sends one batch after the other and each again until it is kept, in a thread of its own."""

    def __init__(self, address: str, name: str) -> None:
        self.kept_calls = 0
        self.retries: list[str] = []
        self._name = name
        self._address = address
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        conversation = Conversation(self._address, make_hello(self._name))
        sequence = 1
        while not self._is_stopping.is_set():
            base = int(time.time()) // 60 * 60 - 60 - 3_600 * (sequence % 3)  # Rows of three hours.
            conversation.say(wrap(make_batch(sequence=sequence, rows=ROWS, node=self._name, base=base)))
            ack = self._hear_ack(conversation)
            if ack.status in KEPT:
                self.kept_calls += CALLS
                sequence += 1
            else:
                assert ack.status == stream_pb2.ACK_STATUS_RETRY
                self.retries.append(ack.reason)
                self._is_stopping.wait(0.05)
        conversation.close()

    def _hear_ack(self, conversation: Conversation) -> stream_pb2.Ack:
        while (response := conversation.hear()) is not None:
            if response.WhichOneof("message") == "ack":
                return response.ack
        raise AssertionError("the stream ended")

    def stop(self) -> None:
        self._is_stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def start_collector(volume: Volume) -> RunningCollector:
    config = volume.directory.parent / "collector.toml"
    config.write_text(f"disk_reserve_bytes = {RESERVE_BYTES}\n")
    return RunningCollector(volume.directory / "data", "--no-auth", "--config", str(config))


def read_metric(collector: RunningCollector, name: str) -> float:
    lines = collector.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"apidae_collector_{name} ")).rpartition(" ")[2])


def list_alerts(collector: RunningCollector, kind: str, state: str) -> list[str]:
    items = collector.get(f"/alerts?kind={kind}&state={state}").json()["items"]
    return [item["why"] for item in items]


def sum_tables(volume: Volume) -> dict[str, int]:
    store = EmbeddedStore(volume.directory / "data" / "store")
    try:
        return {table: int(store.query(f"SELECT sum(calls) FROM {table}")[0][0]) for table in TABLES}
    finally:
        store.close()


def takes_nothing(collector: RunningCollector, nodes: list[Node]) -> bool:
    """Whether nothing is written while each node is refused three times."""

    def read_written() -> list[float]:
        names = ("writer_batches_stored_total", "wal_bytes", "detector_restarts_total")
        return [*(read_metric(collector, name) for name in names), *(node.kept_calls for node in nodes)]

    before, retries = read_written(), [len(node.retries) for node in nodes]
    wait_until(lambda: all(len(node.retries) > count + 3 for node, count in zip(nodes, retries, strict=True)))
    return read_written() == before


@pytest.mark.store
def test_full_volume_costs_nothing_that_was_acknowledged(volume: Volume) -> None:
    collector = start_collector(volume)
    nodes = [Node(collector.ready["grpc"], f"node-{number}") for number in range(3)]
    try:
        for _ in range(4):
            kept = [node.kept_calls for node in nodes]
            wait_until(lambda kept=kept: all(one.kept_calls > two for one, two in zip(nodes, kept, strict=True)))
            retries = [len(node.retries) for node in nodes]
            volume.fill(RESERVE_BYTES * 3 // 4)
            wait_until(
                lambda retries=retries: all(len(node.retries) > r for node, r in zip(nodes, retries, strict=True))
            )
            wait_until(lambda: list_alerts(collector, "disk_full", "open"))
            volume.fill(0)
            ready = collector.get("/readyz")
            assert (ready.status_code, ready.json()["storage"]) == (200, "disk_full")
            # Once what was under way is done, neither the log nor the tables take anything.
            wait_until(lambda: takes_nothing(collector, nodes))
            assert collector.get("/endpoints").status_code == 200
            assert "MB are kept free (disk_reserve_bytes)" in collector.get_page("/").text
            volume.empty()
        wait_until(lambda: collector.get("/readyz").json()["storage"] == "ok")
        assert read_metric(collector, "detector_restarts_total") == 0
        wait_until(lambda: not list_alerts(collector, "disk_full", "open"))
        (why,) = list_alerts(collector, "disk_full", "closed")
        assert why.startswith(f"The volume of {volume.directory / 'data'} has ") and "Sensors keep" in why
    finally:
        for node in nodes:
            node.stop()
        code = collector.stop()
    assert code == 0 and not any("Traceback" in line for line in collector.errors)
    assert "MB free" in nodes[0].retries[0]
    total = sum(node.kept_calls for node in nodes)
    assert sum_tables(volume) == dict.fromkeys(TABLES, total)


@pytest.mark.store
def test_collector_starts_below_the_reserve_and_never_below_half_of_it(volume: Volume) -> None:
    first = start_collector(volume)
    node = Node(first.ready["grpc"], "node-1")
    wait_until(lambda: node.kept_calls)
    node.stop()
    assert first.stop() == 0
    volume.fill(RESERVE_BYTES * 3 // 4)
    second = start_collector(volume)
    again = Node(second.ready["grpc"], "node-2")
    wait_until(lambda: again.retries)
    assert second.get("/readyz").json()["storage"] == "disk_full" and not again.kept_calls
    again.stop()
    assert second.stop() == 0
    volume.fill(0)
    with pytest.raises(AssertionError, match=r"0 MB free, and the collector starts from 40 MB on \(half of disk_reser"):
        start_collector(volume)
    volume.empty()
    third = start_collector(volume)
    assert third.get("/readyz").json()["storage"] == "ok"
    assert third.stop() == 0
    assert sum_tables(volume) == dict.fromkeys(TABLES, node.kept_calls)


def test_reserve_is_the_larger_of_a_gigabyte_and_a_share_of_the_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_volume(size: int, free: int) -> None:
        values = (4_096, 4_096, size // 4_096, 0, free // 4_096, 0, 0, 0, 0, 255)
        monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))

    set_volume(20_000_000_000, 900_000_000)
    small = keep_reserve(tmp_path, None)
    assert (small.reserve_bytes, small.floor_bytes) == (1_000_000_000, 500_000_000)
    assert f"{tmp_path} has 900 MB free, and 1,000 MB are kept free (disk_reserve_bytes)" in small.find_shortage()
    set_volume(20_000_000_000, 499_000_000)
    with pytest.raises(OSError, match=r"has 499 MB free, and the collector starts from 500 MB on"):
        keep_reserve(tmp_path / "not" / "there", None)
    set_volume(500_000_000_000, 5_100_000_000)
    large = keep_reserve(tmp_path, None)
    assert large.reserve_bytes == pytest.approx(5_000_000_000, rel=0.001) and not large.find_shortage()
    assert keep_reserve(tmp_path, 64_000_000).reserve_bytes == 64_000_000

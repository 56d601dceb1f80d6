"""The collector as a program: what it accepts survives kill -9 exactly once, and what is wrong is one sentence."""

import os
import pty
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from apidae.v1 import data_pb2, stream_pb2

from collector.log.base import Append
from collector.log.files import FileLog
from collector.log.segment import locate_segment
from collector.storage.embedded import EmbeddedStore, locate_tables, lock_directory
from tests.collector.receiver.test_own_traffic import list_held
from tests.collector.running import PATIENCE, RunningCollector, clean_environment, list_acks, make_hello, talk, wrap
from tests.collector.wire_batches import make_batch
from tests.waiting import DEADLINE_SECONDS, is_readable, wait_until
from tests.with_constants import make_command

pytestmark = pytest.mark.store

ACCEPTED = stream_pb2.ACK_STATUS_ACCEPTED
DUPLICATE = stream_pb2.ACK_STATUS_DUPLICATE
REFUSED = stream_pb2.ACK_STATUS_REFUSED


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    running = RunningCollector(tmp_path_factory.mktemp("collector"), "--no-auth")
    yield running
    assert running.stop() == 0


def make_current(sequence: int, rows: int = 3, node: str = "node-a"):
    return make_batch(sequence=sequence, rows=rows, node=node, base=int(time.time()) - 60)


def test_rows_reach_the_inventory(collector: RunningCollector) -> None:
    responses = talk(collector.ready["grpc"], [make_hello(), wrap(make_current(1, rows=7))])
    welcome = responses[0].welcome
    assert welcome.protocol == 1 and len(welcome.keys[0].secret) == 16
    assert [r.policy.triggers.calls_per_second for r in responses if r.WhichOneof("message") == "policy"] == [20]
    assert [(ack.sequence, ack.status) for ack in list_acks(responses)] == [(1, ACCEPTED)]

    def list_calls() -> dict[str, int]:
        return {item["method"]: item["calls"] for item in collector.get("/endpoints").json()["items"]}

    wait_until(lambda: list_calls() == {"GET": 1 + 3 + 5 + 7, "POST": 2 + 4 + 6})
    item = collector.get("/endpoints").json()["items"][0]
    assert item["template"] == "/users/{user_id}"
    wait_until(lambda: [sensor["node"] for sensor in collector.get("/sensors").json()["items"]] == ["node-a"])


def test_the_welcome_names_the_file_that_the_collectors_process_holds(collector: RunningCollector) -> None:
    own = talk(collector.ready["grpc"], [make_hello()])[0].welcome.own_traffic
    assert own.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert list_held(own.process_mark, collector.ready["pid"])
    assert len(own.process_mark) > 64 and not own.ends  # It listens on loopback only.


def test_an_endpoint_of_several_nodes_is_one_and_of_two_clusters_two(collector: RunningCollector) -> None:
    for node, cluster, first_route in (("pool-1", "east", 111), ("pool-2", "east", 111), ("pool-3", "west", 211)):
        batch = make_current(1, node=node, rows=3)
        batch.strings[1] = "several.test"
        batch.services[0].CopyFrom(
            data_pb2.Service(
                cluster=cluster,
                namespace="shop",
                workload="web",
                workload_kind=data_pb2.WORKLOAD_KIND_KUBERNETES,
                port=8080,
            )
        )
        for number, route in enumerate(batch.routes):
            route.route_id = first_route + number
        talk(collector.ready["grpc"], [make_hello(node, cluster=cluster), wrap(batch)])

    def list_calls() -> dict[tuple[str, str], int]:
        items = collector.get("/endpoints?host=several.test").json()["items"]
        return {(item["service"]["cluster"], item["method"]): item["calls"] for item in items}

    wanted = {("east", "GET"): 2 * 4, ("east", "POST"): 2 * 2, ("west", "GET"): 4, ("west", "POST"): 2}
    wait_until(lambda: list_calls() == wanted)


def test_bad_messages_are_refused_and_the_stream_goes_on(collector: RunningCollector) -> None:
    bad = make_current(2, node="node-b")
    bad.rows.calls.append(1)
    responses = talk(
        collector.ready["grpc"],
        [
            make_hello("node-b"),
            wrap(make_current(1, node="node-b")),
            wrap(bad),
            b"\xff\xff\xff not a message",
            b"\x12" + b"\0" * (17 * 1024 * 1024),
            wrap(make_current(3, node="other-node")),
            wrap(make_current(4, node="node-b")),
            wrap(make_current(1, node="node-b")),
        ],
    )
    acks = list_acks(responses)
    # The second copy of 1 either waited for the first one's write or came after it.
    kept = [(ack.sequence, ack.status) for ack in acks if ack.status != REFUSED]
    assert sorted(kept) in ([(1, ACCEPTED), (1, status), (4, ACCEPTED)] for status in (ACCEPTED, DUPLICATE))
    refused = [ack for ack in acks if ack.status == REFUSED]
    # Columns are checked with those of other batches, later than all else.
    assert sorted(ack.sequence for ack in refused) == [0, 0, 2, 3]
    reasons = " ".join(ack.reason for ack in refused)
    assert "rows.calls has 4" in reasons and "16777216" in reasons
    metrics = dict(
        line.rsplit(" ", 1) for line in collector.get("/metrics").text.splitlines() if not line.startswith("#")
    )

    def count(name: str) -> float:
        return float(metrics.get(f"apidae_collector_ingest_batches_{name}_total", 0))

    assert count("refused") == 4
    assert count("seen") == sum(count(name) for name in ("durable", "duplicate", "retry", "refused"))


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([wrap(make_batch())], grpc.StatusCode.INVALID_ARGUMENT),
        ([b"\xff"], grpc.StatusCode.INVALID_ARGUMENT),
        ([], grpc.StatusCode.INVALID_ARGUMENT),
        ([make_hello(protocol=2)], grpc.StatusCode.FAILED_PRECONDITION),
        ([make_hello(node="")], grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_bad_greeting_ends_the_stream(collector: RunningCollector, messages, code) -> None:
    with pytest.raises(grpc.RpcError) as error:
        talk(collector.ready["grpc"], messages)
    assert error.value.code() == code


def test_damaged_byte_of_the_log_costs_its_batch_and_is_an_alert(tmp_path: Path) -> None:
    base = int(time.time()) - 60
    wal = FileLog(tmp_path / "wal", readers=("store", "detectors"))
    for sequence in range(1, 301):
        payload = make_batch(sequence=sequence, base=base).SerializeToString()
        received = time.time_ns()
        append = Append(node="node-a", boot_id="boot-1", sequence=sequence, received_unix_ns=received, payload=payload)
        wal.append([append])
    path = locate_segment(tmp_path / "wal", wal.position.segment)
    wal.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 10] ^= 1
    path.write_bytes(content)
    collector = RunningCollector(tmp_path, "--no-auth")

    def list_damage() -> list[str]:
        return [item["why"] for item in collector.get("/alerts?kind=log_damaged").json()["items"]]

    def count_calls() -> int:
        return sum(item["calls"] for item in collector.get("/endpoints").json()["items"])

    try:
        wait_until(lambda: count_calls() == 299 * 6)
        wait_until(list_damage)
        assert "recovered: 269; batches that were lost: 1 at most." in list_damage()[0]
        metrics = collector.get("/metrics").text.splitlines()
        assert "apidae_collector_log_batches_lost_total 1.0" in metrics
    finally:
        assert collector.stop() == 0


def test_damaged_parts_of_tables_keep_no_collector_from_starting_and_are_an_alert(tmp_path: Path) -> None:
    collector = RunningCollector(tmp_path, "--no-auth")
    talk(collector.ready["grpc"], [make_hello(), wrap(make_current(1))])

    def list_calls() -> list[int]:
        return [item["calls"] for item in collector.get("/endpoints").json()["items"]]

    wait_until(lambda: sum(list_calls()) == 6)
    before = list_calls()
    assert collector.stop() == 0
    for table in ("endpoint_routes", "routes_hour"):
        for path in (locate_tables(tmp_path / "store") / table).glob("*_*_*/data.bin"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    collector = RunningCollector(tmp_path, "--no-auth", constants={"collector.storage.damage.LOOK_SECONDS": 0.0})
    try:
        wait_until(lambda: "apidae_collector_parts_rebuilt_total 2.0" in collector.get("/metrics").text)
        assert list_calls() == before
        alert = wait_until(lambda: collector.get("/alerts?kind=table_damaged").json()["items"])[0]
        assert alert["severity"] == "high" and alert["title"].startswith("Tables of the collector were damaged")
    finally:
        assert collector.stop() == 0


def test_kill_9_loses_nothing_acknowledged_and_doubles_nothing(tmp_path: Path) -> None:
    acked: dict[int, int] = {}
    sequence = 0
    for round_number in range(4):
        collector = RunningCollector(tmp_path, "--no-auth")

        def send(first: int, address: str, sent: threading.Event) -> Iterator[object]:
            yield make_hello()
            # Everything so far again: a sensor that heard no acknowledgement does so.
            for number in range(1, first + 400):
                yield wrap(make_current(number, rows=1 + number % 5))
                if number == first + 60:
                    sent.set()

        ready_to_die = threading.Event()

        def converse(
            running: RunningCollector = collector, first: int = sequence, ready: threading.Event = ready_to_die
        ) -> None:
            address = running.ready["grpc"]
            with grpc.insecure_channel(address) as channel:
                connect = channel.stream_stream(
                    "/apidae.v1.CollectorService/Connect",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=stream_pb2.ConnectResponse.FromString,
                )
                try:
                    for response in connect(send(first, address, ready)):
                        if response.WhichOneof("message") == "ack" and response.ack.status in (ACCEPTED, DUPLICATE):
                            number = response.ack.sequence
                            calls = sum(range(1, 2 + number % 5))
                            acked[number] = calls
                except grpc.RpcError:
                    pass  # The collector died, which is the point.

        thread = threading.Thread(target=converse)
        thread.start()
        assert ready_to_die.wait(60)
        # Later each round: in the first write, between inserts, in the middle of one.
        time.sleep(0.15 + 0.4 * round_number)
        collector.kill()
        thread.join()
        sequence = max(acked, default=0)
    last = RunningCollector(tmp_path, "--no-auth")
    wait_until(lambda: last.get("/readyz").status_code == 200)
    assert last.stop() == 0
    store = EmbeddedStore(tmp_path / "store")
    try:
        (minute,) = store.query("SELECT sum(calls) FROM rows_minute")[0]
        (hour,) = store.query("SELECT sum(calls) FROM rows_hour")[0]
        (day,) = store.query("SELECT sum(calls) FROM routes_day")[0]
    finally:
        store.close()
    assert acked
    # Batches that were durable but whose acknowledgement the kill cut off may be there too; sent twice, they count
    # once.
    everything = {number: sum(range(1, 2 + number % 5)) for number in range(1, sequence + 400)}
    assert minute == hour == day
    assert sum(acked.values()) <= minute <= sum(everything.values())
    resent = RunningCollector(tmp_path, "--no-auth")
    top = max(everything)
    talk(resent.ready["grpc"], [make_hello(), *(wrap(make_current(n, rows=1 + n % 5)) for n in range(1, top + 1))])
    assert resent.stop() == 0
    store = EmbeddedStore(tmp_path / "store")
    try:
        assert store.query("SELECT sum(calls) FROM rows_minute") == [(sum(everything.values()),)]
        assert store.query("SELECT sum(calls) FROM rows_hour") == [(sum(everything.values()),)]
    finally:
        store.close()


def test_tokens_are_made_once_kept_private_and_needed(tmp_path: Path) -> None:
    collector = RunningCollector(tmp_path)
    sensor_token = (tmp_path / "sensor.token").read_text().strip()
    api_token = (tmp_path / "api.token").read_text().strip()
    for name in ("sensor.token", "api.token", "state.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    # A directory with looser rights than the collector would give it keeps nothing that others may read.
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o077] == []
    assert collector.get("/endpoints").status_code == 401
    assert collector.get("/endpoints", api_token).status_code == 200
    for wrong in ("", "x" * 43, api_token):
        with pytest.raises(grpc.RpcError) as error:
            talk(collector.ready["grpc"], [make_hello()], wrong)
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert talk(collector.ready["grpc"], [make_hello()], sensor_token)[0].HasField("welcome")
    assert collector.stop() == 0
    printed = "".join(collector.errors)
    assert sensor_token not in printed and api_token not in printed
    for name in ("sensor.token", "api.token"):
        assert printed.count(f"made now and kept in {tmp_path / name}.") == 1
    again = RunningCollector(tmp_path)
    assert again.stop() == 0
    assert "made now" not in "".join(again.errors)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_tokens_are_printed_on_a_terminal_alone(tmp_path: Path, is_terminal: bool) -> None:
    """Started with its output in a file, as a service is, and on a terminal, as a person does."""
    data, file = tmp_path / "data", tmp_path / "output"
    command = [*make_command(PATIENCE), "collector", "--data-dir", str(data)]
    command += ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
    controller, terminal = pty.openpty()
    with file.open("wb") as output:
        place = terminal if is_terminal else output
        process = subprocess.Popen(command, stdout=place, stderr=place, env=clean_environment())
    os.close(terminal)
    printed = bytearray()

    def is_ready() -> bool:
        """Having read what there is."""
        if is_terminal and is_readable(controller, 0.05):
            printed.extend(os.read(controller, 65_536))
        elif not is_terminal:
            printed[:] = file.read_bytes()
        return b'"event": "ready"' in printed

    try:
        wait_until(is_ready)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        os.close(controller)
    for name in ("sensor.token", "api.token"):
        token = (data / name).read_bytes().strip()
        assert printed.count(token) == (1 if is_terminal else 0)
        assert printed.count(str(data / name).encode()) == 1


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--no-auth", "--http-listen", "0.0.0.0:0"], "no_auth works on loopback only"),
        (["--no-auth", "--grpc-listen", "0.0.0.0:0"], "no_auth works on loopback only"),
        (["--grpc-listen", "nonsense"], "HOST:PORT"),
        (["--disk-limit-bytes", "5"], "disk_limit_bytes"),
        (["--config", "/nonexistent.toml"], "/nonexistent.toml cannot be read"),
        (["--data-dir", "/proc/apidae"], "/proc/apidae cannot be written"),
    ],
)
def test_bad_setting_is_one_sentence(tmp_path: Path, flags: list[str], sentence: str) -> None:
    refusal = read_refusal("--data-dir", str(tmp_path), *flags)
    assert sentence in refusal
    assert "Traceback" not in refusal


def test_unknown_key_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("dta_dir = '/x'\n")
    refusal = read_refusal("--data-dir", str(tmp_path), "--config", str(tmp_path / "c.toml"))
    assert re.search(r"dta_dir .*did you mean data_dir", refusal)


def read_refusal(*flags: str) -> str:
    """What a collector that does not start prints."""
    command = [*make_command({}), "collector", *flags]  # Without constants: setting them imports all of it.
    done = subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(), timeout=DEADLINE_SECONDS, check=False
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_directory_or_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    lock = lock_directory(tmp_path / "used")
    try:
        with pytest.raises(AssertionError, match="is in use by another collector"):
            RunningCollector(tmp_path / "used", "--no-auth")
    finally:
        lock.close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for flag in ("--http-listen", "--grpc-listen"):
            with pytest.raises(AssertionError, match="is the port in use") as error:
                RunningCollector(tmp_path / "free", "--no-auth", flag, f"127.0.0.1:{taken.getsockname()[1]}")
            assert "Traceback" not in str(error.value)

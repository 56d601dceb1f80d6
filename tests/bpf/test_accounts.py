"""Every call goes exactly one way and is counted once: records, heads, sums of full rings; and the budget of heads."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scripts.ports import take_port
from scripts.vm.images import find_images
from sensor.capture.packets.capture import PacketCapture
from sensor.core.calls import Exchange
from sensor.core.clock import Clock
from sensor.ebpf.abi import OVERFLOW_KEY, RECORD, Counter, RecordFlag
from sensor.ebpf.loader import load_program
from tests.bpf.cgroups import in_cgroup
from tests.bpf.recognised import Watch, own_cgroup_id
from tests.bpf.reference import Teacher
from tests.bpf.test_capture import answering
from tests.bpf.test_loss import dropping
from tests.bpf.wire import chunked, connected, receive_exactly, request, response, serving, talk

pytestmark = pytest.mark.kernel

SMALL_RECORDS_BYTES = 4_096  # 30 records.
SMALL_RING_BYTES = 16_384
SHARED_RECORDS_BYTES = 16_384
SHARED_RECORDS = SHARED_RECORDS_BYTES // (RECORD.itemsize + 8)
CALLS = 199


@contextlib.contextmanager
def _capturing(cgroup: Path, *, ring_bytes: int, records_bytes: int, is_root_cgroup: bool) -> Iterator[PacketCapture]:
    """A capture of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sensor.capture.packets.capture.RECORDS_BYTES", records_bytes)
        program = load_program(cgroup, ring_bytes, is_root_cgroup, records_bytes, cache_directory=find_images())
        capture = PacketCapture(program=program, ring_bytes=ring_bytes, clock=Clock())
    try:
        capture.attach()
        yield capture
    finally:
        capture.close()


@pytest.fixture(scope="module")
def cramped(home: Path) -> Iterator[PacketCapture]:
    """Rings that are soon full."""
    with _capturing(
        home, ring_bytes=SMALL_RING_BYTES, records_bytes=SMALL_RECORDS_BYTES, is_root_cgroup=True
    ) as capture:
        yield capture


@contextlib.contextmanager
def _watching(capture: PacketCapture) -> Iterator[Watch]:
    teacher = Teacher(capture)
    try:
        yield Watch(capture, teacher)
    finally:
        teacher.close()


def _overflow(watch: Watch, port: int) -> tuple[int, int, int]:
    """Calls, request bytes, response bytes summed for a port."""
    rows = [row for key, row in watch.capture.overflow().items() if OVERFLOW_KEY.unpack(key)[1] == port]
    return sum(row[0] for row in rows), sum(row[1] for row in rows), sum(row[2] for row in rows)


def _accounts(watch: Watch, port: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(records, slow, overflow) calls, and (calls, request bytes, response bytes) over all three."""
    records, exchanges = watch.collect(port, 0)
    overflow = _overflow(watch, port)
    told = int(records["calls"].sum())
    slow = sum(one.figures.calls for one in exchanges)
    return (told, slow, overflow[0]), (
        told + slow + overflow[0],
        int(records["request_bytes"].sum()) + sum(one.figures.request_bytes for one in exchanges) + overflow[1],
        int(records["response_bytes"].sum()) + sum(one.figures.response_bytes for one in exchanges) + overflow[2],
    )


@pytest.mark.full
@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("answer", [response(200, b"r" * 70), chunked(200, b"x" * 9), response(200, b"d" * 200_000)])
def test_full_rings_lose_no_call(cramped: PacketCapture, is_known: bool, answer: bytes) -> None:
    sent = request("POST", "/full/1234", body=b"u" * 100)
    with _watching(cramped) as watch:
        with serving(answering([len(sent)] * CALLS, *[(answer,)] * CALLS)) as port:
            if is_known:
                watch.teacher.profile(sent)
                watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port, values=(1,))
            watch.collect(port, 0)  # Other calls of this node.
            with connected(port) as client:
                for _ in range(CALLS):
                    client.sendall(sent)
                    receive_exactly(client, len(answer))
                ways, sums = _accounts(watch, port)
        assert sums == (CALLS, CALLS * len(sent), CALLS * len(answer))
        assert ways[2] > 0 and ways[0] > 0
        assert (ways[1] == 0) == is_known


def test_calls_whose_ends_were_lost_are_not_reported_again(
    cramped: PacketCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their heads came up, and there is room for only one call that goes on when the next comes."""
    sent, answer = request("GET", "/ended"), response(200)
    asked = threading.Barrier(41)

    def serve(connection: socket.socket) -> None:
        receive_exactly(connection, len(sent))
        asked.wait(60)
        connection.sendall(answer)

    with _watching(cramped) as watch:
        with serving(serve) as port, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connected(port)) for _ in range(40)]
            for client in clients:
                client.sendall(sent)
            asked.wait(60)
            for client in clients:
                receive_exactly(client, len(answer))
        ways, sums = _accounts(watch, port)
        assert sums[0] == 40
        assert ways[2] > 10
        assert len(cramped._assembler._pending) > 10
        monkeypatch.setattr("sensor.capture.packets.exchange.PENDING_MAX", 1)
        with serving(answering([len(sent)], (answer,))) as later:
            talk(later, (sent,), len(answer))
            _, exchanges = watch.collect(port, 0)
    assert exchanges == []


@pytest.mark.full
def test_a_call_is_counted_whatever_stays_down_behind_it(watch: Watch) -> None:
    """The client goes in the midst of its next head, for which there is no budget."""
    watch.teacher.set(heads_per_second=1, heads_burst=2)
    first, second = request("GET", "/first"), request("GET", "/second")
    asked = threading.Event()

    def serve(connection: socket.socket) -> None:
        receive_exactly(connection, len(first) + 20)
        asked.set()
        receive_exactly(connection, 1)

    with in_cgroup("behind"):
        served = serving(serve)
        port = served.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(served.__exit__)
        with connected(port) as client:
            client.sendall(first)
            time.sleep(0.05)
            client.sendall(second[:20])
            assert asked.wait(60)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        records, exchanges = watch.collect(port, 0, 1)
    assert [(one.figures.is_aborted, one.figures.calls) for one in exchanges] == [(True, 1)]
    assert len(records) == 0


@pytest.mark.full
def test_fifteen_percent_loss_over_a_full_ring(cramped: PacketCapture) -> None:
    sent = request("POST", "/loss/1234", body=b"u" * 3_000)
    answers = [response(200, b"d" * (i * 1_000)) if i % 2 else chunked(201, b"e" * 700) for i in range(60)]
    port = take_port()
    with _watching(cramped) as watch, dropping(port) as dropped:
        with serving(answering([len(sent)] * 60, *[(one,) for one in answers]), port=port), connected(port) as client:
            client.settimeout(60)
            watch.teacher.profile(sent)
            watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port, values=(1,))
            for one in answers:
                client.sendall(sent)
                assert len(receive_exactly(client, len(one))) == len(one)
            ways, sums = _accounts(watch, port)
        assert dropped() > 0
    assert sums == (60, 60 * len(sent), sum(map(len, answers)))
    # Not that some became records: in so long a time other calls of this node may have filled the ring before.
    assert ways[2] > 0


@pytest.mark.full
def test_beyond_the_budget_calls_are_counted_without_heads(watch: Watch) -> None:
    watch.teacher.set(heads_per_second=1, heads_burst=3)
    sent, answer = request("GET", "/unknown"), response(404)
    with (
        serving(answering([len(sent)] * 23, *[(answer,)] * 23), host="::1") as port,
        connected(port, "::1") as client,
    ):
        for _ in range(23):
            client.sendall(sent)
            receive_exactly(client, len(answer))
        records, exchanges = watch.collect_all(port, 23)
    # Other unknown heads of this cgroup share the budget.
    assert 1 <= len(exchanges) <= 5 + count_leaked(exchanges)
    assert len(records) + len(exchanges) == 23
    assert set(records["flags"].tolist()) == {int(RecordFlag.FINAL | RecordFlag.UNLEARNED)}
    assert set(records["route"].tolist()) == set(records["profile"].tolist()) == {0}
    assert set(records["status"].tolist()) == {404}
    server = {one["object"].tobytes() + one["number"].tobytes() for one in records}
    assert server == {bytes(15) + b"\1"}
    assert int(records["request_bytes"].sum()) == len(records) * len(sent)


def count_leaked(exchanges: Sequence[Exchange]) -> int:
    """Heads that a budget of one a second allows beside its burst, by when they came."""
    times = [one.figures.time_unix_ns for one in exchanges]
    return -((min(times) - max(times)) // 10**9)


def test_split_heads_keep_to_the_budget_too(watch: Watch) -> None:
    watch.teacher.set(heads_per_second=1, heads_burst=0)
    sent, answer = request("GET", "/split"), response(200)
    with serving(answering([len(sent)], (answer,))) as port:
        talk(port, (sent[:9], sent[9:20], sent[20:]), len(answer))
        records, exchanges = watch.collect(port, 1)
    assert exchanges == []
    assert [tuple(row) for row in records[["calls", "request_bytes", "status"]].tolist()] == [(1, len(sent), 200)]


@pytest.mark.parametrize(("size", "least", "most"), [(0, 7, 10), (4_200, 1, 3), (7_900, 1, 2)])
def test_large_heads_cost_what_they_take(watch: Watch, size: int, least: int, most: int) -> None:
    """Each KiB of a head costs as much as a head: a burst of large ones fills no more of the ring. One client alone has
    three quarters of its cgroup's burst."""
    sent, answer = request("GET", "/large", "X-Filler: " + "f" * size + "\r\n"), response(404)
    with in_cgroup(f"large{size}"):
        served = serving(answering([len(sent)] * 20, *[(answer,)] * 20))
        port = served.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(served.__exit__)
        watch.teacher.set(heads_per_second=1, heads_burst=10)
        with connected(port) as client:
            for _ in range(20):
                client.sendall(sent)
                receive_exactly(client, len(answer))
        records, exchanges = watch.collect_all(port, 20)
    assert len(records) + len(exchanges) == 20
    assert least <= len(exchanges) <= most + count_leaked(exchanges)


@pytest.mark.full
def test_a_flood_in_one_cgroup_leaves_the_others_their_budget(watch: Watch) -> None:
    watch.teacher.set(heads_per_second=1, heads_burst=40, node_heads_per_second=1, node_heads_burst=40)
    sent, answer = request("GET", "/flood"), response(200)
    with in_cgroup("flood"):
        flooded = serving(answering([len(sent)] * 300, *[(answer,)] * 300))
        port = flooded.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(flooded.__exit__)
        with connected(port) as client:
            for _ in range(300):
                client.sendall(sent)
                receive_exactly(client, len(answer))
        records, exchanges = watch.collect_all(port, 300)
        assert len(records) + len(exchanges) == 300
        assert 10 <= len(exchanges) <= 80 + count_leaked(exchanges)
    with in_cgroup("calm"):
        calm = serving(answering([len(sent)] * 7, *[(answer,)] * 7))  # Of ten, what one client may fill.
        port = calm.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(calm.__exit__)
        with connected(port) as client:
            for _ in range(7):
                client.sendall(sent)
                receive_exactly(client, len(answer))
        records, exchanges = watch.collect(port, 0, 7)
        assert (len(records), len(exchanges)) == (0, 7)


@pytest.mark.full
def test_who_fills_the_ring_of_records_leaves_others_their_share(home: Path) -> None:
    """Nobody reads meanwhile: half of the ring is for who comes first, of the rest each cgroup has a part."""
    sent, answer = request("GET", "/share/1234"), response(200)
    parent = home / f"apidae_test_shares_{os.getpid()}"
    parent.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(parent.rmdir)
        capture = stack.enter_context(
            _capturing(parent, ring_bytes=1 << 20, records_bytes=SHARED_RECORDS_BYTES, is_root_cgroup=False)
        )
        watch = stack.enter_context(_watching(capture))
        watch.teacher.profile(sent)
        ports, flooded_count = {}, 0
        for name, count in (("flood", 300), ("calm", 5)):
            with in_cgroup(name, parent) as cgroup:
                number = cgroup.stat().st_ino
                port = ports[name] = stack.enter_context(serving(answering([len(sent)] * count, *[(answer,)] * count)))
            watch.teacher.path(sent, cgroup_id=number, port=port, values=(1,))
        for turn in range(2):  # What is read is free for all again.
            for name, count in (("flood", 150 - 5 * turn), ("calm", 2 + turn)):
                with connected(ports[name]) as client:
                    for _ in range(count):
                        client.sendall(sent)
                        receive_exactly(client, len(answer))
            records = capture.read_records(is_all=True).copy()
            capture.release_records()
            told = {name: int((records["local_port"] == port).sum()) for name, port in ports.items()}
            assert told["calm"] == 2 + turn
            assert SHARED_RECORDS // 2 < told["flood"] < SHARED_RECORDS * 5 // 8
            flooded_count += told["flood"]
        summed = {name: _overflow(watch, port)[0] for name, port in ports.items()}
        assert summed == {"flood": 295 - flooded_count, "calm": 0}


@pytest.mark.full
def test_client_end_of_a_server_elsewhere() -> None:
    """Only the client's cgroup is watched, so that its end tells; it is named by its own address and cgroup. With the
    whole node watched the same end is told by its server."""
    sent, answer = request("GET", "/out/1234"), response(200)
    with (
        serving(answering([2 * len(sent)] * 2, (answer * 2,), (answer * 2,))) as port,
        in_cgroup("client") as cgroup,
        _capturing(cgroup, ring_bytes=1 << 20, records_bytes=1 << 20, is_root_cgroup=False) as capture,
        _watching(capture) as watch,
    ):
        number = cgroup.stat().st_ino
        profile = watch.teacher.profile(sent)
        route = watch.teacher.path(sent, cgroup_id=number, port=port, role=2, values=(1,))
        talk(port, (sent, sent), 2 * len(answer))
        records, exchanges = watch.collect(port, 2)
    assert exchanges == []
    assert len(records) == 2
    for record in records:
        assert (record["role"], record["route"], record["profile"]) == (2, route, profile)
        assert (record["remote_port"], record["cgroup_id"], record["peer_cgroup_id"]) == (port, number, 0)
        assert record["client_address"].tobytes()[:4] == bytes((127, 0, 0, 1))
        assert (record["request_bytes"], record["response_bytes"]) == (len(sent), len(answer))


@pytest.mark.full
def test_both_ends_on_the_node_are_told_once(home: Path) -> None:
    """Where the client end is not known to be local from the start, it learns so from the first response."""
    sent, answer = request("GET", "/both"), response(200)
    own = own_cgroup_id()
    with (
        _capturing(home, ring_bytes=1 << 20, records_bytes=1 << 20, is_root_cgroup=False) as capture,
        _watching(capture) as watch,
        serving(answering([len(sent)] * 2, (answer,), (answer,))) as port,
    ):
        watch.teacher.profile(sent)
        for role in (1, 2):
            watch.teacher.path(sent, cgroup_id=own, port=port, role=role)
        with connected(port) as client:
            for _ in range(2):
                client.sendall(sent)
                receive_exactly(client, len(answer))
        records, exchanges = watch.collect(port, 2)
    assert exchanges == []
    assert records["role"].tolist() == [1, 1]
    assert records["peer_cgroup_id"].tolist() == [own, own]


@pytest.mark.full
def test_what_a_client_end_said_is_forgotten_behind_a_known_call(home: Path) -> None:
    """It learns from the first response that its server end tells: of a call that is known, with another behind it."""
    known, unknown, answer = request("GET", "/known"), request("GET", "/unknown"), response(200)
    with (
        _capturing(home, ring_bytes=1 << 20, records_bytes=1 << 20, is_root_cgroup=False) as capture,
        _watching(capture) as watch,
        serving(answering([len(known) + len(unknown)], (answer * 2,))) as port,
    ):
        watch.teacher.profile(known)
        for role in (1, 2):
            watch.teacher.path(known, cgroup_id=own_cgroup_id(), port=port, role=role)
        talk(port, (known, unknown), 2 * len(answer))
        records, exchanges = watch.collect(port, 1, 1)
        assert ([int(role) for role in records["role"]], [int(one.ends.role) for one in exchanges]) == ([1], [1])
        assert len(capture._assembler._pending) == 0


@pytest.mark.parametrize("is_known", [True, False])
def test_all_calls_that_a_reset_leaves_are_counted(watch: Watch, is_known: bool) -> None:
    """As many as a connection may have outstanding."""
    sent, count = request("GET", "/left/1234"), 128
    asked = threading.Semaphore(0)

    def serve(connection: socket.socket) -> None:
        for _ in range(count):  # One by one, so that each is a segment of its own.
            receive_exactly(connection, len(sent))
            asked.release()
        receive_exactly(connection, 1)

    with serving(serve) as port:
        if is_known:
            watch.teacher.profile(sent)
            watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port, values=(1,))
        with connected(port) as client:
            for _ in range(count):
                client.sendall(sent)
                assert asked.acquire(timeout=60)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.2)
        records, exchanges = watch.collect(port, 0)
    assert int(records["calls"].sum()) + sum(one.figures.calls for one in exchanges) == count
    assert watch.counted(Counter.TAIL_FAILED) == 0

"""Bodies of samples as the kernel copies them: every byte in its place, of chosen calls only, within the budget."""

import math
import socket
import time
from collections.abc import Iterator

import pytest

from scripts.vm.images import find_images
from sensor.capture.packets.capture import PacketCapture
from sensor.core.calls import Exchange
from sensor.core.clock import Clock
from sensor.ebpf.abi import Counter, RecordFlag
from sensor.ebpf.pieces import HOLE, Pieces
from sensor.http.bodies import BODY_BYTES_MAX, LIST_BYTES_MAX
from tests.bpf.cgroups import in_cgroup
from tests.bpf.conftest import Collect
from tests.bpf.recognised import Watch
from tests.bpf.reference import Teacher
from tests.bpf.wire import Answer, chunked, receive_exactly, request, response, send_parts, serving, talk

pytestmark = pytest.mark.kernel

RATE = 64 << 20
BODIES = {"body_bytes_per_second": RATE, "node_body_bytes_per_second": RATE}
TEXT = bytes(i % 251 for i in range(200_000))


@pytest.fixture(scope="module")
def capture() -> Iterator[PacketCapture]:
    """The kernel side on a cgroup of this process alone: bodies of others would take from the budget and the ring."""
    with in_cgroup("bodies") as home:
        capture = PacketCapture.load(
            cgroup_path=home, ring_bytes=8 << 20, is_root_cgroup=True, clock=Clock(), cache_directory=find_images()
        )
        yield capture
        capture.close()


@pytest.fixture
def pieces(capture: PacketCapture) -> Pieces:
    return capture.pieces


def _answer_with(*parts: bytes, head_bytes: int = 0) -> Answer:
    """Reads a request of `head_bytes` and whatever comes with it, answers in segments."""

    def answer(connection: socket.socket) -> None:
        if head_bytes:
            receive_exactly(connection, head_bytes)
        else:
            connection.recv(65536)
        send_parts(connection, *parts)
        connection.recv(1)

    return answer


def _call(collect: Collect, sent: tuple[bytes, ...], *answer: bytes) -> Exchange:
    with serving(_answer_with(*answer, head_bytes=sum(map(len, sent)))) as port:
        talk(port, sent, sum(map(len, answer)))
        (exchange,) = collect(port, 1)
    return exchange


def _response_body(exchange: Exchange) -> bytes:
    assert exchange.bodies is not None
    return exchange.bodies.response


def test_both_bodies_of_a_call_go_up_with_their_heads(teacher: Teacher, collect: Collect) -> None:
    teacher.set(**BODIES)
    exchange = _call(collect, (request("POST", "/a", body=b"q" * 700),), response(200, b"r" * 900))
    assert exchange.bodies is not None
    assert (exchange.bodies.request, exchange.bodies.response) == (b"q" * 700, b"r" * 900)


def test_without_a_budget_none_does(teacher: Teacher, collect: Collect) -> None:
    exchange = _call(collect, (request("POST", "/a", body=b"q" * 700),), response(200, b"r" * 900))
    assert exchange.bodies is None


@pytest.mark.parametrize("cut", [1, 30, 70, 5_000, 9_000, 60_000])
def test_segments_may_be_cut_anywhere(teacher: Teacher, collect: Collect, cut: int) -> None:
    teacher.set(**BODIES)
    asked, told = request("PUT", "/a", body=TEXT[:61_000]), response(200, TEXT[:62_000])
    exchange = _call(collect, (asked[:cut], asked[cut:]), told[:cut], told[cut:])
    assert exchange.bodies is not None
    assert exchange.bodies.request == TEXT[:61_000]
    assert exchange.bodies.response == TEXT[:62_000]


def test_no_more_than_the_limit_goes_up(teacher: Teacher, collect: Collect) -> None:
    teacher.set(**BODIES)
    exchange = _call(collect, (request("GET", "/a"),), response(200, TEXT))
    assert _response_body(exchange) == TEXT[:BODY_BYTES_MAX]


def _response_end(exchange: Exchange) -> bytes:
    assert exchange.bodies is not None
    return exchange.bodies.response_last


def test_the_end_of_a_longer_response_goes_up(teacher: Teacher, collect: Collect) -> None:
    teacher.set(**BODIES)
    exchange = _call(collect, (request("GET", "/a"),), response(200, TEXT))
    assert TEXT.endswith(_response_end(exchange).rpartition(HOLE)[2])
    assert len(_response_end(exchange)) >= 1_024
    assert _response_body(exchange) == TEXT[:BODY_BYTES_MAX]


@pytest.mark.parametrize("size", [1, 300, 1_024, 5_000])
def test_the_end_of_a_longer_stream_goes_up_packet_by_packet(teacher: Teacher, collect: Collect, size: int) -> None:
    teacher.set(**BODIES)
    begin, last = chunked(200, TEXT[:90_000]).removesuffix(b"0\r\n\r\n"), bytes([66]) * size
    parts = b"5\r\nfirst\r\n", b"%x\r\n%s\r\n" % (size, last), b"8\r\nand done\r\n", b"0\r\n\r\n"
    exchange = _call(collect, (request("GET", "/a"),), begin, *parts)
    end = _response_end(exchange)
    assert end.endswith(b"\r\n8\r\nand done\r\n0\r\n\r\n")
    assert end.count(last[:1_000]) == 1
    assert (b"5\r\nfirst\r\n" in end) == (size < 1_024 or len(parts) <= 4)


def test_the_end_of_a_shorter_response_is_not_sent_again(teacher: Teacher, collect: Collect) -> None:
    teacher.set(**BODIES)
    assert not _response_end(_call(collect, (request("GET", "/a"),), response(200, TEXT[:60_000])))


def test_what_only_looks_like_an_end_is_sent_once_beside_the_end(
    teacher: Teacher, collect: Collect, watch: Watch
) -> None:
    """Each packet of the body ends as the last one of a response with chunks does."""
    teacher.set(**BODIES)
    begin = chunked(200, TEXT[:90_000]).removesuffix(b"0\r\n\r\n")
    parts = [b"3fa\r\n%s0\r\n\r\n" % (bytes([65 + i]) * 1_013) for i in range(20)]
    before = watch.counted(Counter.BODY_BYTES)
    _call(collect, (request("GET", "/a"),), begin, parts[0], *(b"\r\n" + part for part in parts[1:]), b"\r\n0\r\n\r\n")
    assert BODY_BYTES_MAX <= watch.counted(Counter.BODY_BYTES) - before <= BODY_BYTES_MAX + 2 * 4_096


def test_a_response_that_ends_with_its_connection_has_no_end(teacher: Teacher, collect: Collect) -> None:
    teacher.set(**BODIES)

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        send_parts(connection, b"HTTP/1.0 200 OK\r\n\r\n", TEXT[:90_000], b"a" * 100, b"0\r\n\r\n")

    with serving(answer) as port:
        talk(port, (request("GET", "/a"),), 19 + 90_105)
        (exchange,) = collect(port, 1)
    assert not _response_end(exchange)


def test_ends_of_several_responses_of_a_connection_do_not_mix(teacher: Teacher, collect: Collect) -> None:
    teacher.set(**BODIES)
    asked, told = request("GET", "/a"), [response(200, bytes([65 + i]) * 80_000) for i in range(3)]

    def answer(connection: socket.socket) -> None:
        for one in told:
            receive_exactly(connection, len(asked))
            connection.sendall(one)
        connection.recv(1)

    with serving(answer) as port, socket.create_connection(("127.0.0.1", port)) as client:
        for one in told:
            client.sendall(asked)
            receive_exactly(client, len(one))
        exchanges = collect(port, 3)
    assert [set(_response_end(one).replace(HOLE, b"")) for one in exchanges] == [{65}, {66}, {67}]


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}',
        b'{"method":"prompts/list","jsonrpc":"2.0","id":"7"}',
        b'{"jsonrpc": "2.0", "id": 2, "method": "resources/templates/list"}',
    ],
)
def test_of_what_an_mcp_server_lists_more_goes_up(teacher: Teacher, collect: Collect, body: bytes) -> None:
    teacher.set(**BODIES)
    exchange = _call(collect, (request("POST", "/mcp", body=body),), response(200, TEXT))
    assert _response_body(exchange) == TEXT
    exchange = _call(collect, (request("POST", "/mcp", body=body),), response(200, TEXT * 2))
    assert _response_body(exchange) == (TEXT * 2)[:LIST_BYTES_MAX]


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list"}}',
        b'{"to":"tools/list","method":"other"}',
        b'[{"method":"tools/list"}]',
        b'{"path":"reports/list"}',
    ],
)
def test_of_other_calls_no_more_is_copied(teacher: Teacher, collect: Collect, body: bytes) -> None:
    teacher.set(**BODIES)
    exchange = _call(collect, (request("POST", "/mcp", body=body),), response(200, TEXT))
    assert _response_body(exchange) == TEXT[:BODY_BYTES_MAX]


def test_chunks_go_up_as_they_are(teacher: Teacher, collect: Collect) -> None:
    teacher.set(**BODIES)
    told = chunked(200, b"x" * 300, b"y" * 5_000, trailer="X-T: 1\r\n")
    body = told[told.index(b"\r\n\r\n") + 4 :]
    at = len(told) - 3_000
    assert _response_body(_call(collect, (request("GET", "/a"),), told[:at], told[at:])) == body


def test_a_body_without_framing(teacher: Teacher, collect: Collect) -> None:
    teacher.set(**BODIES)

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        send_parts(connection, b"HTTP/1.0 200 OK\r\n\r\n", b"a" * 100, b"b" * 200)

    with serving(answer) as port:
        talk(port, (request("GET", "/a"),), 1_000)
        (exchange,) = collect(port, 1)
    assert _response_body(exchange) == b"a" * 100 + b"b" * 200


def test_pipelined_answers_do_not_mix(teacher: Teacher, collect: Collect) -> None:
    """Of several bodies in one packet the first goes up; what is copied of it ends with it."""
    teacher.set(**BODIES)
    told = b"".join(response(200, bytes([65 + i]) * (10 + i)) for i in range(6))

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(told)
        connection.recv(1)

    with serving(answer) as port:
        talk(port, (b"".join(request("GET", f"/{i}") for i in range(6)),), len(told))
        exchanges = collect(port, 6)
    assert [one.figures.status_code for one in exchanges] == [200] * 6
    bodies = [one.bodies.response for one in exchanges if one.bodies is not None]
    assert bodies[0] == b"A" * 10
    assert all(len(set(body)) == 1 for body in bodies)


def test_a_known_call_sends_none_unless_its_class_is_new(teacher: Teacher, watch: Watch, pieces: Pieces) -> None:
    """The response of a new class goes up with its head; the record says so; then the class is known."""
    teacher.set(**BODIES)
    sent, small, large = request("GET", "/users/1234567"), response(200, b"s" * 100), response(200, TEXT[:20_000])
    answers = [small, small, large, large, response(404, b"n" * 100)]

    def answer(connection: socket.socket) -> None:
        for told in answers:
            receive_exactly(connection, len(sent))
            connection.sendall(told)
        connection.recv(1)

    with serving(answer) as port:
        teacher.profile(sent)
        teacher.path(sent, cgroup_id=watch.cgroup_id, port=port, values=(1,), classes=0)
        watch.restart()
        with socket.create_connection(("127.0.0.1", port)) as client:
            for told in answers:
                client.sendall(sent)
                receive_exactly(client, len(told))
        records, exchanges = watch.collect(port, 5)
    assert exchanges == []
    assert [bool(flags & RecordFlag.BODY) for flags in records["flags"]] == [True, False, True, False, True]
    assert records["call"].tolist() == [0, 1, 2, 3, 4]
    connection = int(records["connection"][0])
    found = [pieces.pop(connection, call) for call in range(5)]
    assert [one and (one.response_head + one.response) for one in found] == [small, None, large, None, answers[4]]
    assert found[2] is not None
    assert found[2].response == TEXT[:20_000]
    assert watch.counted(Counter.BODIES) == 3


def test_the_first_samples_follow_each_other(teacher: Teacher, watch: Watch) -> None:
    """Then one in each interval; all with their bodies."""
    teacher.set(**BODIES, head_sample_ns=3_600 * 10**9)
    sent, told = request("GET", "/users/1234567"), response(200, b"s" * 100)

    def answer(connection: socket.socket) -> None:
        for _ in range(8):
            receive_exactly(connection, len(sent))
            connection.sendall(told)
        connection.recv(1)

    with serving(answer) as port:
        teacher.profile(sent)
        teacher.path(sent, cgroup_id=watch.cgroup_id, port=port, values=(1,), next_head_ns=0, first=4)
        watch.restart()
        with socket.create_connection(("127.0.0.1", port)) as client:
            for _ in range(8):
                client.sendall(sent)
                receive_exactly(client, len(told))
        records, exchanges = watch.collect(port, 3, 5)
    assert (len(exchanges), len(records)) == (5, 3)
    assert [_response_body(one) for one in exchanges] == [b"s" * 100] * 5


@pytest.mark.parametrize(
    ("method", "body", "pause_seconds", "calls", "seconds", "least", "most"),
    [
        pytest.param("GET", b"", 0.002, 1_000, 2.4, 4, 9, id="busy"),  # After 1, 2, 4, 8 and 8 intervals.
        pytest.param("POST", b"{}", 0.002, 1_000, math.inf, 12, 1_000, id="with_a_body"),
        pytest.param("GET", b"", 0.25, 8, math.inf, 8, 8, id="slow"),
    ],
)
def test_samples_of_a_busy_route_come_ever_more_seldom(
    teacher: Teacher,
    watch: Watch,
    method: str,
    body: bytes,
    pause_seconds: float,
    calls: int,
    seconds: float,
    least: int,
    most: int,
) -> None:
    teacher.set(**BODIES, head_sample_ns=160_000_000)
    sent, told = request(method, "/users/1234567", body=body), response(200, b"s" * 100)
    made = 0

    def answer(connection: socket.socket) -> None:
        while receive_exactly(connection, len(sent)):
            connection.sendall(told)

    with serving(answer) as port:
        teacher.profile(sent)
        teacher.path(sent, cgroup_id=watch.cgroup_id, port=port, values=(1,), next_head_ns=0)
        watch.restart()
        with socket.create_connection(("127.0.0.1", port)) as client:
            end = time.monotonic() + seconds
            while time.monotonic() < end and made < calls:
                client.sendall(sent)
                receive_exactly(client, len(told))
                made += 1
                time.sleep(pause_seconds)
        records, exchanges = watch.collect(port, max(0, made - most), least)
    assert len(records) + len(exchanges) == made
    assert least <= len(exchanges) <= most


def test_a_spent_budget_is_counted_and_cuts(teacher: Teacher, watch: Watch, collect: Collect) -> None:
    """One second's worth, and one packet: the next body waits for its bytes."""
    teacher.set(body_bytes_per_second=10_000, node_body_bytes_per_second=RATE)
    watch.restart()
    told = response(200, TEXT[:60_000])
    first = _call(collect, (request("GET", "/a"),), told)
    second = _call(collect, (request("GET", "/a"),), told)
    assert len(_response_body(first)) > 10_000
    assert second.bodies is None
    assert second.figures.response_bytes == len(told)
    assert watch.counted(Counter.BODIES_REFUSED) >= 1


def test_head_has_no_body(teacher: Teacher, collect: Collect) -> None:
    teacher.set(**BODIES)
    told = response(200, b"x" * 100)[:-100]
    assert _call(collect, (request("HEAD", "/a"),), told).bodies is None

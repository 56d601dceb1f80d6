"""Calls that the kernel was taught go by one record each, whatever their connection does; others by their heads."""

import socket
import time

import pytest

from sensor.ebpf.abi import Counter, RecordFlag
from tests.bpf.recognised import Watch
from tests.bpf.test_capture import answering, rows
from tests.bpf.wire import chunked, connected, receive_exactly, request, response, serving, talk

pytestmark = pytest.mark.kernel
FINAL = int(RecordFlag.FINAL)
UUID = "6f1c2d3e-4a5b-6c7d-8e9f-0a1b2c3d4e5f"


def test_three_pipelined(watch: Watch) -> None:
    heads = [request("GET", f"/p/{1000 + i}") for i in range(3)]
    answers = [response(200, b"z" * i) for i in range(3)]
    watch.teacher.profile(heads[0])
    with serving(answering([sum(map(len, heads))], (b"".join(answers),))) as port:
        watch.teacher.path(heads[0], cgroup_id=watch.cgroup_id, port=port, values=(1,))
        talk(port, (b"".join(heads),), sum(map(len, answers)))
        records, exchanges = watch.collect(port, 3)
    assert exchanges == []
    assert records["number"].tolist() == [1000 + i for i in range(3)]
    assert records["request_bytes"].tolist() == [len(head) for head in heads]
    assert records["response_bytes"].tolist() == [len(answer) for answer in answers]


@pytest.mark.parametrize("depth", [4, 40, 70])
def test_deep_pipelines_lose_none(watch: Watch, depth: int) -> None:
    heads, answer = [request("GET", f"/p/{1000 + i}") for i in range(depth)], response(200)
    watch.teacher.profile(heads[0])
    with serving(answering([sum(map(len, heads))], (answer * depth,))) as port:
        watch.teacher.path(heads[0], cgroup_id=watch.cgroup_id, port=port, values=(1,))
        talk(port, (b"".join(heads),), len(answer) * depth)
        records, exchanges = watch.collect(port, 3, depth - 3)
    assert len(records) + len(exchanges) == depth
    assert len(records) >= 3
    numbers = records["number"].tolist() + [int(one.request_head.split(b" ")[1][3:]) for one in exchanges]
    assert sorted(numbers) == list(range(1000, 1000 + depth))


def test_bodies_and_statuses(watch: Watch) -> None:
    upload = b"POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    pairs = [
        (request("GET", "/a"), response(200)),
        (request("HEAD", "/a"), b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
        (request("GET", "/a"), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (
            request("PUT", "/a", body=b"GET /fake HTTP/1.1\r\n\r\n" * 3),
            b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n",
        ),
        (upload, chunked(201, b"hello", b"w" * 300, trailer="X-T: 1\r\n")),
        (request("POST", "/a", body=b"x" * 3000), b"HTTP/1.1 103 Early\r\nL: x\r\n\r\n" + response(202)),
        (b"PUT /a HTTP/1.1\r\nHost: h\r\ncontent-LENGTH:  00000000012\r\n\r\nabcdefghijkl", response(503)),
    ]
    with serving(answering([len(sent) for sent, _ in pairs], *[(back,) for _, back in pairs])) as port:
        for sent, _ in pairs:
            watch.teacher.profile(sent)
            watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port)
        with connected(port) as client:
            for sent, back in pairs:
                client.sendall(sent)
                receive_exactly(client, len(back))
            records, exchanges = watch.collect(port, len(pairs))
    assert exchanges == []
    assert records["calls"].tolist() == [1] * len(pairs)
    assert records["flags"].tolist() == [FINAL] * len(pairs)
    assert records["status"].tolist() == [200, 200, 204, 304, 201, 202, 503]
    assert records["request_bytes"].tolist() == [len(sent) for sent, _ in pairs]
    assert records["response_bytes"].tolist() == [len(back) for _, back in pairs]


def test_large_bodies_give_two_records(watch: Watch) -> None:
    sent, answer = request("PUT", "/up", body=b"u" * 1_000_000), response(200, b"d" * 2_000_000)
    with serving(answering([len(sent)], (answer,))) as port:
        watch.teacher.profile(sent)
        route = watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port)
        talk(port, (sent,), len(answer))
        records, exchanges = watch.collect(port, 2)
    assert exchanges == []
    assert records["calls"].tolist() == [1, 0]
    assert records["flags"].tolist() == [0, FINAL]
    assert records["route"].tolist() == [route] * 2
    assert records["request_bytes"].tolist() == [0, len(sent)]
    assert records["response_bytes"].tolist() == [0, len(answer)]
    assert records["duration_us"][0] == 0 < records["duration_us"][1]
    assert watch.counted(Counter.RECORDS) == 1


def test_early_response(watch: Watch) -> None:
    sent, answer = request("POST", "/early", body=b"b" * 5000), response(413)
    head = len(sent) - 5000
    with serving(answering([head, 5000], (answer,), ())) as port, connected(port) as client:
        watch.teacher.profile(sent)
        watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port)
        client.sendall(sent[:head])
        receive_exactly(client, len(answer))
        client.sendall(sent[head:])
        records, exchanges = watch.collect(port, 2)
    assert exchanges == []
    assert records["calls"].sum() == 1
    assert records["request_bytes"].sum() == len(sent)
    assert records["response_bytes"].sum() == len(answer)
    assert set(records["status"].tolist()) == {413}


def test_split_heads_take_the_slow_way(watch: Watch) -> None:
    sent = request("GET", "/cut", "X-Filler: abcdefgh\r\n")
    watch.teacher.profile(sent)
    with serving(answering([len(sent) * 2], (response(200) * 2,))) as port:
        watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port)
        talk(port, (sent[:20], sent[20:], sent), 2 * len(response(200)))
        records, exchanges = watch.collect(port, 1, 1)
    assert [one.request_head for one in exchanges] == [sent]
    assert (len(records), exchanges[0].hashes.profile) == (1, 0)


def test_aborted_and_closed(watch: Watch) -> None:
    sent = request("GET", "/gone", version="1.0")
    endless, cut = b"HTTP/1.0 200 OK\r\n\r\n" + b"e" * 500, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart"
    watch.teacher.profile(sent)
    for answer, expected in (
        (b"", [(0, 1, FINAL | RecordFlag.ABORTED)]),
        (cut, [(200, 1, 0), (200, 0, FINAL | RecordFlag.ABORTED)]),
        (endless, [(200, 1, 0), (200, 0, FINAL)]),
    ):
        with serving(answering([len(sent)], (answer,))) as port:
            watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port)
            talk(port, (sent,), len(answer) + 1)
            records, exchanges = watch.collect(port, len(expected))
        assert exchanges == []
        assert [tuple(row) for row in records[["status", "calls", "flags"]].tolist()] == expected
        assert records["response_bytes"].tolist()[-1] == len(answer)
        assert records["request_bytes"].tolist()[-1] == len(sent)


def test_upgrade_and_connect(watch: Watch) -> None:
    sent = request("GET", "/ws", "Upgrade: websocket\r\n")
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    frame = request("GET", "/ws", "Upgrade: websocket\r\n")
    watch.teacher.profile(sent)
    with serving(answering([len(sent), len(frame)], (switch,), (b"x",))) as port, connected(port) as client:
        watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port)
        client.sendall(sent)
        receive_exactly(client, len(switch))
        client.sendall(frame)
        receive_exactly(client, 1)
        records, exchanges = watch.collect(port, 1)
    assert exchanges == []
    assert [tuple(row) for row in records[["status", "flags"]].tolist()] == [(101, FINAL | RecordFlag.UPGRADED)]
    tunnel = request("CONNECT", "example.org:443")
    with serving(answering([len(tunnel)], (b"HTTP/1.1 200 OK\r\n\r\n",))) as port:
        talk(port, (tunnel,), 19)
        records, exchanges = watch.collect(port, 0, 1)
    assert (len(records), rows(exchanges)) == (0, [("CONNECT example.org:443", 200, len(tunnel), 19)])


def test_deferred_accept(watch: Watch) -> None:
    sent, answer = request("GET", "/defer"), response(200)
    options = ((socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5),)
    watch.teacher.profile(sent)
    with serving(answering([2 * len(sent)], (answer * 2,)), options=options) as port:
        watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port)
        talk(port, (sent, sent), 2 * len(answer))
        records, exchanges = watch.collect(port, 1, 1)
    # What reaches the listening socket is told by its head; the child socket's calls are recognised.
    assert rows(exchanges) == [("GET /defer", 200, len(sent), len(answer))]
    assert records["calls"].tolist() == [1]
    assert records["connection"].tolist() == [exchanges[0].ends.connection]


def test_a_leaf_that_is_due_gives_a_sample(watch: Watch) -> None:
    sent, answer = request("GET", "/sampled"), response(200)
    watch.teacher.set(head_sample_ns=60_000_000_000)
    watch.teacher.profile(sent)
    with serving(answering([3 * len(sent)], (answer * 3,))) as port:
        watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port, next_head_ns=time.monotonic_ns())
        talk(port, (sent * 3,), 3 * len(answer))
        records, exchanges = watch.collect(port, 2, 1)
    assert (len(records), len(exchanges)) == (2, 1)
    assert (exchanges[0].hashes.profile, exchanges[0].hashes.host) == watch.teacher.reference.profile_and_host(sent)


def test_samples_of_all_routes_together_have_a_budget(watch: Watch) -> None:
    """A route that is due and gets none goes by its record, and is asked again later."""
    sent, answer = request("GET", "/often"), response(200)
    watch.teacher.set(head_sample_ns=0, samples_per_second=1)  # Of which 30 seconds' worth may go at once.
    watch.teacher.profile(sent)
    with serving(answering([len(sent)] * 40, *[(answer,)] * 40)) as port, connected(port) as client:
        watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port, next_head_ns=time.monotonic_ns())
        for _ in range(40):
            client.sendall(sent)
            receive_exactly(client, len(answer))
        records, exchanges = watch.collect(port, 10, 20)
    assert len(records) + len(exchanges) == 40
    assert 25 <= len(exchanges) <= 30  # What samples before this test owe counts too.


def test_off_means_off(watch: Watch) -> None:
    sent, answer = request("GET", "/off"), response(200)
    watch.teacher.profile(sent)
    with serving(answering([len(sent)], (answer,))) as port:
        watch.teacher.path(sent, cgroup_id=watch.cgroup_id, port=port)
        watch.teacher.set(is_recognising=0)
        talk(port, (sent,), len(answer))
        records, exchanges = watch.collect(port, 0, 1)
    assert (len(records), rows(exchanges)) == (0, [("GET /off", 200, len(sent), len(answer))])
    assert (exchanges[0].hashes.profile, exchanges[0].hashes.host) == (0, 0)


def test_a_known_path_of_an_unknown_caller_keeps_its_route_beyond_the_budget(watch: Watch) -> None:
    taught, other = request("GET", "/x"), request("GET", "/x", "Authorization: Bearer new\r\n")
    watch.teacher.profile(taught)
    with serving(answering([len(other)] * 2, (response(200),), (response(200),))) as port, connected(port) as client:
        route = watch.teacher.path(taught, cgroup_id=watch.cgroup_id, port=port)
        client.sendall(other)
        receive_exactly(client, len(response(200)))
        watch.teacher.set(heads_per_second=1, heads_burst=0)
        client.sendall(other)
        receive_exactly(client, len(response(200)))
        records, exchanges = watch.collect(port, 1, 1)
    assert [one.request_head for one in exchanges] == [other]
    assert [tuple(row) for row in records[["route", "profile", "flags"]].tolist()] == [(route, 0, FINAL)]


def test_a_rate_that_is_lifted_again_leaves_no_debt(watch: Watch) -> None:
    """What went up while a governor held back is not paid for at the slow rate."""
    heads = [request("GET", f"/debt/{number}") for number in range(11)]
    with (
        serving(answering([len(heads[0])] * 10 + [len(heads[10])], *[(response(200),)] * 11)) as port,
        connected(port) as client,
    ):
        watch.teacher.set(heads_per_second=1, heads_burst=100)
        for head in heads[:10]:
            client.sendall(head)
            receive_exactly(client, len(response(200)))
        watch.teacher.set(heads_per_second=2_000, heads_burst=20)
        client.sendall(heads[10])
        receive_exactly(client, len(response(200)))
        records, exchanges = watch.collect(port, 0, 11)
    assert (len(records), [one.request_head for one in exchanges]) == (0, heads)

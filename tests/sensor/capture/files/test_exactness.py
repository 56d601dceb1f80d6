"""Whatever the order of packets, whatever is lost or said: calls are told exactly, and none is invented."""

from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.sensor.capture.files.packets import Talk, run

CALLS = st.lists(
    st.tuples(
        st.sampled_from([b"GET", b"POST", b"HEAD"]), st.integers(0, 40), st.sampled_from([200, 204, 304, 404]),
        st.integers(0, 60), st.booleans(),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


def converse(calls: list[tuple[bytes, int, int, int, bool]], sizes: list[int]) -> Talk:
    talk = Talk().open()
    for number, (method, sent, status, answered, is_chunked) in enumerate(calls):
        size = sizes[number % len(sizes)]
        talk.ask(b"%s /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (method, number, sent) + b"q" * sent, size=size)
        has_body = method != b"HEAD" and status not in (204, 304)
        if is_chunked and answered:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (answered, b"a" * answered) if has_body else b""
            talk.answer(b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status + body, size=size)
        else:
            body = b"a" * answered if has_body else b""
            talk.answer(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, answered) + body, size=size)
    return talk.close()


@settings(max_examples=60)
@given(CALLS, st.lists(st.integers(1, 50), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_every_call_is_told_exactly_in_any_order_of_a_few_packets(calls, sizes, source) -> None:  # type: ignore[no-untyped-def]
    packets = converse(calls, sizes).packets
    for at in range(3, len(packets) - 2, 3):  # The handshake stays first; three packets swap places, one comes twice.
        part = packets[at : at + 3]
        source.shuffle(part)
        packets[at : at + 3] = part
    packets.insert(4, packets[4])
    lines, replay = run(packets)
    told = [
        (
            str(line["http.request.method"]).encode(),
            line["http.request.body.size"],
            line["http.response.status_code"],
            line["http.response.body.size"],
        )
        for line in sorted(lines, key=lambda line: str(line["url.path"]))
    ]
    assert told == [
        (method, sent, status, answered if method != b"HEAD" and status not in (204, 304) else 0)
        for method, sent, status, answered, _ in calls
    ]
    assert replay.counts.calls == len(calls)


@settings(max_examples=60)
@given(CALLS, st.lists(st.integers(1, 50), min_size=1, max_size=4), st.data())
def test_loss_invents_nothing(calls, sizes, draw) -> None:  # type: ignore[no-untyped-def]
    packets = converse(calls, sizes).packets
    kept = [number for number in range(len(packets)) if draw.draw(st.integers(0, 9))]
    note(f"kept {kept}")
    lines, _ = run([packets[number] for number in kept])
    with_request = [line for line in lines if "url.path" in line]
    assert {line["url.path"] for line in with_request} <= {f"/{number}" for number in range(len(calls))}
    assert len(with_request) <= len(calls)
    for line in with_request:
        if line.get("http.response.status_code") and not line.get("apidae.lossy"):
            number = int(str(line["url.path"])[1:])
            assert line["http.response.status_code"] == calls[number][2]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=10))
def test_any_bytes_end_in_the_account(said: list[tuple[bool, bytes]]) -> None:
    talk = Talk().open()
    for is_client, data in said:
        (talk.ask if is_client else talk.answer)(data)
    _, replay = run(talk.close().packets)
    assert replay.reader.counts.packets == replay.reader.counts.tcp_segments
    assert sum(replay.flows.counts.unread_bytes.values()) <= replay.flows.counts.streams.used_bytes

"""DATA of HTTP/2 in the kernel: bodies of samples go up to the byte, however frames and segments cut them; of others
only whether a frame is one message of gRPC."""

from collections.abc import Iterator

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.ebpf.abi import Counter
from sensor.http.bodies import BODY_BYTES_MAX, StreamBodies
from sensor.http.http2.frames import PREFACE
from sensor.http.http2.streams import StreamCall
from sensor.http.reassembly import Direction
from tests.bpf.recognised import drain
from tests.bpf.reference import Teacher
from tests.bpf.test_http2 import Cut, collect, connect, every, play, whole
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import write_data, write_headers, write_settings

pytestmark = pytest.mark.kernel

FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD
RATE = 64 << 20
BODIES = {"body_bytes_per_second": RATE, "node_body_bytes_per_second": RATE}
TEXT = bytes(i % 251 for i in range(100_000))
FRAME = 16_384
OPENING = [(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())]
Said = list[tuple[Direction, bytes]]


class Talk:
    """Both ends of one connection."""

    def __init__(self) -> None:
        self.request, self.response = Encoder(), Encoder()

    def ask(self, stream: int, *data: bytes, content_type: bytes = b"application/json", path: bytes = b"/a") -> bytes:
        fields = [(b":method", b"POST"), (b":path", path), (b":authority", b"h"), (b"content-type", content_type)]
        return write_headers(stream, self.request.encode(fields)) + b"".join(data)

    def answer(
        self, stream: int, *data: bytes, content_type: bytes = b"application/json", coding: bytes = b"identity"
    ) -> bytes:
        fields = [(b":status", b"200"), (b"content-type", content_type), (b"content-encoding", coding)]
        return write_headers(stream, self.response.encode(fields)) + b"".join(data)


def frames(stream: int, body: bytes, *, padding: int | None = None) -> list[bytes]:
    """DATA of a whole body; the last frame says so."""
    parts = [body[at : at + FRAME] for at in range(0, len(body), FRAME)] or [b""]
    return [write_data(stream, part, is_end=part is parts[-1], padding=padding) for part in parts]


def say(capture: PacketCapture, said: Said, count: int, cut: Cut = whole) -> list[StreamCall]:
    """The calls of a conversation in the order of their streams."""
    with connect() as (client, server, port):
        play([*OPENING, *said], (client, server), cut)
        told = collect(capture, port, count)
    return sorted((one.call for one in told), key=lambda call: call.stream)


def get_bodies(call: StreamCall) -> StreamBodies:
    assert call.bodies is not None
    return call.bodies


@pytest.fixture
def sampling(capture: PacketCapture, teacher: Teacher) -> Iterator[None]:
    drain(capture)
    teacher.set(**BODIES)
    yield


@pytest.mark.usefixtures("sampling")
@pytest.mark.parametrize(
    ("asked", "told", "padding", "cut"),
    [
        (700, 0, None, every(9)),
        (0, 900, None, whole),
        (500, 300, 200, every(9)),
        (5_000, 3_000, 200, every(1_000)),
        (61_000, 62_000, None, whole),
        (61_000, 62_000, None, every(1_000)),
        (61_000, 62_000, 7, every(20_000)),
    ],
)
def test_bodies_of_a_sample(capture: PacketCapture, cut: Cut, asked: int, told: int, padding: int | None) -> None:
    talk = Talk()
    said = [
        (FORWARD, talk.ask(1, *frames(1, TEXT[:asked], padding=padding))),
        (BACKWARD, talk.answer(1, *frames(1, TEXT[:told], padding=padding))),
    ]
    (call,) = say(capture, said, 1, cut)
    bodies = get_bodies(call)
    assert (bodies.request, bodies.response) == (TEXT[:asked], TEXT[:told])
    assert (bodies.is_request_whole, bodies.is_response_whole) == (True, True)
    assert (call.request_bytes, call.response_bytes) == (len(said[0][1]), len(said[1][1]))


@pytest.mark.usefixtures("sampling")
def test_interleaved_samples(capture: PacketCapture) -> None:
    talk = Talk()
    first, second = (frames(stream, bytes([stream]) * 40_000) for stream in (1, 3))
    mixed = b"".join(part for pair in zip(first, second, strict=True) for part in pair)
    said = [
        (FORWARD, talk.ask(1, write_data(1, b"q", is_end=True))),  # Of each packet one may become a sample.
        (FORWARD, talk.ask(3, write_data(3, b"r", is_end=True))),
        (BACKWARD, talk.answer(1) + talk.answer(3) + mixed),
    ]
    one, other = map(get_bodies, say(capture, said, 2))
    assert (one.request, one.response) == (b"q", b"\1" * 40_000)
    assert (other.request, other.response) == (b"r", b"\3" * 40_000)


@pytest.mark.usefixtures("sampling")
def test_bytes_beyond_the_limit_are_not_copied(capture: PacketCapture) -> None:
    talk = Talk()
    said = [(FORWARD, talk.ask(1, *frames(1, b""))), (BACKWARD, talk.answer(1, *frames(1, TEXT)))]
    (call,) = say(capture, said, 1)
    bodies = get_bodies(call)
    assert bodies.response == TEXT[: BODY_BYTES_MAX // FRAME * FRAME]
    assert (bodies.is_request_whole, bodies.is_response_whole) == (True, False)
    assert call.response_bytes == len(said[1][1])


def test_without_a_budget_no_byte_of_a_body_goes_up(capture: PacketCapture, teacher: Teacher) -> None:
    talk = Talk()
    said = [(FORWARD, talk.ask(1, *frames(1, TEXT[:700]))), (BACKWARD, talk.answer(1, *frames(1, TEXT[:900])))]
    before = capture.counters()[Counter.BODY_BYTES]
    (call,) = say(capture, said, 1)
    assert call.bodies is None
    assert capture.counters()[Counter.BODY_BYTES] == before


def test_a_spent_budget_ends_the_copying(capture: PacketCapture, teacher: Teacher) -> None:
    teacher.set(body_bytes_per_second=1_000, node_body_bytes_per_second=1_000)
    talk = Talk()
    said: Said = []
    for stream in range(1, 41, 2):
        said.append((FORWARD, talk.ask(stream, *frames(stream, b""))))
        said += [(BACKWARD, part) for part in (talk.answer(stream), *frames(stream, TEXT[:40_000]))]
    before = capture.counters()
    calls = say(capture, said, 20)
    after = capture.counters()
    assert after[Counter.BODIES_REFUSED] > before[Counter.BODIES_REFUSED]
    # What may be owed is a second's worth and a packet; each sample then brings one packet before it is told to stop.
    assert sum(len(call.bodies.response) for call in calls if call.bodies is not None) <= 20 * FRAME + 1_000
    assert {call.response_bytes for call in calls if call.stream > 1} == {calls[1].response_bytes}


def test_after_the_first_ones_of_a_connection_one_a_second(capture: PacketCapture, teacher: Teacher) -> None:
    teacher.set(**BODIES)
    talk, said = Talk(), Said()
    for stream in range(1, 121, 2):
        said += [
            (FORWARD, talk.ask(stream, *frames(stream, b"q"))),
            (BACKWARD, talk.answer(stream, *frames(stream, b"r"))),
        ]
    calls = say(capture, said, 60)
    assert len(calls) == 60
    sampled = [call.stream for call in calls if call.bodies is not None]
    assert sampled[:20] == list(range(1, 41, 2))
    assert len(sampled) < 30


GRPC = b"application/grpc"


def message(size: int, *, flag: int = 0) -> bytes:
    return bytes([flag]) + size.to_bytes(4) + b"m" * size


@pytest.mark.parametrize(
    ("sent", "counted"),
    [
        ([message(40)], 1),
        ([message(0)], 1),
        ([message(40, flag=1)], 1),
        ([message(10_000)], 1),
        ([message(3), message(4), message(5)], 3),
        ([b""], 0),
        ([message(3) + message(4)], None),  # Only the first prefix of a frame is looked at.
        ([message(40)[:20], message(40)[20:]], None),
        ([message(40, flag=7)], None),
    ],
)
@pytest.mark.parametrize("cut", [whole, every(1_000)])
@pytest.mark.usefixtures("teacher")
def test_messages_are_counted_without_their_bytes(
    capture: PacketCapture, cut: Cut, sent: list[bytes], counted: int | None
) -> None:
    talk, said = Talk(), Said()
    for stream in (1, 3, 5, 7):  # From the third on by blocks that are known.
        data = [write_data(stream, part, is_end=part is sent[-1]) for part in sent]
        said.append((FORWARD, talk.ask(stream, *data, content_type=GRPC)))
        said.append((BACKWARD, talk.answer(stream, *data, content_type=GRPC)))
    calls = say(capture, said, 4, cut)
    assert [(call.request_messages, call.response_messages) for call in calls] == [(counted, counted)] * 4

"""Bodies of streams: what came without a hole, within its bounds, and no more."""

from sensor.http.bodies import BODY_BYTES_MAX, LAST_BYTES_MAX, GatheredBodies
from sensor.http.http2.frames import Frame, FrameFlag, FrameKind
from sensor.http.http2.streams import REQUEST, RESPONSE, STREAM_BYTES
from tests.sensor.http.http2_talk import CLIENT, SERVER, Ends
from tests.sensor.http.http2_wire import write_headers

ROOM = 1 << 20


def tell(gathered: GatheredBodies, response_bytes: int = 0):
    return gathered.make_bodies(
        is_request_whole=True, is_response_whole=True, coding=b"gzip", response_bytes=response_bytes
    )


def test_both_sides_are_joined() -> None:
    gathered = GatheredBodies()
    assert [
        gathered.add_payload(REQUEST, b"ab", ROOM),
        gathered.add_payload(RESPONSE, b"x", ROOM),
        gathered.add_payload(REQUEST, b"c", ROOM),
    ]
    bodies = tell(gathered, 30)
    assert (bodies.request, bodies.response, bodies.response_coding, bodies.head_bytes) == (b"abc", b"x", b"gzip", 29)
    assert (bodies.is_request_whole, bodies.is_response_whole) == (True, True)


def test_what_follows_a_hole_is_not_kept() -> None:
    gathered = GatheredBodies()
    gathered.add_payload(RESPONSE, b"ab", ROOM)
    gathered.cut_side(RESPONSE, 100)
    assert gathered.add_payload(RESPONSE, b"yz", ROOM) == 0
    bodies = tell(gathered, 114)
    assert (bodies.response, bodies.is_response_whole, bodies.head_bytes) == (b"ab", False, 10)


def test_bounds_of_a_side_and_of_a_connection() -> None:
    gathered = GatheredBodies()
    assert gathered.add_payload(REQUEST, bytes(BODY_BYTES_MAX), ROOM) == BODY_BYTES_MAX
    assert gathered.add_payload(REQUEST, b"1", ROOM) == 0
    assert gathered.add_payload(RESPONSE, b"123", 2) == 0
    assert len(gathered) == BODY_BYTES_MAX
    assert not tell(gathered).is_response_whole


def test_a_stream_has_its_bodies_and_gives_back_what_it_held() -> None:
    ends = Ends()
    connection = ends.seen.connection
    ends.ask(1, is_end=False)
    held = connection.held_bytes
    place = connection._readers[CLIENT]._position
    assert place is not None
    data = Frame(place, 13, 5, FrameKind.DATA, FrameFlag.END_STREAM, 1, b"body", 4, is_sampled=True)
    connection.take_piece(CLIENT, data, ends.seen.calls)
    assert held < connection.held_bytes < held + STREAM_BYTES
    block = ends.response.encode([(b":status", b"200"), (b"content-encoding", b"br")])
    ends.seen.say(SERVER, write_headers(1, block, is_end=True))
    (call,) = ends.seen.calls
    assert call.bodies is not None
    assert (call.bodies.request, call.bodies.response_coding, call.bodies.is_request_whole) == (b"body", b"br", True)
    assert "body" not in repr(call) and "body" not in repr(call.bodies).replace("StreamBodies", "")
    # The tables of both directions hold the two heads; of the stream nothing is left.
    assert connection._open.held_bytes == 0
    assert connection.held_bytes < held + STREAM_BYTES


def test_a_body_without_its_beginning_is_not_kept() -> None:
    ends = Ends()
    connection = ends.seen.connection
    ends.ask(1, is_end=False)
    place = connection._readers[CLIENT]._position
    assert place is not None
    for at, payload in ((place, None), (place + 13, b"rest")):
        frame = Frame(at, 13, 5, FrameKind.DATA, 0, 1, payload, 4, is_sampled=payload is not None)
        connection.take_piece(CLIENT, frame, ends.seen.calls)
    ends.seen.close()
    bodies = ends.seen.calls[0].bodies
    assert bodies is not None and (bodies.request, bodies.is_request_whole) == (b"", False)


def test_data_that_nobody_copied_is_no_sample() -> None:
    ends = Ends()
    ends.ask(1, is_end=True)
    ends.reply(1, b"200")
    ends.seen.close()
    assert ends.seen.calls[0].bodies is None


def test_of_a_longer_response_the_last_bytes_are_kept() -> None:
    gathered = GatheredBodies()
    gathered.add_payload(RESPONSE, bytes(BODY_BYTES_MAX), ROOM)
    for number in range(100):
        gathered.add_payload(RESPONSE, b"%099d," % number, ROOM)
    assert tell(gathered).response_last == b"".join(b"%099d," % number for number in range(100))[-LAST_BYTES_MAX:]


def test_what_came_before_a_gap_is_not_the_end() -> None:
    gathered = GatheredBodies()
    gathered.cut_side(RESPONSE, 10)
    gathered.add_payload(RESPONSE, b'"completion_tokens":1', 1 << 20)
    gathered.cut_side(RESPONSE, 100)
    assert tell(gathered).response_last == b""
    gathered.add_payload(RESPONSE, b"23}", 1 << 20)
    assert tell(gathered).response_last == b"23}"

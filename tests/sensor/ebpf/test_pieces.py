"""Pieces of bodies: joined in order, holes end them, everything bounded."""

from sensor.ebpf.abi import EVENT, EventFlag, EventKind, KernelEvent
from sensor.ebpf.pieces import ENDS_MAX, HOLE, WAITING_BYTES_MAX, WAITING_NS_MAX, Pieces
from sensor.http.bodies import LIST_BYTES_MAX


def _event(position: int, *, call: int = 0, is_request: bool = False, time_ns: int = 1) -> KernelEvent:
    kind = EventKind.REQUEST_BODY if is_request else EventKind.RESPONSE_BODY
    blank = KernelEvent._make(EVENT.unpack(bytes(EVENT.size)))
    return blank._replace(connection=5, call=call, position=position & 0xFFFFFFFF, kind=kind, time_ns=time_ns)


def test_both_directions_are_joined_and_taken_once() -> None:
    pieces = Pieces()
    pieces.take(_event(0, is_request=True), b"ask")
    pieces.take(_event(0), b"an")
    pieces.take(_event(2), b"swer")
    bodies = pieces.pop(5, 0)
    assert bodies is not None
    assert (bodies.request, bodies.response, bodies.response_head) == (b"ask", b"answer", b"")
    assert (pieces.pop(5, 0), pieces.waiting_bytes) == (None, 0)


def test_what_came_of_a_call_that_goes_on_is_copied_and_kept() -> None:
    pieces = Pieces()
    pieces.take(_event(0), b"an")
    copied = pieces.copy(5, 0)
    assert copied is not None
    assert (copied.response, pieces.waiting_bytes, pieces.copy(5, 1)) == (b"an", 2, None)
    pieces.take(_event(2), b"swer")
    bodies = pieces.pop(5, 0)
    assert bodies is not None
    assert bodies.response == b"answer"


def test_a_head_that_comes_with_its_body() -> None:
    pieces = Pieces()
    pieces.take(_event(-4), b"HEADbo")
    pieces.take(_event(2), b"dy")
    bodies = pieces.pop(5, 0)
    assert bodies is not None
    assert (bodies.response_head, bodies.response) == (b"HEAD", b"body")


def test_what_is_behind_a_hole_is_not_kept() -> None:
    pieces = Pieces()
    for position, data in ((0, b"ab"), (3, b"d"), (2, b"c"), (3, b"d"), (1, b"x")):
        pieces.take(_event(position), data)
    bodies = pieces.pop(5, 0)
    assert bodies is not None
    assert bodies.response == b"abcd"
    pieces.take(_event(10), b"late")
    bodies = pieces.pop(5, 0)
    assert bodies is not None
    assert bodies.response == b""


def test_the_last_packets_are_joined_behind_what_was_not_copied() -> None:
    pieces = Pieces()
    pieces.take(_event(0), b"begin")
    for position, data in ((100, b"tok"), (103, b"ens"), (900, b"end")):
        pieces.take(_event(position)._replace(flags=EventFlag.LAST), data)
    bodies = pieces.pop(5, 0)
    assert bodies is not None
    assert (bodies.response, bodies.response_last) == (b"begin", b"tokens" + HOLE + b"end")
    assert pieces.waiting_bytes == 0


def test_of_the_last_packets_some_are_kept() -> None:
    pieces = Pieces()
    for number in range(2 * ENDS_MAX):
        pieces.take(_event(10 * number)._replace(flags=EventFlag.LAST), b"%010d" % number)
        pieces.take(_event(10 * number)._replace(flags=EventFlag.LAST), b"%010d" % number)
    assert pieces.waiting_bytes == 10 * ENDS_MAX
    bodies = pieces.pop(5, 0)
    assert bodies is not None
    assert bodies.response_last == b"".join(b"%010d" % number for number in range(ENDS_MAX, 2 * ENDS_MAX))
    assert pieces.waiting_bytes == 0


def test_bounds() -> None:
    pieces = Pieces()
    for call in range(WAITING_BYTES_MAX // LIST_BYTES_MAX + 50):
        pieces.take(_event(0, call=call), bytes(LIST_BYTES_MAX))
        pieces.take(_event(LIST_BYTES_MAX, call=call), b"more")
        assert pieces.waiting_bytes <= WAITING_BYTES_MAX + LIST_BYTES_MAX
    assert pieces.given_up >= 49
    assert pieces.pop(5, 0) is None
    before = pieces.given_up
    pieces.take(_event(0, call=9_999, time_ns=WAITING_NS_MAX + 2), b"x")
    assert pieces.given_up > before
    assert pieces.waiting_bytes == 1

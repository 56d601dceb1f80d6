"""WebSockets from their 101 to their end: two parts of one call."""

from sensor.capture.packets.exchange import HEAD_BYTES_MAX, NO_MESSAGES, OPEN_MAX, Upgrades
from sensor.core.calls import Exchange
from sensor.ebpf.abi import EventKind, KernelEvent
from tests.sensor.describe.test_describe import _exchange

HEAD = b"GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\r\n"


def make(connection: int = 1, head: bytes = HEAD, status: int = 101) -> Exchange:
    exchange = _exchange(
        connection=connection, request_head=head, status_code=status, time_unix_ns=1_000, duration_ns=5,
        request_bytes=100, response_bytes=50,
    )  # fmt: skip
    assert isinstance(exchange, Exchange)
    return exchange


def end(connection: int = 1, *, messages: tuple[int, int] = (3, 4)) -> KernelEvent:
    fields = dict.fromkeys(KernelEvent._fields, 0) | {
        "connection": connection, "kind": int(EventKind.UPGRADE_END), "request_bytes": 7, "response_bytes": 9,
        "profile": messages[0], "host": messages[1], "local_address": b"", "remote_address": b"",
    }  # fmt: skip
    return KernelEvent(**fields)  # type: ignore[arg-type]


def test_a_websocket_is_told_at_its_101_and_at_its_end() -> None:
    upgrades = Upgrades()
    began = upgrades.begin(make())
    assert (began.figures.calls, began.figures.is_final, began.figures.request_bytes, began.figures.duration_ns) == (
        1,
        False,
        0,
        0,
    )
    ended = upgrades.end(end(), 9_000)
    assert ended is not None
    assert (ended.figures.calls, ended.figures.is_final, ended.figures.duration_ns) == (0, True, 8_000)
    assert (ended.figures.request_bytes, ended.figures.response_bytes) == (107, 59)
    assert (ended.request_messages, ended.response_messages) == (3, 4)
    assert upgrades.end(end(), 9_000) is None and not len(upgrades)


def test_messages_that_are_not_known_are_none() -> None:
    upgrades = Upgrades()
    upgrades.begin(make())
    ended = upgrades.end(end(messages=(NO_MESSAGES, 4)), 9_000)
    assert ended is not None
    assert (ended.request_messages, ended.response_messages) == (None, 4)


def test_other_upgrades_and_tunnels_are_left_as_they_are() -> None:
    upgrades = Upgrades()
    for exchange in (make(head=HEAD.replace(b"WebSocket", b"h2c")), make(status=200), make(status=400)):
        assert upgrades.begin(exchange) is exchange
    assert upgrades.end(end(), 9_000) is None


def test_open_ones_are_bounded_and_the_oldest_goes() -> None:
    upgrades = Upgrades()
    for number in range(OPEN_MAX + 3):
        upgrades.begin(make(number))
    assert (len(upgrades), upgrades.forgotten_count) == (OPEN_MAX, 3)
    assert upgrades.end(end(2), 9_000) is None
    assert upgrades.end(end(3), 9_000) is not None
    upgrades = Upgrades()
    large = HEAD + b"x" * 8_000
    for number in range(HEAD_BYTES_MAX // len(large) + 2):
        upgrades.begin(make(number, large))
    assert upgrades.forgotten_count == 2

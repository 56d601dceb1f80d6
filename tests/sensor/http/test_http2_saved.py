"""Header tables that another reader continues with: all fields are known where no block was missed, and none is wrong
where some were."""

import random

import msgspec
import pytest

from sensor.http.hpack import HpackDecoder, HpackTable, HuffmanStrings
from sensor.http.http2.connection import Http2Connection, SavedTables
from sensor.http.http2.heads import UNKNOWN_METHOD, UNKNOWN_PATH, StreamRequest
from sensor.http.http2.streams import RESET_PATIENCE_NS, StreamCall
from sensor.http.reassembly import Chunk, Direction
from tests.sensor.http.http2_conversation import converse
from tests.sensor.http.http2_talk import CLIENT, SERVER, STRINGS, Ends
from tests.sensor.http.http2_wire import write_data, write_headers, write_reset
from tests.sensor.http.test_hpack import write_repeating_blocks

LATER_NS = 10 * RESET_PATIENCE_NS
Said = list[tuple[Direction, bytes]]
Row = tuple[int, str, str, int, int | None]


def copy(saved: SavedTables) -> SavedTables:
    """As it comes out of a file."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(saved), type=SavedTables)


def continue_with(saved: SavedTables | None) -> Http2Connection:
    """A reader that came late."""
    connection = Http2Connection(STRINGS, is_joined=True)
    if saved is not None:
        connection.load(copy(saved))
    return connection


def feed(connection: Http2Connection, said: Said, positions: list[int]) -> list[StreamCall]:
    calls: list[StreamCall] = []
    for direction, data in said:
        connection.take_piece(direction, Chunk(positions[direction], data, 1), calls)
        positions[direction] += len(data)
    return calls


def rows(calls: list[StreamCall]) -> list[Row]:
    return [
        (call.stream, call.request.head.method, call.request.head.path, call.status_code, call.grpc_status)
        for call in calls
        if isinstance(call.request, StreamRequest)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_another_reader_continues_wherever_no_call_is_open(seed: int) -> None:
    said = converse(seed, 300, table_bytes=random.Random(seed).choice((0, 200, 4_096, 65_536))).sent
    connection, positions = Http2Connection(STRINGS, is_joined=False, client=CLIENT), [0, 0]
    whole = rows(feed(Http2Connection(STRINGS, is_joined=False, client=CLIENT), said, [0, 0]))
    continued = 0
    for place in range(len(said)):
        saved = connection.save(LATER_NS)
        if saved is not None:
            continued += 1
            after = continue_with(saved)
            found = rows(feed(after, said[place:], [*positions]))
            assert found == whole[len(whole) - len(found) :]
            assert not any(path == UNKNOWN_PATH for _, _, path, _, _ in found)
            assert (after.counts.loaded_tables, after.counts.unfit_tables) == (1, 0) or not found
        feed(connection, said[place : place + 1], positions)
    assert continued


@pytest.mark.parametrize("seed", range(10))
def test_no_field_is_wrong_whatever_was_missed(seed: int) -> None:
    chance, said = random.Random(seed), converse(seed, 300).sent
    truth = {row[0]: row for row in rows(feed(Http2Connection(STRINGS, is_joined=False, client=CLIENT), said, [0, 0]))}
    connection, positions = Http2Connection(STRINGS, is_joined=False, client=CLIENT), [0, 0]
    loaded = unfit = 0
    for place in range(len(said)):
        saved = connection.save(LATER_NS)
        for _ in range(3 if saved is not None else 0):
            missed = chance.randrange(1, 12)
            after, here = continue_with(saved), [*positions]
            feed(Http2Connection(STRINGS, is_joined=True), said[place : place + missed], here)
            for stream, method, path, status, grpc_status in rows(feed(after, said[place + missed :], here)):
                assert path in (truth[stream][2], UNKNOWN_PATH)
                assert method in (truth[stream][1], UNKNOWN_METHOD)
                assert status in (truth[stream][3], 0)
                assert grpc_status in (truth[stream][4], None)
            loaded += after.counts.loaded_tables
            unfit += after.counts.unfit_tables
        feed(connection, said[place : place + 1], positions)
    assert unfit


def test_frames_that_carry_no_header_block_may_be_missed() -> None:
    ends = Ends()
    ends.ask(1, b"/old").connection  # noqa: B018
    ends.reply(1, is_end=True)
    saved = ends.seen.connection.save(LATER_NS)
    ends.seen.connection = continue_with(saved)
    ends.seen.positions = [9_000, 7_000]  # PING and WINDOW_UPDATE went by.
    ends.ask(3, b"/old")
    ends.reply(3, is_end=True)
    assert rows(ends.seen.calls)[-1][1:4] == ("GET", "/old", 200)


@pytest.mark.parametrize("is_server_first", [False, True])
def test_a_missed_request_costs_the_tables(is_server_first: bool) -> None:
    ends = Ends()
    ends.ask(1, b"/old")
    ends.reply(1, is_end=True)
    saved = ends.seen.connection.save(LATER_NS)
    ends.ask(3, b"/missed")
    after = continue_with(saved)
    ends.seen.connection = after
    if is_server_first:
        ends.reply(3, is_end=True)
    ends.ask(5, b"/old")
    ends.reply(5, is_end=True)
    assert rows(ends.seen.calls)[-1][2] == UNKNOWN_PATH
    assert (after.counts.loaded_tables, after.counts.unfit_tables) == (0, 1)
    assert after.save(LATER_NS) is None, "a request that was not seen may be open"


def test_a_connection_that_was_not_heard_of_is_saved_as_it_came() -> None:
    ends = Ends()
    ends.ask(1, b"/old")
    ends.reply(1, is_end=True)
    saved = ends.seen.connection.save(LATER_NS)
    assert saved is not None
    after = continue_with(saved)
    assert after.save(LATER_NS) == saved
    after.close(0, [])
    assert after.counts.unfit_tables == 1


def test_it_is_saved_again_after_further_calls() -> None:
    ends = Ends()
    ends.ask(1, b"/old")
    ends.reply(1, is_end=True)
    for stream in (3, 5, 7):
        ends.seen.connection = continue_with(ends.seen.connection.save(LATER_NS))
        ends.ask(stream, b"/old")
        ends.reply(stream, is_end=True)
    assert [path for _, _, path, _, _ in rows(ends.seen.calls)] == ["/old"] * 4


@pytest.mark.parametrize("what", ["open", "unanswered", "half", "joined", "lost", "reset"])
def test_tables_are_not_saved_where_a_block_may_be_under_way(what: str) -> None:
    ends = Ends(is_joined=what == "joined")
    ends.ask(1, b"/old")
    ends.reply(1, is_end=True)
    now = ends.seen.time_ns + RESET_PATIENCE_NS - 1
    match what:
        case "open":
            ends.ask(3, is_end=False)
        case "unanswered":
            ends.ask(3)
        case "half":
            ends.ask(3)
            ends.reply(3)
        case "lost":
            ends.request.encode([(b"x", b"y")])
            ends.seen.lose(CLIENT, 100)
            ends.ask(5)
            ends.reply(5, is_end=True)
            ends.seen.connection.poll(LATER_NS, 0, ends.seen.calls)
        case "reset":
            ends.ask(3)
            ends.seen.say(CLIENT, write_reset(3))
    assert ends.seen.connection.save(now) is None
    if what == "reset":
        assert ends.seen.connection.save(ends.seen.time_ns + RESET_PATIENCE_NS) is not None


def test_calls_that_were_matched_in_the_kernel_count() -> None:
    """A record names the highest stream; one that still waits below it may yet be answered."""
    ends = Ends()
    ends.ask(1)
    ends.reply(1, is_end=True)
    connection = ends.seen.connection
    connection.counts.requests += 1
    connection.raise_stream(5)
    assert connection.save(LATER_NS) is None
    connection.counts.requests += 1
    saved = connection.save(LATER_NS)
    assert saved is not None and saved.last_stream == 5


@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_a_decoder_continues_after_any_block(seed: int, is_complete: bool) -> None:
    decoder = HpackDecoder(HuffmanStrings(), is_complete=is_complete)
    after = decoder
    for block in write_repeating_blocks(seed):
        table = msgspec.msgpack.decode(msgspec.msgpack.encode(after.save()), type=HpackTable)
        after = HpackDecoder.load(HuffmanStrings(), table)
        known, found = decoder.decode(block), after.decode(block)
        assert (found.fields, found.error) == (known.fields, known.error)
        assert (after._sizes, after.table_bytes, after.is_complete) == (
            decoder._sizes,
            decoder.table_bytes,
            decoder.is_complete,
        )


def test_header_values_are_not_shown() -> None:
    ends = Ends()
    ends.ask(1, b"/secret")
    ends.reply(1, is_end=True)
    ends.seen.say(SERVER, write_data(1, b"")).say(CLIENT, write_headers(3, b"\x82\x86\x84", is_end=True))
    ends.reply(3, is_end=True)
    saved = ends.seen.connection.save(LATER_NS)
    assert saved is not None and "secret" not in repr(saved)

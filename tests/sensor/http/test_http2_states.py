"""The states of a stream: what each input does, and that an input which breaks the protocol is counted."""

import pytest

from sensor.http.http2.states import NEXT_STATES, StreamInput, StreamState
from tests.sensor.http.http2_talk import CLIENT, SERVER, Ends
from tests.sensor.http.http2_wire import write_data, write_goaway, write_reset


def follow(*inputs: StreamInput) -> StreamState | None:
    state: StreamState | None = StreamState.IDLE
    for each in inputs:
        assert state is not None
        state = NEXT_STATES[state][each]
    return state


def test_every_state_is_reached_and_can_be_closed() -> None:
    reached, seen = [StreamState.IDLE], {StreamState.IDLE}
    while reached:
        for following in NEXT_STATES[reached.pop()]:
            if following is not None and following not in seen:
                seen.add(following)
                reached.append(following)
    assert seen == set(StreamState)
    for state in set(StreamState) - {StreamState.CLOSED}:
        following = NEXT_STATES[state][StreamInput.REQUEST_HEAD] or state
        assert NEXT_STATES[following][StreamInput.CLOSE] is StreamState.CLOSED or following is StreamState.CLOSED


def test_nothing_follows_the_end() -> None:
    assert NEXT_STATES[StreamState.CLOSED] == [None] * len(StreamInput)


@pytest.mark.parametrize(
    ("inputs", "state"),
    [
        ((StreamInput.REQUEST_HEAD, StreamInput.REQUEST_END, StreamInput.RESPONSE_END), StreamState.CLOSED),
        ((StreamInput.RESPONSE_END, StreamInput.REQUEST_HEAD, StreamInput.REQUEST_END), StreamState.CLOSED),
        ((StreamInput.REQUEST_HEAD, StreamInput.RESPONSE_END, StreamInput.SERVER_RESET), StreamState.RESPONSE_ENDED),
        ((StreamInput.SERVER_RESET, StreamInput.REQUEST_HEAD), StreamState.CLOSED),
        ((StreamInput.REQUEST_HEAD, StreamInput.REQUEST_END, StreamInput.CLIENT_RESET), StreamState.CANCELLED),
        ((StreamInput.REQUEST_HEAD, StreamInput.REQUEST_END, StreamInput.REQUEST_END), None),
        ((StreamInput.REQUEST_HEAD, StreamInput.REQUEST_HEAD), None),
    ],
)
def test_what_inputs_lead_to(inputs: tuple[StreamInput, ...], state: StreamState | None) -> None:
    assert follow(*inputs) is state


def test_an_end_after_the_end_is_counted_and_changes_nothing() -> None:
    ends = Ends()
    ends.ask(1)
    ends.seen.say(CLIENT, write_data(1, b"more", is_end=True))
    assert ends.seen.connection.counts.illegal_inputs == 1
    ends.reply(1, is_end=True)
    call = ends.seen.only()
    assert (call.status_code, call.is_aborted) == (200, False)


def test_what_the_protocol_allows_is_not_counted() -> None:
    ends = Ends()
    ends.ask(1).say(SERVER, write_reset(1))
    ends.ask(3, is_end=False)
    ends.reply(3, is_end=True)
    ends.seen.say(SERVER, write_reset(3))
    ends.ask(5)
    ends.seen.say(SERVER, write_goaway(3))
    assert ends.seen.connection.counts.illegal_inputs == 0
    assert [(call.stream, call.is_aborted) for call in ends.seen.calls] == [(1, True), (3, False), (5, True)]

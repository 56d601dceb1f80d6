"""The states of one HTTP/2 stream (RFC 9113, section 5.1) as a listener knows them, and what changes them.

A listener sees the states from both sides at once. The two directions are read apart, and one may wait for a hole. So a
response may be read before its request (the `IDLE` states). What a side sent before it learned of a reset may be read
after the reset (`RESET_BY_CLIENT`, `CANCELLED`, `RESET_BY_SERVER`).

    state             request             response
    IDLE              not read            not ended
    IDLE_ANSWERED     not read            ended
    IDLE_RESET        not read            aborted
    OPEN              not ended           not ended
    REQUEST_ENDED     ended               not ended
    RESPONSE_ENDED    not ended           ended
    RESET_BY_CLIENT   aborted             its rest may come
    CANCELLED         ended               its rest may come; the client has reset the stream
    RESET_BY_SERVER   its rest may come   aborted
    CLOSED            the call is complete

`_TRANSITIONS` lists what each input does in each state. An input without an entry breaks the protocol. It is counted
and changes nothing.
"""

from enum import IntEnum
from typing import Final


class StreamState(IntEnum):
    """Of one stream, as a listener knows it."""

    IDLE = 0
    IDLE_ANSWERED = 1
    IDLE_RESET = 2
    OPEN = 3
    REQUEST_ENDED = 4
    RESPONSE_ENDED = 5
    RESET_BY_CLIENT = 6
    CANCELLED = 7
    RESET_BY_SERVER = 8
    CLOSED = 9


class StreamInput(IntEnum):
    """What may change a state."""

    REQUEST_HEAD = 0
    REQUEST_END = 1  # END_STREAM of the client.
    RESPONSE_END = 2  # END_STREAM of the server.
    CLIENT_RESET = 3  # RST_STREAM, where the other side may have sent more that is not read yet.
    SERVER_RESET = 4
    CLOSE = 5  # Nothing more will be read: the last RST_STREAM, GOAWAY, the end of the connection, or patience is over.


_S, _I = StreamState, StreamInput
_TRANSITIONS: Final = {
    (_S.IDLE, _I.REQUEST_HEAD): _S.OPEN,
    (_S.IDLE, _I.RESPONSE_END): _S.IDLE_ANSWERED,
    (_S.IDLE, _I.CLIENT_RESET): _S.IDLE_RESET,
    (_S.IDLE, _I.SERVER_RESET): _S.IDLE_RESET,
    (_S.IDLE, _I.CLOSE): _S.IDLE_RESET,
    (_S.IDLE_ANSWERED, _I.REQUEST_HEAD): _S.RESPONSE_ENDED,
    (_S.IDLE_ANSWERED, _I.CLIENT_RESET): _S.IDLE_ANSWERED,
    (_S.IDLE_ANSWERED, _I.SERVER_RESET): _S.IDLE_ANSWERED,
    (_S.IDLE_ANSWERED, _I.CLOSE): _S.IDLE_ANSWERED,
    (_S.IDLE_RESET, _I.REQUEST_HEAD): _S.CLOSED,
    (_S.IDLE_RESET, _I.RESPONSE_END): _S.IDLE_RESET,
    (_S.IDLE_RESET, _I.CLIENT_RESET): _S.IDLE_RESET,
    (_S.IDLE_RESET, _I.SERVER_RESET): _S.IDLE_RESET,
    (_S.IDLE_RESET, _I.CLOSE): _S.IDLE_RESET,
    (_S.OPEN, _I.REQUEST_END): _S.REQUEST_ENDED,
    (_S.OPEN, _I.RESPONSE_END): _S.RESPONSE_ENDED,
    (_S.OPEN, _I.CLIENT_RESET): _S.RESET_BY_CLIENT,
    (_S.OPEN, _I.SERVER_RESET): _S.RESET_BY_SERVER,
    (_S.OPEN, _I.CLOSE): _S.CLOSED,
    (_S.REQUEST_ENDED, _I.RESPONSE_END): _S.CLOSED,
    (_S.REQUEST_ENDED, _I.CLIENT_RESET): _S.CANCELLED,
    (_S.REQUEST_ENDED, _I.SERVER_RESET): _S.CLOSED,
    (_S.REQUEST_ENDED, _I.CLOSE): _S.CLOSED,
    (_S.RESPONSE_ENDED, _I.REQUEST_END): _S.CLOSED,
    (_S.RESPONSE_ENDED, _I.CLIENT_RESET): _S.CLOSED,
    (_S.RESPONSE_ENDED, _I.SERVER_RESET): _S.RESPONSE_ENDED,  # It needs no more of the request (section 8.1).
    (_S.RESPONSE_ENDED, _I.CLOSE): _S.CLOSED,
    (_S.RESET_BY_CLIENT, _I.RESPONSE_END): _S.CLOSED,
    (_S.RESET_BY_CLIENT, _I.CLIENT_RESET): _S.RESET_BY_CLIENT,
    (_S.RESET_BY_CLIENT, _I.SERVER_RESET): _S.CLOSED,
    (_S.RESET_BY_CLIENT, _I.CLOSE): _S.CLOSED,
    (_S.CANCELLED, _I.RESPONSE_END): _S.CLOSED,
    (_S.CANCELLED, _I.CLIENT_RESET): _S.CANCELLED,
    (_S.CANCELLED, _I.SERVER_RESET): _S.CLOSED,
    (_S.CANCELLED, _I.CLOSE): _S.CLOSED,
    (_S.RESET_BY_SERVER, _I.REQUEST_END): _S.CLOSED,
    (_S.RESET_BY_SERVER, _I.CLIENT_RESET): _S.CLOSED,
    (_S.RESET_BY_SERVER, _I.SERVER_RESET): _S.RESET_BY_SERVER,
    (_S.RESET_BY_SERVER, _I.CLOSE): _S.CLOSED,
}
# The same by number: members of an enum are slow keys.
NEXT_STATES: Final = [[_TRANSITIONS.get((state, each)) for each in StreamInput] for state in StreamState]

"""Gives the row of an HTTP/2 call from that of a recent equal call: same request, same connection, same answer.

Programs repeat their heads to the byte, and the decoder gives the same object for the same bytes. So most calls need no
description of their own: only time and size may differ. A description is valid for two seconds, because services may
get names and paths may become parameters.

Most of these calls have a pattern (sensor.http.http2.streams). It gets the index of the row as its number. From then on
its figures come as an array, which becomes rows without a step per call.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensor.core.calls import CALL, Calls, Exchange, make_calls
from sensor.describe.bodies.sampling import Estimate
from sensor.http.http1.head import Malformed
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.heads import StreamRequest
from sensor.http.http2.streams import AlikeCalls, StreamCall

LIFE_NS: Final = 2_000_000_000
# Past them all are forgotten.
MAX_KEPT: Final = 4_096

Row = tuple[int, ...]  # Columns of CALL.
_Key = tuple[object, ...]

# What two calls that are alike may differ in; all else of a row is the same.
_OWN: Final = ("time_unix_ns", "request_bytes", "response_bytes", "duration_us", "ttfb_us")
_NAMES: Final = CALL.names or ()
_HEAD_END: Final = 4  # The first columns are `_OWN` but for its last.
_TTFB: Final = _NAMES.index("ttfb_us")
_RECORDS: Final = _NAMES.index("records")
_BODY: Final = _NAMES.index("body")
assert _NAMES[:_HEAD_END] == _OWN[:_HEAD_END]
_LARGEST_U32: Final = (1 << 32) - 1
_FIRST_ROWS: Final = 64
_NO_CALLS: Final = make_calls(0)


class Repeats:
    """Mutable state: rows of what was described lately."""

    __slots__ = ("_alike", "_estimates", "_generation", "_kept", "_rows", "_until_ns")

    def __init__(self, alike: AlikeCalls | None = None) -> None:
        """`alike` is where the figures of calls whose patterns are numbered here come from."""
        self._alike = alike if alike is not None else AlikeCalls()
        # The request is kept with the row, so that its identity stays its own.
        self._kept: dict[_Key, tuple[StreamRequest | Malformed, Row, Estimate | None]] = {}
        self._rows = make_calls(_FIRST_ROWS)  # Of patterns.
        self._estimates: dict[int, Estimate] = {}  # By their places.
        self._until_ns = 0
        self._generation = 0

    def begin(self, now_ns: int, generation: int) -> None:
        """A batch of calls begins; `generation` is that of the facts, whose numbers the rows hold. Collect before."""
        is_full = len(self._kept) > MAX_KEPT or len(self._alike.owners) > MAX_KEPT
        if now_ns >= self._until_ns or generation != self._generation or is_full:
            self.forget()
            self._until_ns = now_ns + LIFE_NS
            self._generation = generation

    def forget(self) -> None:
        """Nothing that was described is true any more. Collect before."""
        self._kept.clear()
        self._estimates.clear()
        self._alike.forget_patterns()

    def collect(self, offset_ns: int) -> Calls:
        """Rows of the calls that were gathered; `offset_ns` turns their times into unix time."""
        if not len(self._alike):
            return _NO_CALLS
        places, started, answered, ended, request_bytes, response_bytes = self._alike.pop_figures().T
        calls: Calls = self._rows[places]
        calls["time_unix_ns"] = started + offset_ns
        calls["request_bytes"] = request_bytes
        calls["response_bytes"] = response_bytes
        calls["duration_us"] = np.maximum(ended - started, 0) // 1000
        calls["ttfb_us"] = np.minimum(np.maximum(answered - started, 0) // 1000, _LARGEST_U32)
        if self._estimates:
            self._estimate(calls, places)
        return calls

    def find(self, exchange: StreamExchange) -> Row | None:
        """The row of a call by one that it is like; of one whose bodies came there is none."""
        call = exchange.call
        if not call.is_final or call.is_aborted or call.is_lossy or call.bodies is not None:
            return None
        pattern = call.pattern
        if pattern is not None:
            if pattern.turn != self._alike.turn:
                return None
            row, estimate = self._rows[pattern.place].item(), self._estimates.get(pattern.place)
        else:
            kept = self._kept.get(_make_key(exchange.exchange.ends.connection, call))
            if kept is None:
                return None
            _, row, estimate = kept
        own: Exchange = exchange.exchange
        records = row[_RECORDS] if estimate is None else min(estimate.count(own.figures.response_bytes), _LARGEST_U32)
        return (
            own.figures.time_unix_ns,
            own.figures.request_bytes,
            own.figures.response_bytes,
            own.figures.duration_ns // 1000,
            *row[_HEAD_END:_TTFB],
            min(own.figures.time_to_first_byte_ns // 1000, _LARGEST_U32),
            *row[_TTFB + 1 : _RECORDS],
            records,
            *row[_RECORDS + 1 :],
        )

    def keep(self, exchange: StreamExchange, row: Row, estimate: Estimate | None = None) -> None:
        """What a call was described as. `estimate`: how its records follow from its size, where nothing else is known
        of its bodies."""
        call = exchange.call
        is_odd = not call.is_final or call.is_aborted or call.is_lossy or call.bodies is not None
        if is_odd or (row[_BODY] and estimate is None):
            return
        pattern = call.pattern
        if pattern is None:
            self._kept[_make_key(exchange.exchange.ends.connection, call)] = call.request, row, estimate
        elif pattern.turn != self._alike.turn:
            place = self._alike.number_pattern(pattern, exchange.exchange)
            if place == len(self._rows):
                self._rows = np.concatenate((self._rows, make_calls(place)))
            self._rows[place] = row
            if estimate is not None:
                self._estimates[place] = estimate

    def _estimate(self, calls: Calls, places: NDArray[np.int64]) -> None:
        """Records of calls whose bodies nobody read, as far as others of their route were."""
        each, fixed = np.full(len(self._alike.owners), -1.0), np.zeros(len(self._alike.owners))
        for place, estimate in self._estimates.items():
            each[place], fixed[place] = estimate.record_bytes, estimate.fixed_bytes
        each, fixed = each[places], fixed[places]
        counts = np.ones(len(calls))
        np.divide(np.maximum(calls["response_bytes"] - fixed, 0), each, out=counts, where=each > 0)
        is_known = each >= 0
        calls["records"][is_known] = np.minimum(np.rint(counts[is_known]), _LARGEST_U32)


def _make_key(connection: int, call: StreamCall) -> _Key:
    """All that a description depends on: what is added to `StreamCall` and told belongs here too."""
    return (
        connection,
        id(call.request),
        call.status_code,
        call.response_content_type,
        call.grpc_status,
        call.streaming,
        call.request_messages,
        call.response_messages,
        call.calls,
        call.has_unknown_fields,
        call.is_inferred,
    )

"""Bodies of calls that the kernel recognised: what their records say of them, read or estimated.

A record with `RecordFlag.BODY` has its response among the pieces: the kernel sent it up for its class, which the route
had not shown. Of all others the records returned are estimated, a whole batch at once; a response far larger than any
that was read makes the route's next call a sample.
"""

import numpy as np
import numpy.typing as npt

from sensor.bodies.estimates import JUMP_RATIO
from sensor.bodies.reader import BodyCall, BodyReader
from sensor.calls import BodyFlag
from sensor.columns import Calls
from sensor.facts import Facts
from sensor.kernel.abi import RecordFlag
from sensor.key_table import Keys
from sensor.pieces import Pieces
from sensor.recognition.actors import Records
from sensor.recognition.mirror import Mirror, TaughtRoute
from sensor.runs import number_values


class RecordBodies:
    """Fills the columns of bodies. Not thread-safe."""

    __slots__ = ("_facts", "_mirror", "_pieces", "_reader")

    def __init__(self, *, mirror: Mirror, pieces: Pieces, reader: BodyReader, facts: Facts) -> None:
        self._facts = facts
        self._mirror = mirror
        self._pieces = pieces
        self._reader = reader

    def fill(
        self,
        records: Records,
        calls: Calls,
        numbers: npt.NDArray[np.uint32],
        route_ids: Keys,
        places: npt.NDArray[np.intp],
    ) -> None:
        """`numbers` and `route_ids`: the different routes of the records; `places`: of each record among them."""
        is_final = (records["flags"] & RecordFlag.FINAL) != 0
        self._estimate(calls, is_final, numbers, route_ids, places)
        for place in np.flatnonzero(is_final & ((records["flags"] & RecordFlag.BODY) != 0)).tolist():
            one = self._mirror.routes.find(int(records["route"][place]))
            if one is not None:
                self._read(records, calls, place, one)

    def _estimate(
        self,
        calls: Calls,
        is_final: npt.NDArray[np.bool_],
        numbers: npt.NDArray[np.uint32],
        route_ids: Keys,
        places: npt.NDArray[np.intp],
    ) -> None:
        table, is_read = self._reader.estimates.find_all(route_ids)
        if not is_read.any():
            return
        fixed, each, largest = table[places].T
        is_known = is_read[places] & is_final & (calls["status"] // 100 == 2)
        sizes = calls["response_bytes"].astype(np.float64)
        counts = np.ones(len(calls))
        np.divide(np.maximum(sizes - fixed, 0), each, out=counts, where=each > 0)
        calls["records"][is_known] = np.minimum(np.rint(counts[is_known]), np.iinfo(np.uint32).max)
        calls["body"][is_known] = BodyFlag.ESTIMATED.value
        for number in number_values(numbers[places[is_known & (sizes > JUMP_RATIO * largest)]])[0].tolist():
            # Much larger than any that was read.
            self._mirror.sample_next(number)

    def _read(self, records: Records, calls: Calls, place: int, taught: TaughtRoute) -> None:
        record = records[place]
        bodies = self._pieces.pop(int(record["connection"]), int(record["call"]))
        if bodies is None:
            return  # It found the ring full.
        facts = self._reader.read(
            BodyCall(
                taught.route.route_id,
                int(record["status"]),
                b"",
                bodies.response_head,
                int(record["request_bytes"]),
                int(record["response_bytes"]),
                int(calls["time_unix_ns"][place]),
                bodies,
            )
        )
        if facts is not None:
            calls["records"][place] = min(facts.records, np.iinfo(np.uint32).max)
            calls["data"][place] = self._facts.data(facts.data)
            calls["body"][place] = facts.flags.value

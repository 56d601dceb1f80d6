"""Which rows are the first of their route, of their consumer, or of their status class at the route."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensor.aggregation.rows import Rows
from sensor.facts import ROUTES_LIMIT, Facts, Freed
from sensor.identities import IDENTITIES_LIMIT
from sensor.key_table import KeyTable
from sensor.runs import number_values

# Consumers remembered, and as many that came before them; the oldest are forgotten and then count as new again.
CONSUMERS_LIMIT: Final = 65_536
_CLASS_BITS: Final = 4


class Novelty:
    """What was seen since the start. Routes and identities are forgotten when `Facts` frees their numbers."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._classes = np.zeros(ROUTES_LIMIT, np.uint16)  # Bit c: status codes c00 to c99 were seen at the route.
        self._is_seen = np.zeros(IDENTITIES_LIMIT, np.bool_)
        self._consumers, self._older = KeyTable(), KeyTable()

    def find_new(self, rows: Rows) -> NDArray[np.bool_]:
        """Where something is seen for the first time: one row for each new thing; from now on it is known."""
        return self._find_new_classes(rows) | self._find_new_consumers(rows)

    def forget(self, freed: Freed) -> None:
        """These numbers will stand for something else."""
        self._classes[freed.routes] = 0
        self._is_seen[freed.identities] = False

    def _find_new_classes(self, rows: Rows) -> NDArray[np.bool_]:
        is_new = np.zeros(len(rows), np.bool_)
        routes, classes = rows.routes, rows.outcomes // 100
        places = np.flatnonzero(self._classes[routes] >> classes & 1 == 0)
        if len(places):
            codes = routes[places] << _CLASS_BITS | classes[places]
            codes, first = np.unique(codes, return_index=True)
            is_new[places[first]] = True
            bits = (1 << (codes & (1 << _CLASS_BITS) - 1)).astype(np.uint16)
            np.bitwise_or.at(self._classes, codes >> _CLASS_BITS, bits)
        return is_new

    def _find_new_consumers(self, rows: Rows) -> NDArray[np.bool_]:
        is_new = np.zeros(len(rows), np.bool_)
        identities = rows.identities
        places = np.flatnonzero(~self._is_seen[identities])
        if len(places):
            numbers, first, _ = number_values(identities[places])
            self._is_seen[numbers] = True
            consumers, firsts, _ = number_values(self._facts.identities.consumer[numbers])
            is_new[places[first[firsts[self._meet(consumers)]]]] = True
        return is_new

    def _meet(self, consumers: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places of those that were not known; now they are."""
        _, unknown = self._consumers.find(consumers)
        _, forgotten = self._older.find(consumers[unknown])
        if len(unknown):
            if len(self._consumers) + len(unknown) > CONSUMERS_LIMIT:
                self._consumers, self._older = KeyTable(), self._consumers
            self._consumers.put(consumers[unknown], np.zeros(len(unknown), np.int64))
        return unknown[forgotten]

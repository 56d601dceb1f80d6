"""Asks sensors for the states of schemas that the store lacks, at the pace at which the store takes them.

A sensor offers digests of all that it has on every new stream and every ten minutes (proto SchemaOffer). Of a thousand
sensors that come back at once the store has nearly all, and what it lacks is asked for in portions while the queue has
room. So nothing is sent in vain, and nothing finds the queue full. What is lost all the same is in the next offer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.schemas.service import SchemaQueue
from collector.storage.records import Reader
from common.bounded import BoundedDict
from common.figures import Figure, make_gauges, make_totals

DIGESTS_MAX: Final = 10_000  # Of one offer; a sensor has at most 4,096 states.
OFFERS_MAX: Final = 20_000  # Sensors, as the registry has.
# Looked up in one statement, and in one round: some 10 ms each.
STATEMENT_DIGESTS: Final = 20_000
ROUND_DIGESTS: Final = 100_000
# Asked for in one round, which is a second: less than a flush takes in that time, some 150 KB of one sensor.
ASKED_OF_ROUND: Final = 2_000
ASKED_OF_SENSOR: Final = 200

_STORED: Final = """
SELECT DISTINCT digest FROM schemas WHERE node IN {nodes:Array(String)} AND digest IN {digests:Array(UInt64)}"""
_MISSING: Final = f"""
SELECT arrayJoin({{digests:Array(UInt64)}}) AS missing WHERE missing NOT IN ({_STORED})"""

Digests = NDArray[np.uint64]


@dataclass(slots=True, kw_only=True)
class _Offer:
    digests: Digests  # Those that are not known to be stored.
    ask: Callable[[Sequence[int]], None]
    is_checked: bool = False


class SchemaOffers:
    """Thread-safe: the event loop adds, housekeeping answers."""

    def __init__(self, reader: Reader, queue: SchemaQueue) -> None:
        self._reader = reader
        self._queue = queue
        self._lock = Lock()
        self._offers: BoundedDict[str, _Offer] = BoundedDict(OFFERS_MAX)
        self._offered_count = 0
        self._asked_count = 0

    def add(self, node: str, digests: Sequence[int], ask: Callable[[Sequence[int]], None]) -> None:
        """An offer of a node, in the place of its last one. `ask` is called in another thread and must not block."""
        offer = _Offer(digests=np.array(digests[:DIGESTS_MAX], np.uint64), ask=ask)
        with self._lock:
            self._offered_count += len(offer.digests)
            self._offers.renew(node, offer)

    def answer(self) -> None:
        """Look up what was offered, and ask for what there is room for. Blocks. Raises StoreError."""
        with self._lock:
            offers = dict(self._offers)
        for group in _divide({node: offer for node, offer in offers.items() if not offer.is_checked}):
            self._check(group)
        room = min(ASKED_OF_ROUND, self._queue.room)
        for node, offer in offers.items():
            if offer.is_checked and (room > 0 or not len(offer.digests)):
                asked = offer.digests[: min(room, ASKED_OF_SENSOR)]
                offer.digests = offer.digests[len(asked) :]
                room -= len(asked)
                self._asked_count += len(asked)
                if len(asked):
                    offer.ask(asked.tolist())
                self._put_behind(node, offer)

    def _check(self, group: dict[str, _Offer]) -> None:
        offered = np.concatenate([offer.digests for offer in group.values()])
        parameters = {"nodes": list(group), "digests": offered.tolist()}
        missing = np.array(self._reader.query_columns(_MISSING, parameters)["missing"], np.uint64)
        for offer in group.values():
            offer.digests = offer.digests[np.isin(offer.digests, missing)]
            offer.is_checked = True

    def _put_behind(self, node: str, offer: _Offer) -> None:
        """The others first, or away with one that has nothing more."""
        with self._lock:
            if self._offers.get(node) is offer:
                del self._offers[node]
                if len(offer.digests):
                    self._offers[node] = offer

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        with self._lock:
            waiting = sum(len(offer.digests) for offer in self._offers.values())
        return (
            *make_totals(
                (
                    ("schemas_offered", "States of schemas that sensors offered.", self._offered_count),
                    ("schemas_asked", "Offered states of schemas that the store lacked.", self._asked_count),
                )
            ),
            *make_gauges([("schemas_waiting", "Offered states of schemas not looked up or asked for yet.", waiting)]),
        )


def _divide(offers: dict[str, _Offer]) -> Iterator[dict[str, _Offer]]:
    """Groups of the size of a statement, of as many as one round looks up."""
    group: dict[str, _Offer] = {}
    size = total = 0
    for node, offer in offers.items():
        if total >= ROUND_DIGESTS:
            break
        group[node] = offer
        size, total = size + len(offer.digests), total + len(offer.digests)
        if size >= STATEMENT_DIGESTS:
            yield group
            group, size = {}, 0
    if group:
        yield group

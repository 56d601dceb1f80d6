"""Names the nodes whose sensors saw a subject's calls: whose word a signal rests on.

By slot of endpoints, consumers and pairs it keeps the last `NODES_KEPT` nodes with the hour of their last row. A signal
gets the nodes of its subject, and the other nodes that saw calls of the same service at that time. A service that
several nodes serve is rarely called through one alone, so the word of one node about it is weak. A service of a host is
that node's alone, whatever others are called.
"""

from collections.abc import Iterable

import msgspec
import numpy as np

from collector.alerting.alert import AbuseSignal, HealthSignal, Signal
from collector.detection.framework.rows import Events
from collector.detection.framework.state import U64, DetectorState, Slots, column, record
from collector.detection.framework.subject_index import SubjectIndex
from collector.detection.health.services import Services
from collector.storage.row_group import RowGroup

NODES_KEPT = 4
_NUMBERS_MAX = 65_536  # Past it all is forgotten, and known again within minutes.
_HOUR_SECONDS = 3_600
_HOUR_BITS = np.uint64(32)
_HOUR_MASK = np.uint64(2**32 - 1)


class SubjectNodes(DetectorState):
    """Of one table. A place holds a node's number and, in the lower 32 bits, the hour of its last row; 0: nothing."""

    _places = column(np.uint64, NODES_KEPT)

    def take(self, slots: Slots, values: U64) -> None:
        """Rows with their slots (-1: none) and what their nodes' places should hold."""
        is_new = slots >= 0
        for place in self._places if self.size else ():
            is_new &= place[slots] != values
            if not np.count_nonzero(is_new):  # So it is for nearly every batch.
                return
        order = np.lexsort((values[is_new], slots[is_new]))
        slots, values = slots[is_new][order], values[is_new][order]
        for _ in range(NODES_KEPT):
            if not len(slots):
                return
            first = np.ones(len(slots), np.bool_)
            first[1:] = slots[1:] != slots[:-1]
            self._put(slots[first], values[first])
            is_left = ~first & np.append(False, (slots[1:] != slots[:-1]) | (values[1:] != values[:-1]))
            slots, values = slots[is_left], values[is_left]

    def _put(self, slots: Slots, values: U64) -> None:
        """Of distinct slots: over the same node, else over the one seen longest ago."""
        held = self._places[:, slots]
        is_same = held >> _HOUR_BITS == values >> _HOUR_BITS
        oldest = np.argmin(held & _HOUR_MASK, axis=0)
        self._places[np.where(is_same.any(axis=0), is_same.argmax(axis=0), oldest), slots] = values

    def list_numbers(self, slots: Iterable[int], since_hour: int) -> set[int]:
        """Numbers of the nodes with rows from an hour on."""
        held = self._places[:, list(slots)].ravel()
        return set((held[held & _HOUR_MASK >= since_hour] >> _HOUR_BITS).tolist()) - {0}

    def clear(self) -> None:
        """Forget all."""
        self._places[:] = 0


class Witnesses(DetectorState):
    """Of all subjects."""

    parts = ("endpoints", "consumers", "pairs")
    _numbers = record(dict[str, int])

    def __init__(self, subjects: SubjectIndex, services: Services) -> None:
        super().__init__()
        self._subjects, self._services = subjects, services
        self.endpoints, self.consumers, self.pairs = SubjectNodes(), SubjectNodes(), SubjectNodes()
        for table, part in zip(subjects.tables, (self.endpoints, self.consumers, self.pairs), strict=True):
            table.follow(part)

    def take(self, events: Events, group: RowGroup) -> None:
        """Rows of a group, of which `events` are those that count."""
        numbers = np.array([self._number(head.node) for head in group.heads], np.uint64)
        values = events.read(group.spread(numbers << _HOUR_BITS | np.uint64(events.time // _HOUR_SECONDS)))
        self.endpoints.take(events.endpoint, values)
        self.consumers.take(events.consumer, values)
        self.pairs.take(events.pair, values)

    def _number(self, node: str) -> int:
        if node not in self._numbers and len(self._numbers) >= _NUMBERS_MAX:
            self._numbers.clear()
            for part in (self.endpoints, self.consumers, self.pairs):
                part.clear()
        return self._numbers.setdefault(node, len(self._numbers) + 1)

    def attach(self, signals: list[Signal]) -> list[Signal]:
        """The same signals with the nodes they rest on."""
        if not signals:
            return signals
        tables = self._subjects.tables
        asked = {(one.endpoint_id, _name_consumer(one)) for one in signals}
        names = asked | {(endpoint, "") for endpoint, _ in asked} | {("", consumer) for _, consumer in asked}
        endpoints, consumers, pairs = (table.find_all(names) for table in tables)
        names_of = {number: node for node, number in self._numbers.items()}
        attached: list[Signal] = []
        for one in signals:
            endpoint, consumer = one.endpoint_id, _name_consumer(one)
            since = (self._subjects.watermark - _measure_span(one)) // _HOUR_SECONDS
            if (slot := pairs.get((endpoint, consumer), -1)) >= 0:
                own = self.pairs.list_numbers([slot], since)
            elif consumer and (slot := consumers.get(("", consumer), -1)) >= 0:
                own = self.consumers.list_numbers([slot], since)
            else:
                slot = endpoints.get((endpoint, ""), -1)
                own = self.endpoints.list_numbers([slot] if slot >= 0 else [], since)
            others = self._list_serving(endpoints.get((endpoint, ""), -1), consumers.get(("", consumer), -1), since)
            attached.append(
                msgspec.structs.replace(
                    one,
                    nodes=tuple(sorted(names_of[number] for number in own)),
                    other_nodes=tuple(sorted(names_of[number] for number in others - own)[:NODES_KEPT]),
                )
            )
        return attached

    def _list_serving(self, endpoint: int, consumer: int, since_hour: int) -> set[int]:
        """Nodes of the service of an endpoint, or of those that a consumer calls."""
        called = [endpoint] if endpoint >= 0 else self._subjects.list_endpoints(consumer)
        shared = [one for one in called if self._services.can_have_replicas(one)]
        members = {int(slot) for one in shared for slot in self._services.list_members(one)}
        return self.endpoints.list_numbers(members, since_hour)


def _name_consumer(signal: Signal) -> str:
    return "" if isinstance(signal, HealthSignal) else signal.consumer


def _measure_span(signal: Signal) -> int:
    return max(signal.seconds if isinstance(signal, AbuseSignal) else signal.window_seconds, _HOUR_SECONDS)

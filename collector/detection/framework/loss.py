"""The share of calls that sensors did not read recently. It widens the expected ranges and is printed in alerts.

Calls of a service that is read in turns are estimated for the time between, without path and caller. They count as
unread here too: else each endpoint of the service would seem to fall silent when the turns begin.

A sensor reports its loss, separately for calls in clear text and over TLS, which it captures in different ways. What is
known to be of one service is reported for it alone, and the rest for the node. The loss is kept by node, and weighs no
more than what the node delivers. A row gets the loss of its service, and of its node, by way. A subject on several
nodes gets the mean of their losses, weighted by its calls from each. So a node's report affects only its own rows.

Subjects are counted from the first row of a node with loss until ten minutes after the last such row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from collector.core.rows import Service
from collector.detection.framework.distinct import list_distinct
from collector.detection.framework.rows import FLAG_ENCRYPTED, FLAG_ESTIMATED, Events, hash_text
from collector.detection.framework.slots import SubjectName, Subjects
from collector.detection.framework.state import F64, U64, Arrays, Bools, DetectorState, Slots, column, number, record
from collector.inventory.naming import name_service
from collector.storage.columns import BatchHead, RowBatch
from collector.storage.row_group import RowGroup
from common.bounded import BoundedDict

NODES_MAX = 20_000  # The one heard of longest ago goes; some 200 bytes each.
_HALF_LIFE_SECONDS = 30
_STALE_SECONDS = 600  # An account that is older says nothing.
_LEAST = 1e-4  # Less is nothing: sums fade for ever.
_SEEN_MAX = 10  # A node may have seen so many calls for each that it delivers with them, or its loss weighs less.

_SERVICES_MAX = 1_024  # Of one node that lost calls lately.

_PLAIN, _TLS = 0, 1


@dataclass(frozen=True, slots=True)
class _BatchRows:
    """The rows of one batch of a group, and what it says besides."""

    head: BatchHead
    rows: RowBatch
    own: slice

    @property
    def calls(self) -> U64:
        return self.rows.calls[self.own]

    @property
    def is_encrypted(self) -> Bools:
        """What TLS carried."""
        return self.rows.flags[self.own] & FLAG_ENCRYPTED > 0

    @property
    def is_estimated(self) -> Bools:
        return self.rows.flags[self.own] & FLAG_ESTIMATED > 0

    @property
    def keys(self) -> U64:
        """Of the service and way of each row."""
        places, inverse = np.unique(self.rows.route[self.own], return_inverse=True)
        services = [self.rows.routes[place].service for place in places.tolist()]
        plain, tls = (
            np.array([_key_service(service, is_encrypted=way) for service in services], np.uint64)[inverse]
            for way in (False, True)
        )
        return np.where(self.is_encrypted, tls, plain)


class _Account:
    """Fading sums of one node over about a minute: calls seen and lost, in the clear and over TLS, and of services that
    lost some."""

    __slots__ = ("lost", "seen", "services", "time")

    def __init__(self) -> None:
        self.seen = [0.0, 0.0]
        self.lost = [0.0, 0.0]
        self.services: BoundedDict[int, tuple[float, float]] = BoundedDict(_SERVICES_MAX)  # Seen and lost, by key.
        self.time = 0

    def add(self, time: int, batch: _BatchRows, *, has_estimates: bool) -> None:
        fade = 0.5 ** (max(0, time - self.time) / _HALF_LIFE_SECONDS)
        self.time = max(self.time, time)
        for way, seen, lost in _split_calls(batch.head):
            weight = min(1.0, _SEEN_MAX * _count_delivered(batch, way) / seen) if lost else 1.0
            self.seen[way] = self.seen[way] * fade + weight * seen
            self.lost[way] = self.lost[way] * fade + weight * lost
        if batch.head.service_losses or self.services or has_estimates:
            self._add_services(fade, batch)

    def _add_services(self, fade: float, batch: _BatchRows) -> None:
        new: dict[int, float] = {}
        for loss in batch.head.service_losses:
            if loss.client_address:  # What a client hides is an alert of its own and widens nothing.
                continue
            key = _key_service(loss.service, is_encrypted=loss.is_encrypted)
            new[key] = new.get(key, 0.0) + loss.lost_calls
        keys, calls, is_estimated = batch.keys, batch.calls, batch.is_estimated
        for key in list_distinct(keys[is_estimated]).tolist():
            new[key] = new.get(key, 0.0) + float(calls[is_estimated & (keys == key)].sum())
        for key in {*new, *self.services}:
            delivered, lost = float(calls[~is_estimated & (keys == key)].sum()), new.get(key, 0.0)
            weight = min(1.0, _SEEN_MAX * delivered / (delivered + lost)) if lost else 1.0
            seen, before = (fade * one for one in self.services.get(key, (0.0, 0.0)))
            seen, before = seen + weight * (delivered + lost), before + weight * lost
            if before > _LEAST * seen:
                self.services[key] = seen, before
            else:
                self.services.pop(key, None)

    def service_ratios(self, time: int) -> dict[int, float]:
        """By key of a service and way."""
        if time - self.time > _STALE_SECONDS:
            return {}
        return {key: lost / seen for key, (seen, lost) in self.services.items() if seen > 0}

    def ratio(self, way: int, time: int) -> float:
        if self.seen[way] <= 0 or time - self.time > _STALE_SECONDS:
            return 0.0
        ratio = self.lost[way] / self.seen[way]
        return ratio if ratio >= _LEAST else 0.0


class NodeLoss(DetectorState):
    """Lost of all seen, by node."""

    _saved = record(dict[str, tuple[list[float], list[float], int, dict[int, tuple[float, float]]]])

    def __init__(self) -> None:
        super().__init__()
        self._accounts: BoundedDict[str, _Account] = BoundedDict(NODES_MAX)  # Heard of longest ago first.

    def add(self, time: int, group: RowGroup) -> None:
        """What the sensors of batches say; `time` in unix seconds."""
        estimated = (group.rows.flags & FLAG_ESTIMATED > 0).nonzero()[0]
        with_estimates = set(np.searchsorted(group.ends, estimated, side="right").tolist())
        for place, head in enumerate(group.heads):
            account = self._accounts.setdefault(head.node, _Account())
            self._accounts.move_to_end(head.node)
            rows = _BatchRows(head, group.rows, group.find_rows(place))
            account.add(time, rows, has_estimates=place in with_estimates)

    def list_nodes(self, since: int) -> list[str]:
        """Who sent rows since a time, unix seconds."""
        return [node for node, account in self._accounts.items() if account.time >= since]

    def ratios(self, node: str, time: int) -> tuple[float, float]:
        """Of calls in the clear, and of those that TLS carried, 0..1."""
        account = self._accounts.get(node)
        return (account.ratio(_PLAIN, time), account.ratio(_TLS, time)) if account is not None else (0.0, 0.0)

    def measure_rows(self, group: RowGroup, time: int) -> F64 | None:
        """The loss of each row of a group; None where nothing was lost."""
        of_nodes = {node: self.ratios(node, time) for node in {head.node for head in group.heads}}
        services = {
            node: account.service_ratios(time) for node in of_nodes if (account := self._accounts.get(node)) is not None
        }
        if not any(any(ways) for ways in of_nodes.values()) and not any(services.values()):
            return None
        ways = np.array([of_nodes[head.node] for head in group.heads])
        plain, tls = group.spread(ways[:, _PLAIN]), group.spread(ways[:, _TLS])
        ratios: F64 = np.where(group.rows.flags & FLAG_ENCRYPTED > 0, tls, plain)
        for place, head in enumerate(group.heads):
            if known := services.get(head.node):
                own = group.find_rows(place)
                keys = _BatchRows(head, group.rows, own).keys
                for key, ratio in known.items():
                    ratios[own] = np.where(keys == key, 1 - (1 - ratios[own]) * (1 - ratio), ratios[own])
        return ratios if ratios.any() else None

    def dump(self, path: str = "") -> Arrays:
        self._saved = {node: (one.seen, one.lost, one.time, dict(one.services)) for node, one in self._accounts.items()}
        return super().dump(path)

    def load(self, saved: Mapping[str, NDArray[np.generic]], path: str = "") -> None:
        super().load(saved, path)
        for node, (seen, lost, time, services) in self._saved.items():
            account = self._accounts[node] = _Account()
            account.seen, account.lost, account.time = seen, lost, time
            account.services.update(services)


class SubjectLoss(DetectorState):
    """Calls that came of late, and how many of them were lost with them, by slot of one table; both fade. Columns have
    no slots while nothing was lost."""

    has_own_size = True
    _calls = column(np.float64)
    _lost = column(np.float64)
    _touched = column(np.int64)
    time = number(0)  # Of the newest row, unix seconds.
    _until = number(0)  # Until when anything is known; 0: nothing is.

    def _clear(self) -> None:
        self.size, self._until = 0, 0
        self._calls = self._lost = np.zeros(0)
        self._touched = np.zeros(0, np.int64)

    def grow(self, size: int) -> None:
        self._capacity = size

    def take(self, slots: Slots, calls: F64, loss: F64 | None, time: int) -> None:
        """Rows with their slots (-1: none), calls and loss (None: nothing was lost)."""
        self.time = max(self.time, time)
        if loss is not None:
            self._until = time + _STALE_SECONDS
        elif not self._until:
            return
        elif time > self._until:
            self._clear()
            return
        super().grow(self._capacity)
        rows = (slots >= 0).nonzero()[0]
        touched, place = np.unique(slots[rows], return_inverse=True)
        fade = 0.5 ** (np.maximum(time - self._touched[touched], 0) / _HALF_LIFE_SECONDS)
        lost = np.bincount(place, calls[rows] * loss[rows], len(touched)) if loss is not None else 0.0
        self._calls[touched] = self._calls[touched] * fade + np.bincount(place, calls[rows], len(touched))
        self._lost[touched] = self._lost[touched] * fade + lost
        self._touched[touched] = time

    @property
    def is_known(self) -> bool:
        """Whether anything was lost lately."""
        return bool(self._until)

    def ratios(self, slots: Slots, stale_seconds: int = _STALE_SECONDS) -> F64 | None:
        """Of each slot the share that was lost, 0..1; None where that of all is 0."""
        if not self._until:
            return None
        calls, lost = self.sums(slots, stale_seconds)
        return lost / np.maximum(calls, 1e-9) if lost.any() else None

    def share(self, slots: Slots) -> float:
        """The same of several slots together."""
        if not self._until:
            return 0.0
        calls, lost = self.sums(slots)
        return float(lost.sum() / max(calls.sum(), 1e-9))

    def sums(self, slots: Slots, stale_seconds: int = _STALE_SECONDS) -> tuple[F64, F64]:
        """Calls and lost ones of each slot, as of its last row."""
        if not len(self._calls):
            return np.zeros(len(slots)), np.zeros(len(slots))
        known = np.minimum(slots, len(self._calls) - 1)
        is_known = (slots < len(self._calls)) & (self.time - self._touched[known] <= stale_seconds)
        calls, lost = np.where(is_known, self._calls[known], 0.0), np.where(is_known, self._lost[known], 0.0)
        return calls, np.where(lost >= _LEAST * calls, lost, 0.0)

    def forget(self, slots: Slots) -> None:
        super().forget(slots[slots < self.size])


class Losses(DetectorState):
    """Of all nodes, and of all subjects."""

    parts = ("nodes", "endpoints", "consumers", "pairs")

    def __init__(self, tables: tuple[Subjects, Subjects, Subjects]) -> None:
        """`tables` of endpoints, consumers and pairs."""
        super().__init__()
        self._tables = tables
        self.nodes = NodeLoss()
        self.endpoints, self.consumers, self.pairs = SubjectLoss(), SubjectLoss(), SubjectLoss()
        for table, part in zip(tables, (self.endpoints, self.consumers, self.pairs), strict=True):
            table.follow(part)

    @property
    def is_known(self) -> bool:
        """Whether anything was lost lately."""
        return self.endpoints.is_known

    def take(self, events: Events, group: RowGroup) -> None:
        """Rows of a group, of which `events` are those that count."""
        time = events.time
        self.nodes.add(time, group)
        loss = self.nodes.measure_rows(group, time)
        own = None if loss is None else events.read(loss)
        if own is not None and not own.any():
            own = None
        self.endpoints.take(events.endpoint, events.calls, own, time)
        self.consumers.take(events.consumer, events.calls, own, time)
        self.pairs.take(events.pair, events.calls, own, time)

    def find(self, subject: SubjectName) -> float:
        """Of a subject's calls; of one that is in no table, of those of its endpoint."""
        if not self.is_known:
            return 0.0
        endpoints, consumers, pairs = self._tables
        known = [(endpoints, self.endpoints, subject.endpoint_id, "")]
        if subject.consumer:
            known.insert(0, (consumers, self.consumers, "", subject.consumer))
            known.insert(0, (pairs, self.pairs, subject.endpoint_id, subject.consumer))
        for table, losses, endpoint_id, consumer in known:
            slot = table.find(endpoint_id, consumer)
            if slot >= 0:
                return losses.share(np.array([slot]))
        return 0.0


def _split_calls(batch: BatchHead) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """The way, and the calls that a sensor says it saw and lost there; it cannot have lost more than it saw."""
    tls_lost, tls_seen = min(batch.tls_lost_calls, batch.lost_calls), min(batch.tls_seen_calls, batch.seen_calls)
    plain_lost, plain_seen = batch.lost_calls - tls_lost, batch.seen_calls - tls_seen
    return (
        (_PLAIN, max(plain_seen, plain_lost), plain_lost),
        (_TLS, max(tls_seen, tls_lost), tls_lost),
    )


def _count_delivered(batch: _BatchRows, way: int) -> int:
    return int(batch.calls[batch.is_encrypted if way is _TLS else ~batch.is_encrypted].sum())


@lru_cache(maxsize=16_384)
def _key_service(service: Service, *, is_encrypted: bool) -> int:
    return hash_text(f"{int(is_encrypted)}/{service.cluster}/{name_service(service)}")

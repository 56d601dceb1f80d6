"""Adds up the samples of one operation: sampled calls in, `OperationCount`s that may leave the node out.

Samples are not drawn evenly: the first calls of a route are all samples, and later ones as the budgets allow. So each
counts as many calls as it stands for (`SampleWeights`): the samples of one second share its calls, and those since the
second before. This is the estimator of Horvitz and Thompson with the share that was drawn as the probability, by second
(a stratified sample).
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from common.bounded import BoundedDict
from sensor.core.arrays import Keys
from sensor.core.calls import Origin
from sensor.routes.shared_use import SharedUse

# Callers of one operation that are distinguished; past them there are `at least` so many. 2 KB an operation at most.
MAX_CONSUMERS: Final = 64
MAX_DATA_CODES: Final = 64  # Kinds of data by place; there are some 120.
_SECOND_NS: Final = 1_000_000_000
WEIGHED_ROUTES_MAX: Final = 1_024  # That have operations; the one found first is forgotten.
# Samples in a row of a route that turns out to have operations; then so many each second, as long as all are fewer than
# the kernel's budget has at once (sensor/ebpf/bpf/budget.h); then so many, which leaves others a third of that budget.
FIRST_SAMPLES: Final = 250
EARLY_SAMPLES_PER_SECOND: Final = 100
EARLY_SAMPLES: Final = 1_200
SAMPLES_PER_SECOND: Final = 20


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a sampled call besides its operations. Private to the node. `authentication`: the wire's bits;
    `data`: codes of kinds of data in bodies."""

    status_code: int
    origin: Origin
    authentication: int
    time_unix_ns: int
    has_error: bool = False
    is_request_read: bool = False
    is_response_read: bool = False
    data: Collection[int] = ()


class OperationCount(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as it may be reported: calls that its samples stand for. `errors`: answers that say so, and statuses
    from 400 on; `authentication`: served calls by the wire's bits; `data`: calls by code; times are unix seconds;
    `consumers` is a lower bound."""

    protocol: str
    kind: str
    name: str
    calls: int
    errors: int
    served: int
    refused: int
    failed: int
    authentication: tuple[tuple[int, int], ...] = ()
    data: tuple[tuple[int, int], ...] = ()
    requests_read: int = 0
    responses_read: int = 0
    consumers: int = 0
    first_seen: int = 0
    last_seen: int = 0


class Weighed(Protocol):
    """What counts a sample."""

    def add(self, sample: Sample, weight: int, /) -> None:
        """A call, which stands for `weight` calls."""
        ...


@dataclass(slots=True)
class _WeighedRoute:
    calls: int = 0  # Since the samples that were weighed last.
    samples: list[tuple[tuple[Weighed, ...], Sample]] = field(default_factory=list)  # That wait for their weight,
    since_ns: int = 0  # and from when the first of them is.
    last: tuple[tuple[Weighed, ...], Sample] | None = None  # The newest that has its weight.
    granted_ns: int = 0
    granted: int = 0  # Samples that were asked for.


class SampleWeights:
    """Gives samples their weights, of routes that have operations. Not thread-safe."""

    def __init__(self) -> None:
        self._routes: BoundedDict[int, _WeighedRoute] = BoundedDict(WEIGHED_ROUTES_MAX)
        self._known: Keys = np.zeros(0, np.uint64)

    def __contains__(self, route_id: int) -> bool:
        return route_id in self._routes

    def __bool__(self) -> bool:
        return bool(self._routes)

    def count(self, route_id: int, calls: int = 1) -> None:
        """Calls of a route."""
        route = self._routes.get(route_id)
        if route is not None:
            route.calls += calls

    def count_rows(self, route_ids: Keys, calls: NDArray[np.integer]) -> None:
        """Calls of n rows. Cost: 20 ns a row where any route has operations."""
        if not self._routes:
            return
        rows = np.isin(route_ids, self._known).nonzero()[0]
        if len(rows):
            distinct, places = np.unique(route_ids[rows], return_inverse=True)
            sums = np.bincount(places, calls[rows].astype(np.float64))
            for route_id, total in zip(distinct.tolist(), sums.tolist(), strict=True):
                self.count(route_id, round(total))

    def add(self, route_id: int, tallies: tuple[Weighed, ...], sample: Sample) -> int:
        """A sample of `tallies` (none: it asks for no operation); gives the weight of those that were weighed now."""
        route, weight = self._routes.get(route_id), 0
        if route is None:
            route = self._routes[route_id] = _WeighedRoute(calls=1)
            self._known = np.array(list(self._routes), np.uint64)
        if abs(sample.time_unix_ns - route.since_ns) >= _SECOND_NS:
            weight = self.weigh(route_id, latest=1)
            route.since_ns = sample.time_unix_ns
        route.samples.append((tallies, sample))
        return weight

    def weigh(self, route_id: int, latest: int = 0) -> int:
        """Give the samples of a route that wait their weights, and say what these are together. `latest`: calls of the
        sample at hand, which the next ones have."""
        route = self._routes.get(route_id)
        if route is None or not route.samples:
            return 0
        count = len(route.samples)
        total = max(count, route.calls - latest)
        for place, (tallies, sample) in enumerate(route.samples):
            for tally in tallies:
                tally.add(sample, (place + 1) * total // count - place * total // count)
        route.last = route.samples[-1]
        route.samples.clear()
        route.calls = min(route.calls, latest)
        return total

    def settle(self, route_id: int) -> int:
        """The same, and calls that no sample followed are like the last one: of routes that are called rarely nobody
        knows when the next comes."""
        weight = self.weigh(route_id)
        route = self._routes.get(route_id)
        if weight or route is None or route.last is None or not route.calls:
            return weight
        weight, route.calls = route.calls, 0
        tallies, sample = route.last
        for tally in tallies:
            tally.add(sample, weight)
        return weight

    def grant(self, route_id: int, now_ns: int) -> int:
        """How many further calls of a route shall be samples, whatever the kernel has left; 0: as it has it."""
        route = self._routes.get(route_id)
        if route is None or (route.granted and abs(now_ns - route.granted_ns) < _SECOND_NS):
            return 0
        wanted = EARLY_SAMPLES_PER_SECOND if route.granted < EARLY_SAMPLES else SAMPLES_PER_SECOND
        wanted = wanted if route.granted else FIRST_SAMPLES
        route.granted_ns = now_ns
        route.granted += wanted
        return wanted


@dataclass(slots=True)
class Tally:
    """Of one operation of a route. Not thread-safe. `use`: who was served it."""

    use: SharedUse = field(default_factory=SharedUse)

    _counts: Counter[str] = field(default_factory=Counter)
    _authentication: Counter[int] = field(default_factory=Counter)
    _data: Counter[int] = field(default_factory=Counter)
    _consumers: set[int] = field(default_factory=set)
    _first_ns: int = 0
    _last_ns: int = 0

    def add(self, sample: Sample, weight: int = 1) -> None:
        """One call of it, which stands for `weight` calls."""
        status = sample.status_code
        is_served = 200 <= status < 300
        is_refused, is_failed = 400 <= status < 500, not 100 <= status < 500
        self._counts.update(
            calls=weight,
            errors=weight * (sample.has_error or is_refused or is_failed),
            served=weight * is_served,
            refused=weight * is_refused,
            failed=weight * is_failed,
            requests_read=weight * sample.is_request_read,
            responses_read=weight * sample.is_response_read,
        )
        if is_served:
            self._authentication[sample.authentication] += weight
            self.use.note(sample.origin, sample.time_unix_ns)
        for code in sample.data:
            if code in self._data or len(self._data) < MAX_DATA_CODES:
                self._data[code] += weight
        self._add_consumers(sample.origin.consumer)
        self._add_span(sample.time_unix_ns, sample.time_unix_ns)

    def add_all(self, other: "Tally") -> None:
        """The calls of another operation, which is reported with this one."""
        self._counts.update(other._counts)
        self._authentication.update(other._authentication)
        for code, calls in other._data.items():
            if code in self._data or len(self._data) < MAX_DATA_CODES:
                self._data[code] += calls
        self._add_consumers(*other._consumers)
        self._add_span(other._first_ns, other._last_ns)

    def _add_consumers(self, *consumers: int) -> None:
        for consumer in consumers:
            if consumer and len(self._consumers) < MAX_CONSUMERS:
                self._consumers.add(consumer)

    def _add_span(self, first_ns: int, last_ns: int) -> None:
        self._first_ns = min(self._first_ns or first_ns, first_ns)
        self._last_ns = max(self._last_ns, last_ns)

    def write(self, protocol: str, kind: str, name: str) -> OperationCount:
        """As it is reported under these names."""
        return OperationCount(
            protocol=protocol,
            kind=kind,
            name=name,
            calls=self._counts["calls"],
            errors=self._counts["errors"],
            served=self._counts["served"],
            refused=self._counts["refused"],
            failed=self._counts["failed"],
            authentication=tuple(sorted(self._authentication.items())),
            data=tuple(sorted(self._data.items())),
            requests_read=self._counts["requests_read"],
            responses_read=self._counts["responses_read"],
            consumers=len(self._consumers),
            first_seen=self._first_ns // _SECOND_NS,
            last_seen=self._last_ns // _SECOND_NS,
        )

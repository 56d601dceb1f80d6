"""What one sensor may speak for: its own node. The gate between its stream and everything that believes it.

A certificate proves a node. It proves nothing of what the messages say, so `Witness` changes each message before
anybody reads it:

- The cluster of every service is that of the Hello, and a host's service has the node's own name.
- A Kubernetes workload must have Pods on the node, as the collector's own watch of that cluster knows. Without such a
  watch, or before it knows, the sensor is believed, and that is counted.
- A service that the node may not speak for is kept, as `NAMESPACE/WORKLOAD` of the node itself, so that nothing is
  lost and nobody else is accused.
- The ids of routes are computed here, and a revealed text must have its hash under the installation key.
- Schemas are taken of routes alone that the node itself has called.

`DailyUse` bounds what one node may add in a day. Routes beyond it are counted under one route of their service, and
further words are not taken. Bytes beyond it are reported alone: to refuse them would lose calls.

Each node has a share of the collector's processor and of its log, by the second (`find_wait`). Whatever one sensor
sends, the acknowledgements of the others come in time.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from apidae.v1 import data_pb2

from collector.core.feature import Feature, Role
from collector.core.rows import Route, Segment
from collector.receiver.columns import NAME_LIMIT_BYTES, copy_column
from collector.receiver.convert import RouteCache
from collector.receiver.reports import FormerName, HiddenWords, RevealedWord, WorkloadRecord
from collector.receiver.schemas import SchemaRecord
from collector.receiver.sensor_status import Greeting
from collector.trust.audit import AuditEntry
from common.bounded import BoundedDict
from common.figures import list_figures, total
from common.keyed_hash import compute_route_id, hash_value
from common.token_bucket import TokenBucket

DAY_SECONDS: Final = 86_400
ROUTES_A_DAY: Final = 30_000  # A sensor itself has at most 40,000 nodes of path tries.
WORDS_A_DAY: Final = 20_000  # What a sensor may reveal in all.
ATTACHMENTS_A_DAY: Final = 500  # Entries of the audit log, and those of one workload.
ATTACHMENTS_OF_ONE: Final = 50
BYTES_A_DAY: Final = 16 * 2**30  # 1,000 rows a second all day are 12 GB.
# Seconds of work a second, and at once. A node of 1,000 rows a second needs 0.005.
WORK_RATE: Final = 0.1
WORK_BURST_SECONDS: Final = 1.0
# Of messages, a second and at once. The same node needs 140 KB; one that was away for a day sends at this rate.
BYTES_RATE: Final = 4 * 2**20
BYTES_BURST: Final = 64 * 2**20
CHECKED_ROUTES: Final = 30_000
ROUTES_REMEMBERED: Final = 2 * ROUTES_A_DAY
SCHEMAS_WAITING: Final = 5_000  # A sensor sends what its routes look like before the rows of their first window.
SCHEMA_CHARACTERS_WAITING: Final = 4 * 2**20
NODES_LIMIT: Final = 20_000
OTHER: Final = "other"  # The host of routes beyond a quota, as of those beyond the sensor's own.
_CLIENT: Final = data_pb2.ROLE_CLIENT
_WORD: Final = data_pb2.SEGMENT_KIND_WORD
_KUBERNETES: Final = data_pb2.WORKLOAD_KIND_KUBERNETES

# Whether a workload (namespace, name) has or had Pods on a node of a cluster; None where nobody knows.
FindPlacement = Callable[[str, str, str, str], bool | None]


@dataclass(slots=True)
class WitnessCounts:
    """What sensors said that is not theirs to say."""

    services_moved: int = total("Services in messages of sensors on whose node they are not; kept as the node's own.")
    services_unproved: int = total("Kubernetes services in messages that no watch of their cluster could check.")
    routes_renumbered: int = total("Routes in batches whose id was another than their content gives.")
    routes_folded: int = total("Routes beyond what a node may add in a day; counted under one route of their service.")
    words_untrue: int = total("Texts of words whose hash is another.")
    attachments_over_quota: int = total(
        "Attachments of the Java agent beyond what a node or workload may have in a day."
    )
    words_over_quota: int = total("Texts of words beyond what a node may reveal in a day.")
    schemas_of_others: int = total("Schemas of routes that their sensor never called.")
    workloads_of_others: int = total("Workloads, and former names of some, of sensors on whose node they are not.")


@dataclass(slots=True)
class DailyUse:
    """What a node added since midnight UTC, and what of it was refused."""

    day: int = 0
    routes: int = 0
    words: int = 0
    bytes: int = 0
    attachments: int = 0
    attached: Counter[str] = field(default_factory=Counter)  # The same, of one workload.
    attachments_refused: int = 0
    foreign: dict[str, None] = field(default_factory=dict)  # Names of others' services that it spoke for, a few.

    def list_exceeded(self) -> tuple[tuple[str, str], ...]:
        """In words, what is beyond its bound, and what becomes of it."""
        bounds = (
            (
                "routes",
                self.routes,
                ROUTES_A_DAY,
                "Calls of further routes are counted under one route of their service.",
            ),
            ("revealed words", self.words, WORDS_A_DAY, "Further words are not taken."),
            ("bytes", self.bytes, BYTES_A_DAY, "All of it is kept: see that the disk has room for it."),
        )
        exceeded = [(f"{used:,} {what} (limit {limit:,})", then) for what, used, limit, then in bounds if used > limit]
        if self.attachments_refused:
            limits = f"limits {ATTACHMENTS_A_DAY:,} and {ATTACHMENTS_OF_ONE} of one workload"
            what = f"{self.attachments + self.attachments_refused:,} attachments of the Java agent ({limits})"
            exceeded.append((what, "Further ones are in the log of the sensor alone."))
        return tuple(exceeded)


FOREIGN_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRoute:
    """What is known of a route that was checked, under the installation key `key_id`."""

    route: Route
    key_id: int
    computed_id: int
    untrue_words: tuple[int, ...]  # Places of segments whose text does not have their hash.
    hidden_words: tuple[int, ...]  # Hashes of those without a text that is true.


class RouteMemory:
    """Routes of earlier batches, so that what a batch repeats is converted and checked once. Of all nodes: their last
    batches, 30 MB at most. Used by one thread."""

    def __init__(self) -> None:
        self.converted = RouteCache(CHECKED_ROUTES)
        self.checked: BoundedDict[int, CheckedRoute] = BoundedDict(CHECKED_ROUTES)


class Witness:
    """Of one node; it outlives the node's streams. Used in the event loop, or in one thread at a time while `lock` is
    held."""

    def __init__(self, name: str, find_placement: FindPlacement, clock: Callable[[], float], counts: WitnessCounts):
        self.name = name
        self.use = DailyUse()
        self._find_placement = find_placement
        self._clock = clock
        self._counts = counts
        self._routes: BoundedDict[int, None] = BoundedDict(ROUTES_REMEMBERED)  # By the id computed here.
        self._folded: BoundedDict[int, None] = BoundedDict(ROUTES_REMEMBERED)  # Of this day, by the same.
        self._renumbered: BoundedDict[int, int] = BoundedDict(ROUTES_REMEMBERED)  # The sensor's id, where it differs.
        self._attachments: BoundedDict[str, None] = BoundedDict(2 * ATTACHMENTS_A_DAY)
        self.hidden = HiddenWords()
        self._waiting: list[SchemaRecord] = []
        self._is_route_new = False  # One came that `_waiting` was not looked through for.
        self.lock = asyncio.Lock()
        self._work = TokenBucket(WORK_RATE, WORK_BURST_SECONDS, time.monotonic)
        self._bytes = TokenBucket(BYTES_RATE, BYTES_BURST, time.monotonic)

    def spend(self, work_seconds: float, message_bytes: int) -> None:
        """What a message of the node cost."""
        self._work.spend(work_seconds)
        self._bytes.spend(message_bytes)

    def find_wait(self) -> float:
        """Seconds until the node has its share again; 0 while it has."""
        return max(self._work.find_wait(0), self._bytes.find_wait(0))

    def remember(self, route_id: int) -> None:
        """A route that the node called before the collector's start."""
        self._routes[route_id] = None
        self._is_route_new = True

    def start_day(self) -> None:
        """Begins the account anew at midnight UTC."""
        day = int(self._clock() // DAY_SECONDS)
        if day != self.use.day:
            self.use = DailyUse(day=day)
            self._folded.clear()

    def bind_services(self, services: Sequence[data_pb2.Service], greeting: Greeting) -> None:
        """Writes the node's own names over what it may not say."""
        for service in services:
            service.cluster = greeting.cluster
            if service.workload_kind == _KUBERNETES:
                self._bind_workload(service, greeting)
                continue
            is_remote = not (service.host_name or service.namespace or service.workload_kind)
            if not is_remote and (service.host_name != greeting.node or service.namespace):
                self._move(service, greeting)

    def _bind_workload(self, service: data_pb2.Service, greeting: Greeting) -> None:
        service.host_name = ""
        is_placed = self._find_placement(greeting.cluster, greeting.node, service.namespace, service.workload)
        if is_placed is None:
            self._counts.services_unproved += 1
        elif not is_placed:
            self._move(service, greeting)

    def _move(self, service: data_pb2.Service, greeting: Greeting) -> None:
        claimed = "/".join(text for text in (service.host_name, service.namespace, service.workload) if text)
        self._counts.services_moved += 1
        if len(self.use.foreign) < FOREIGN_NAMED:
            self.use.foreign[claimed[:NAME_LIMIT_BYTES]] = None
        if service.namespace:
            service.workload = f"{service.namespace}/{service.workload}"[:NAME_LIMIT_BYTES]
        service.namespace, service.host_name = "", greeting.node
        if service.workload_kind == _KUBERNETES:
            service.workload_kind = data_pb2.WORKLOAD_KIND_UNSPECIFIED

    def bind_batch(self, batch: data_pb2.Batch, greeting: Greeting) -> None:
        """The services. Nothing here raises: what is malformed is left to `convert_batch`."""
        self.start_day()
        self._bind_remote_services(batch, greeting)
        self.bind_services([*batch.services, *(loss.service for loss in batch.service_losses)], greeting)

    @staticmethod
    def _bind_remote_services(batch: data_pb2.Batch, greeting: Greeting) -> None:
        """A service without any name but its address is at the other end of a client's calls. As a server it would be
        the node's own."""
        nameless = {
            number: service
            for number, service in enumerate(batch.services)
            if not service.host_name and not service.namespace and service.workload_kind != _KUBERNETES
        }
        if not nameless:
            return
        routes, roles = copy_column(batch.rows, "route"), copy_column(batch.rows, "role")
        if len(routes) != len(roles):
            return
        numbers = np.array([route.service for route in batch.routes], np.uint32)
        served = routes[roles != _CLIENT]
        for number in np.unique(numbers[served[served < len(numbers)]]).tolist():
            if number in nameless:
                nameless[number].host_name = greeting.node

    def check_routes(
        self, batch: data_pb2.Batch, routes: Sequence[Route], secrets: Mapping[int, bytes], memory: RouteMemory
    ) -> None:
        """Of `routes`, to which the batch was converted: writes their ids into it, takes out texts of words that do not
        have their hash by `secrets` (by key id), and folds those beyond the quota."""
        other, key_id, checked = 0, batch.key_id, memory.checked
        for wire, route in zip(batch.routes, routes, strict=True):
            known = checked.get(id(route))
            if known is None or known.route is not route or known.key_id != key_id:
                known = checked[id(route)] = _check(route, key_id, secrets.get(key_id))
            for place in known.untrue_words:
                self._counts.words_untrue += 1
                wire.segments[place].text = 0
            if known.hidden_words:
                self.hidden.note(known.hidden_words)
            computed = known.computed_id
            if computed != wire.route_id:
                self._counts.routes_renumbered += 1
                self._is_route_new |= self._renumbered.get(wire.route_id) != computed
                self._renumbered[wire.route_id] = computed
            if computed not in self._routes and computed not in self._folded:
                self.use.routes += 1
                if self.use.routes > ROUTES_A_DAY:
                    self._counts.routes_folded += 1
                    self._folded[computed] = None
                else:
                    self._routes[computed] = None
                    self._is_route_new = True
            if computed in self._folded:
                other = other or _find_string(batch.strings, OTHER)
                computed = _fold(wire, route, other)
            wire.route_id = computed

    def admit_schemas(self, records: Sequence[SchemaRecord]) -> list[SchemaRecord]:
        """Those of routes that this node called, under the ids computed here. Others wait for a batch with their
        route."""
        if not records and not self._is_route_new:
            return []
        self._is_route_new = False
        admitted: list[SchemaRecord] = []
        waiting: list[SchemaRecord] = []
        for record in (*self._waiting, *records):
            number = self._renumbered.get(record.route_id, record.route_id)
            if number in self._routes:
                admitted.append(replace(record, route_id=number))
            else:
                waiting.append(record)
        self._waiting = self._keep_newest(waiting)
        return admitted

    def _keep_newest(self, records: list[SchemaRecord]) -> list[SchemaRecord]:
        """Within the bounds, and of each part of a route its newest state alone."""
        newest = {record.key: record for record in records}
        kept: list[SchemaRecord] = []
        characters = 0
        for record in reversed(newest.values()):
            characters += len(record.fields) + len(record.operations)
            if len(kept) >= SCHEMAS_WAITING or characters > SCHEMA_CHARACTERS_WAITING:
                break
            kept.append(record)
        self._counts.schemas_of_others += len(newest) - len(kept)
        return kept[::-1]

    def admit_words(self, words: Sequence[RevealedWord], secrets: Mapping[int, bytes]) -> list[RevealedWord]:
        """Those whose text has the hash."""
        self.start_day()
        admitted = []
        for word in words:
            secret = secrets.get(word.key_id)
            if secret is None or hash_value(secret, word.text.encode()) != word.hash:
                self._counts.words_untrue += 1
                continue
            self.use.words += 1
            if self.use.words > WORDS_A_DAY:
                self._counts.words_over_quota += 1
            else:
                admitted.append(word)
        return admitted

    def admit_attachments(self, entries: Sequence[AuditEntry]) -> list[AuditEntry]:
        """Those that did not come before, within the bounds of the day."""
        self.start_day()
        admitted = []
        for entry in entries:
            workload = entry.target.partition(", process ")[0]
            if entry.block_id in self._attachments:
                continue
            if self.use.attached[workload] >= ATTACHMENTS_OF_ONE or self.use.attachments >= ATTACHMENTS_A_DAY:
                self._counts.attachments_over_quota += 1
                self.use.attachments_refused += 1
                continue
            self.use.attachments += 1
            self.use.attached[workload] += 1
            self._attachments[entry.block_id] = None
            admitted.append(entry)
        return admitted

    def admit_workloads(self, records: Sequence[WorkloadRecord], greeting: Greeting) -> list[WorkloadRecord]:
        """Those with Pods on the node, of its cluster."""
        return [
            record
            for record in records
            if record.cluster == greeting.cluster and self._is_placed(record.namespace, record.workload, greeting)
        ]

    def admit_former_names(self, names: Sequence[FormerName], greeting: Greeting) -> list[FormerName]:
        """Those of workloads with Pods on the node."""
        return [name for name in names if self._is_placed(name.namespace, name.workload, greeting)]

    def _is_placed(self, namespace: str, workload: str, greeting: Greeting) -> bool:
        is_placed = self._find_placement(greeting.cluster, greeting.node, namespace, workload) is not False
        self._counts.workloads_of_others += not is_placed
        return is_placed


class WitnessBook:
    """One witness a node. Used in the event loop; `list_uses` from any thread."""

    def __init__(self, find_placement: FindPlacement, clock: Callable[[], float]) -> None:
        self.counts = WitnessCounts()
        self.routes = RouteMemory()  # Of the event loop.
        self._find_placement = find_placement
        self._clock = clock
        self._witnesses: BoundedDict[str, Witness] = BoundedDict(NODES_LIMIT)

    def open(self, name: str) -> Witness:
        """That of a node, by the name under which its rows are kept."""
        witness = self._witnesses.use(name)
        if witness is None:
            witness = self._witnesses[name] = Witness(name, self._find_placement, self._clock, self.counts)
        return witness

    def load(self, called: Iterable[tuple[str, int]]) -> None:
        """Routes that nodes called before the collector's start, as (node, route id)."""
        for name, route_id in called:
            self.open(name).remember(int(route_id))

    @property
    def feature(self) -> Feature:
        """What the collector shows."""
        return Feature(name="witnesses", role=Role.INGEST, figures=lambda: list_figures(self.counts, "witness_"))

    def list_uses(self) -> list[tuple[str, DailyUse]]:
        """(node, use) of all nodes that sent something since midnight UTC."""
        day = int(self._clock() // DAY_SECONDS)
        return [(one.name, one.use) for one in tuple(self._witnesses.values()) if one.use.day == day]


def _check(route: Route, key_id: int, secret: bytes | None) -> CheckedRoute:
    untrue = tuple(
        place
        for place, segment in enumerate(route.segments)
        if segment.kind == _WORD
        and segment.text
        and (secret is None or hash_value(secret, segment.text.encode()) != segment.hash)
    )
    hidden = tuple(
        segment.hash
        for place, segment in enumerate(route.segments)
        if segment.kind == _WORD and segment.hash and (not segment.text or place in untrue)
    )
    computed = compute_route_id(route.service, route.host, route.method, route.segments, route.has_trailing_slash)
    return CheckedRoute(route=route, key_id=key_id, computed_id=computed, untrue_words=untrue, hidden_words=hidden)


def _find_string(strings: MutableSequence[str], text: str) -> int:
    """Its index; it is added where it is not there. Index 0 is the empty string."""
    known = list(strings) or [""]
    if text in known:
        return known.index(text)
    strings.extend([*([""] if not strings else []), text])
    return len(strings) - 1


def _fold(wire: data_pb2.Route, route: Route, other: int) -> int:
    """Makes a route the one of its service and method that has no path of its own; gives its id."""
    wire.host = other
    del wire.segments[:]
    wire.segments.add(kind=data_pb2.SEGMENT_KIND_PARAMETER)
    wire.has_trailing_slash = False
    segment = Segment(data_pb2.SEGMENT_KIND_PARAMETER, "", 0, 0)
    return compute_route_id(route.service, OTHER, route.method, (segment,), False)

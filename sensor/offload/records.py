"""Converts kernel records to rows of CALL: each number of a route or actor is looked up once a batch, the rest in bulk.

A record names the route and profile that the kernel matched. `sensor.offload.kernel_cache` has what these are. A call
that the kernel did not match, and that had no budget to be copied, goes to its route if the path is known, without its
caller. Otherwise it goes to the service's `other` route. So do calls that were only summed because a ring was full.

All these are marked lossy and have `AuthenticationKind.UNKNOWN`, because nobody could see credentials. Their status is
the one that the kernel read. Where the answer was lost or the call was only estimated, it is STATUS_NOT_READ.

`RouteTable` keeps what was found for a number, because each second has the same routes. A number never stands for
another route, but its route may get another number among the facts (`Facts.generation`) and other texts.

`RecordBodies`: a record with `RecordFlag.BODY` has its response among the pieces, because its class was new to the
route. For others the records returned are estimated, a batch at once. `MediaTypes` has the last content type of each
route and status, because records have none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from common.bounded import BoundedDict
from sensor.aggregate.dictionary import NO_MEDIA_TYPE, NO_ROUTE, ActorFacts, Facts
from sensor.core.addresses import name_address
from sensor.core.arrays import Keys, KeyTable, mix, mix_one, number_values
from sensor.core.calls import (
    NO_NUMBER,
    NO_OBJECT,
    STATUS_NOT_READ,
    AuthenticationKind,
    BodyFlag,
    CallFlag,
    Calls,
    Hop,
    PrincipalKind,
    Role,
    Route,
    make_calls,
)
from sensor.describe.bodies.reader import BodyCall, BodyReader
from sensor.describe.bodies.sampling import JUMP_RATIO
from sensor.describe.client_address import ClientAddresses, RemoteServices
from sensor.ebpf.abi import ESTIMATED_CLASS, OVERFLOW_KEY, OverflowTotals, RecordFlag, Records
from sensor.ebpf.pieces import Pieces
from sensor.enrich.identity import NodeIdentity
from sensor.http.http1.head import EVENT_STREAM
from sensor.offload.actors import ActorTable
from sensor.offload.kernel_cache import CachedRoute, KernelCache
from sensor.routes.templating import Templater


class RecordBodies:
    """Fills the columns of bodies. Not thread-safe."""

    def __init__(self, *, cache: KernelCache, pieces: Pieces, reader: BodyReader, facts: Facts) -> None:
        self._facts = facts
        self._cache = cache
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
            one = self._cache.routes.find(int(records["route"][place]))
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
            self._cache.sample_next(number)

    def _read(self, records: Records, calls: Calls, place: int, cached: CachedRoute) -> None:
        record = records[place]
        bodies = self._pieces.pop(int(record["connection"]), int(record["call"]))
        if bodies is None:
            return  # It found the ring full.
        facts = self._reader.read(
            BodyCall(
                cached.route.route_id,
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


# Numbers remembered; dropped whole when full.
ROUTES_MAX: Final = 65_536
_HOP_BITS: Final = 8
_HOP_MASK: Final = (1 << _HOP_BITS) - 1


class RouteTable:
    """Routes of records met lately. Not thread-safe."""

    def __init__(self, *, cache: KernelCache, facts: Facts, templater: Templater) -> None:
        self._cache = cache
        self._facts = facts
        self._templater = templater
        self._found = KeyTable()
        self._state = (0, 0)

    def find(
        self, numbers: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Of different numbers: each one's route among the facts, its hop, and whether the cache knows it; of what it
        does not know `NO_ROUTE` and 0. Cost: 20 ns each, and 1 us where it was not met lately."""
        state = self._facts.generation, self._templater.reveals
        if state != self._state or len(self._found) > ROUTES_MAX:
            self._state = state
            self._found.clear()
        keys = numbers.astype(np.uint64)
        packed, missing = self._found.find(keys)
        is_known = np.ones(len(numbers), np.bool_)
        if len(missing):
            packed[missing] = [self._look_up(number) for number in keys[missing].tolist()]
            is_known[missing] = packed[missing] >= 0
            fresh = missing[is_known[missing]]
            self._found.put(keys[fresh], packed[fresh])
        routes, hops = packed >> _HOP_BITS, packed & _HOP_MASK
        return np.where(is_known, routes, NO_ROUTE), np.where(is_known, hops, 0), is_known

    def _look_up(self, number: int) -> int:
        """-1: nothing is known of it."""
        cached = self._cache.routes.find(number)
        return -1 if cached is None else self._facts.route(cached.route) << _HOP_BITS | int(cached.root.hop)


# Routes and statuses remembered, and different types; all are dropped when full, and read anew.
MEDIA_TYPES_MAX: Final = 32_768
TYPES_MAX: Final = 4_096
_NONE: Final = 0


class MediaTypes:
    """Content types by route and status. Not thread-safe."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._found = KeyTable()
        self._numbers: dict[str, int] = {"": _NONE}
        self.texts: list[str] = [""]  # By number, as `find` gives it.

    def note(self, route_id: int, status_code: int, media_type: str) -> None:
        """Of a response that was read. Cost: 2 us."""
        if len(self._found) >= MEDIA_TYPES_MAX or len(self.texts) >= TYPES_MAX:
            self._clear()
        number = self._numbers.get(media_type)
        if number is None:
            number = self._numbers[media_type] = len(self.texts)
            self.texts.append(media_type)
        self._found.put_one(mix_one(route_id, status_code), number)

    def find(self, route_ids: Keys, status_codes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Numbers of the types in `texts`; that of the empty one where none was read."""
        numbers, missing = self._found.find(mix(route_ids, status_codes))
        numbers[missing] = _NONE
        return numbers


# Server ends met in records; dropped whole when full.
ENDS_MAX: Final = 16_384
OTHER_METHOD: Final = "_OTHER"
_CALLS_MAX: Final = 255  # Of one row of CALL.
# Media types of one batch are looked up by route and status; three digits are a status.
_STATUSES: Final = 1_000


# Flags of a record that a call has too. Numbers: to combine members of an enum takes longer than to read a batch's.
_SHARED_FLAGS: Final = (CallFlag.LOSSY | CallFlag.ABORTED | CallFlag.FINAL).value
_AMBIGUOUS: Final = RecordFlag.AMBIGUOUS.value
_LOSSY: Final = RecordFlag.LOSSY.value


class RecordConverter:
    """Turns batches of records into rows of CALL, under one installation key. Not thread-safe."""

    def __init__(
        self,
        *,
        cache: KernelCache,
        media_types: MediaTypes,
        facts: Facts,
        identity: NodeIdentity,
        templater: Templater,
        addresses: ClientAddresses,
        remotes: RemoteServices,
        bodies: RecordBodies | None = None,
    ) -> None:
        self._routes = RouteTable(cache=cache, facts=facts, templater=templater)
        self._bodies = bodies
        self._media_types = media_types
        self._facts = facts
        self._identity = identity
        self._templater = templater
        self._remotes = remotes
        self._actors = ActorTable(cache=cache, facts=facts, identity=identity, addresses=addresses)
        # Last local address by (cgroup, port).
        self._ends: BoundedDict[tuple[int, int], str] = BoundedDict(ENDS_MAX)
        self._overflow: dict[bytes, OverflowTotals] = {}
        self.overflow_calls = 0
        self.unlearned_calls = 0
        self.nameless_calls = 0  # Of a known route, whose head was beyond the budget: nobody knows who made them.
        self.forgotten_calls = 0  # Of routes that were forgotten so long ago that nothing is known of them.

    def convert(self, records: Records, *, offset_ns: int) -> Calls:
        """Rows of the same order. `offset_ns`: from the kernel's time to unix time."""
        calls = make_calls(len(records))
        calls["time_unix_ns"] = records["time_ns"].astype(np.int64) + offset_ns
        for name in ("status", "role", "calls", "request_bytes", "response_bytes", "ttfb_us", "duration_us", "object"):
            calls[name] = records[name]
        calls["number"] = records["number"].view(np.int64)
        flags = records["flags"]
        calls["flags"] = flags & _SHARED_FLAGS
        is_unread = (flags & _LOSSY != 0) & (calls["status"] == 0)
        if is_unread.any():
            calls["status"][is_unread] = STATUS_NOT_READ
            calls["flags"][is_unread] &= ~np.uint16(CallFlag.ABORTED)
        is_ambiguous = flags & _AMBIGUOUS != 0
        if is_ambiguous.any():
            calls["flags"][is_ambiguous] |= int(CallFlag.AMBIGUOUS)
        unknown = self._fill_routes(records, calls)
        is_nameless = (records["profile"] == 0) & ~unknown
        if is_nameless.any():
            calls["flags"][is_nameless] |= int(CallFlag.LOSSY)
            self.nameless_calls += int(records["calls"][is_nameless].sum())
        if unknown.any():
            self._fill_others(records, calls, np.flatnonzero(unknown))
        calls["actor"] = self._actors.find(records, calls["time_unix_ns"])
        is_event_stream = calls["response_type"] == self._facts.media_type(EVENT_STREAM)
        if is_event_stream.any():
            calls["flags"][is_event_stream] |= int(CallFlag.STREAM)
        return calls

    def _fill_routes(self, records: Records, calls: Calls) -> npt.NDArray[np.bool_]:
        """Route, hop and media type of recognised records; says which are not."""
        numbers, _, places = number_values(records["route"])
        routes, hops, is_known = self._routes.find(numbers)
        route_ids = self._facts.route_ids[routes]
        calls["route"] = routes[places]
        calls["hop"] = hops[places]
        pairs, _, pair_places = number_values(places * _STATUSES + records["status"])
        types = self._media_types.find(route_ids[pairs // _STATUSES], pairs % _STATUSES)
        distinct, _, type_places = number_values(types)
        texts = [self._facts.media_type(self._media_types.texts[number]) for number in distinct.tolist()]
        calls["response_type"] = self._take(texts, type_places)[pair_places]
        if self._bodies is not None:
            self._bodies.fill(records, calls, numbers, route_ids, places)
        return ~is_known[places]

    @staticmethod
    def _take(values: Sequence[int], places: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        return np.array(values, np.int64)[places]

    def _fill_others(self, records: Records, calls: Calls, places: npt.NDArray[np.intp]) -> None:
        """Of records without a route, or with one that was forgotten."""
        some = records[places]
        is_unlearned = (some["flags"] & RecordFlag.UNLEARNED) != 0
        self.unlearned_calls += int(some["calls"][is_unlearned].sum())
        self.forgotten_calls += int(some["calls"][~is_unlearned].sum())
        key = some["cgroup_id"]
        for name in ("local_port", "remote_port", "role"):
            key = mix(key, some[name])
        for name in ("object", "number"):  # The server's address, where it was not recognised.
            key = mix(key, np.where(is_unlearned, some[name], 0))
        _, firsts, inverse = number_values(key)
        found = [self._find_other(some[first], bool(is_unlearned[first])) for first in firsts.tolist()]
        calls["route"][places] = self._take([self._facts.route(route) for route, _ in found], inverse)
        calls["hop"][places] = self._take([int(hop) for _, hop in found], inverse)
        calls["flags"][places] |= int(CallFlag.LOSSY)
        calls["object"][places] = NO_OBJECT
        calls["number"][places] = NO_NUMBER
        calls["response_type"][places] = NO_MEDIA_TYPE

    def _find_other(self, record: Any, is_unlearned: bool) -> tuple[Route, Hop]:
        cgroup_id, role = int(record["cgroup_id"]), int(record["role"])
        is_server = role == Role.SERVER
        port = int(record["local_port" if is_server else "remote_port"])
        address = ""
        if is_unlearned:
            packed = record["object"].tobytes() + record["number"].tobytes()
            address = name_address(int(record["family"]), packed)
        return self._find_other_at(cgroup_id, port, role, address)

    def _find_other_at(self, cgroup_id: int, port: int, role: int, address: str) -> tuple[Route, Hop]:
        """The `other` route of the service at an end; without an address, at the one last met there."""
        if address:
            self._ends[cgroup_id, port] = address
        else:
            address = self._ends.get((cgroup_id, port), "")
        if role == Role.SERVER:
            service, hop = self._identity.server(cgroup_id, port, address)
        else:
            service, hop = self._remotes.name(address, port), Hop.UNSPECIFIED
        return self._templater.route_other(service, OTHER_METHOD), hop

    def forget_actors(self) -> None:
        """Who called may have another name now."""
        self._actors.forget()

    def convert_overflow(self, totals: Mapping[bytes, OverflowTotals], *, time_unix_ns: int) -> Calls:
        """Rows of what was only added up since the last time; who called, when exactly and for how long is not
        known."""
        parts: list[tuple[tuple[int, int, int, int], int, int, int]] = []
        for key, (calls, request_bytes, response_bytes, _) in totals.items():
            before = self._overflow.get(key, (0, 0, 0, 0))
            sizes = request_bytes - before[1], response_bytes - before[2]
            for place, part in enumerate(_split(calls - before[0])):
                parts.append((OVERFLOW_KEY.unpack(key), part, *(sizes if place == 0 else (0, 0))))
        self._overflow = dict(totals)
        rows = make_calls(len(parts))
        rows["time_unix_ns"] = time_unix_ns
        rows["actor"] = self._facts.actor(_NOBODY)
        rows["flags"] = int(CallFlag.LOSSY)
        rows["number"] = NO_NUMBER
        for row, ((cgroup_id, port, role, status_class), count, request_bytes, response_bytes) in zip(
            rows, parts, strict=True
        ):
            route, hop = self._find_other_at(cgroup_id, port, role, "")
            row["route"], row["hop"], row["role"] = self._facts.route(route), int(hop), role
            row["calls"] = count
            if status_class == ESTIMATED_CLASS:
                row["flags"] |= int(CallFlag.ESTIMATED | CallFlag.ENCRYPTED)
                row["status"] = STATUS_NOT_READ
            else:
                row["status"] = status_class * 100
            row["request_bytes"], row["response_bytes"] = request_bytes, response_bytes
        self.overflow_calls += int(rows["calls"].sum())
        return rows


def _split(calls: int) -> list[int]:
    """Parts of at most `_CALLS_MAX`."""
    whole, rest = divmod(calls, _CALLS_MAX)
    return [_CALLS_MAX] * whole + [rest] * bool(rest)


_NOBODY: Final = ActorFacts(
    principal=0,
    principal_kind=PrincipalKind.UNSPECIFIED,
    credential=0,
    is_credential_truncated=False,
    client_address="",
    client_workload="",
    authentication=AuthenticationKind.UNKNOWN,
    protocol_version="",
    request_content_type="",
)

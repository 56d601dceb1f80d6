"""Rows one by one, for tests: what `RowColumns` hold, read back without the code that made them, and plain sketches."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

import numpy as np

from sensor.aggregate.dictionary import ActorFacts, Facts, get_identities, get_media_types, get_truncated
from sensor.aggregate.rows import Peak, RowColumns, RowFlag, Sum
from sensor.core.arrays import Ragged
from sensor.core.calls import AuthenticationKind, CallKind, Hop, PrincipalKind, Role, Route

OBJECTS_LIMIT = 256
BOUNDS = [isqrt(isqrt(isqrt(1 << index + 1))) for index in range(511)]


def find_bucket(value: int) -> int:
    """Bucket of a value, by whole numbers."""
    return bisect_left(BOUNDS, value)


def make_histogram(values: Iterable[int]) -> Counter[int]:
    """Counts by bucket."""
    return Counter(map(find_bucket, values))


class Objects(NamedTuple):
    """A distinct-object set: exact up to 256, then the 256 smallest."""

    hashes: frozenset[int] = frozenset()
    is_sketched: bool = False


def unite(*parts: Objects) -> Objects:
    """The union, cut."""
    hashes = sorted(frozenset().union(*(part.hashes for part in parts)))
    is_sketched = len(hashes) > OBJECTS_LIMIT or any(part.is_sketched for part in parts)
    return Objects(frozenset(hashes[:OBJECTS_LIMIT]), is_sketched)


def make_objects(hashes: Iterable[int]) -> Objects:
    """The set of some hashes."""
    return unite(Objects(frozenset(hashes)))


def estimate(objects: Objects) -> int:
    """Distinct objects in a set."""
    if not objects.is_sketched:
        return len(objects.hashes)
    return max(OBJECTS_LIMIT + 1, (OBJECTS_LIMIT - 1) * 2**64 // (max(objects.hashes) + 1))


class Actor(NamedTuple):
    """The four columns that say who called."""

    principal: int
    credential: int
    client_address: str
    client_workload: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row that left."""

    window_start_unix_seconds: int
    window_length_seconds: int
    route: Route
    actor: Actor
    principal_kind: PrincipalKind
    authentication: AuthenticationKind
    status_code: int
    role: Role
    hop: Hop
    protocol_version: str
    request_content_type: str
    response_content_type: str
    flags: RowFlag
    calls: int
    records: int
    request_bytes: int
    response_bytes: int
    time_to_first_byte_sum_us: int
    duration_sum_us: int
    duration_max_us: int
    duration: Counter[int]
    response_size: Counter[int]
    objects: Objects
    objects_count: int
    object_numeric_calls: int
    object_monotonic_steps: int
    object_numeric_span: int
    kind: CallKind
    rpc_status: int | None
    ended_later: int
    streams: int
    stream_duration_sum_us: int
    counted: int
    request_messages: int
    response_messages: int
    returned: int
    returned_measured: int
    requests_read: int
    responses_read: int
    data: Counter[int]


def split(lists: Ragged) -> list[list[int]]:
    """The values of each row."""
    values, taken = lists.values.tolist(), 0
    found = []
    for length in lists.lengths.tolist():
        found.append(values[taken : taken + length])
        taken += length
    assert taken == len(values)
    return found


def split_histograms(lists: Ragged) -> list[Counter[int]]:
    """The histogram of each row, whose buckets ascend."""
    assert lists.counts is not None
    buckets, counts = split(lists), split(Ragged(lists.lengths, lists.counts))
    assert all(row == sorted(set(row)) for row in buckets)
    return [Counter(dict(zip(*row, strict=True))) for row in zip(buckets, counts, strict=True)]


def find_actor(facts: Facts, number: int) -> ActorFacts:
    """The actor of a number that `Facts.actor` gave; of one of `other`, with its name lost."""
    columns, actors = facts.identities, np.array([number], np.uint32)
    (identity,), (media_type,) = get_identities(actors).tolist(), get_media_types(actors).tolist()
    text_columns = (columns.client_address, columns.client_workload, columns.protocol_version)
    address, workload, version = facts.find_texts([int(column[identity]) for column in text_columns])
    return ActorFacts(
        int(columns.principal[identity]),
        PrincipalKind(columns.principal_kind[identity]),
        int(columns.credential[identity]),
        bool(get_truncated(actors)[0]),
        address,
        workload,
        AuthenticationKind(int(columns.authentication[identity])),
        version,
        facts.find_media_type(media_type),
        CallKind(columns.kind[identity]),
        facts.find_software(media_type),
        facts.find_carriers(media_type),
    )


def read_rows(columns: RowColumns) -> list[Row]:
    """Every row with its facts looked up."""
    rows, facts = columns.rows, columns.facts
    durations, sizes = split_histograms(rows.durations), split_histograms(rows.sizes)
    data = split_histograms(rows.data)
    objects = split(rows.objects)
    assert all(row == sorted(set(row)) for row in objects)
    found = []
    for i in range(len(columns)):
        actor = find_actor(facts, int(rows.identities[i]))
        flags = RowFlag(int(rows.flags[i]))
        sums, peaks = (
            [int(rows.sums[place][i]) if place < len(rows.sums) else 0 for place in Sum],
            rows.peaks[:, i].tolist(),
        )
        has_numbers = sums[Sum.OBJECT_NUMERIC_CALLS] > 0
        found.append(
            Row(
                window_start_unix_seconds=int(columns.start_unix_seconds[i]),
                window_length_seconds=int(columns.length_seconds[i]),
                route=facts.find_route(int(rows.routes[i])),
                actor=Actor(actor.principal, actor.credential, actor.client_address, actor.client_workload),
                principal_kind=actor.principal_kind,
                authentication=actor.authentication,
                status_code=int(rows.statuses[i]),
                role=Role(int(rows.roles[i])),
                hop=Hop(int(rows.hops[i])),
                protocol_version=actor.protocol_version,
                request_content_type=facts.find_media_type(int(rows.request_types[i])),
                response_content_type=facts.find_media_type(int(rows.response_types[i])),
                flags=flags,
                calls=sums[Sum.CALLS],
                records=sums[Sum.RECORDS],
                request_bytes=sums[Sum.REQUEST_BYTES],
                response_bytes=sums[Sum.RESPONSE_BYTES],
                time_to_first_byte_sum_us=sums[Sum.TIME_TO_FIRST_BYTE_SUM_US],
                duration_sum_us=sums[Sum.DURATION_SUM_US],
                duration_max_us=peaks[Peak.DURATION_US],
                duration=durations[i],
                response_size=sizes[i],
                objects=Objects(frozenset(objects[i]), bool(flags & RowFlag.OBJECTS_SKETCHED)),
                objects_count=int(rows.objects_counts[i]),
                object_numeric_calls=sums[Sum.OBJECT_NUMERIC_CALLS],
                object_monotonic_steps=sums[Sum.OBJECT_MONOTONIC_STEPS],
                object_numeric_span=peaks[Peak.NUMBER] - (2**63 - 1 - peaks[Peak.NUMBER_BELOW]) if has_numbers else 0,
                kind=actor.kind,
                rpc_status=int(rows.rpc_statuses[i]) - 1 if rows.rpc_statuses[i] else None,
                ended_later=sums[Sum.ENDED_LATER],
                streams=sums[Sum.STREAMS],
                stream_duration_sum_us=sums[Sum.STREAM_DURATION_SUM_US],
                counted=sums[Sum.COUNTED_MESSAGES_CALLS],
                request_messages=sums[Sum.REQUEST_MESSAGES],
                response_messages=sums[Sum.RESPONSE_MESSAGES],
                returned=sums[Sum.RECORDS_RETURNED],
                returned_measured=sums[Sum.RECORDS_MEASURED],
                requests_read=sums[Sum.REQUEST_BODIES_READ],
                responses_read=sums[Sum.RESPONSE_BODIES_READ],
                data=data[i],
            )
        )
    return found

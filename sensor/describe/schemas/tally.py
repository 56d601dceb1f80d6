"""Adds up the samples of one operation: sampled calls in, `OperationCount`s that may leave the node out."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import msgspec

# Callers of one operation that are distinguished; past them there are `at least` so many. 2 KB an operation at most.
MAX_CONSUMERS: Final = 64
MAX_DATA_CODES: Final = 64  # Kinds of data by place; there are some 120.
_SECOND_NS: Final = 1_000_000_000


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a sampled call besides its operations. Private to the node: `consumer` is a number of this
    node's, 0 where it is not known; `authentication` the wire's bits; `data` codes of kinds of data in bodies."""

    status_code: int
    consumer: int
    authentication: int
    time_unix_ns: int
    has_error: bool = False
    is_request_read: bool = False
    is_response_read: bool = False
    data: Collection[int] = ()


class OperationCount(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as it may be reported, among the samples. `errors`: answers that say so, and statuses from 400 on;
    `authentication`: served calls by the wire's bits; `data`: calls by code; times are unix seconds; `consumers` is a
    lower bound."""

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


@dataclass(slots=True)
class Tally:
    """Of one operation of a route. Not thread-safe."""

    _counts: Counter[str] = field(default_factory=Counter)
    _authentication: Counter[int] = field(default_factory=Counter)
    _data: Counter[int] = field(default_factory=Counter)
    _consumers: set[int] = field(default_factory=set)
    _first_ns: int = 0
    _last_ns: int = 0

    def add(self, sample: Sample) -> None:
        """One call of it."""
        status = sample.status_code
        is_served = 200 <= status < 300
        is_refused, is_failed = 400 <= status < 500, not 100 <= status < 500
        self._counts.update(
            calls=1,
            errors=int(sample.has_error or is_refused or is_failed),
            served=int(is_served),
            refused=int(is_refused),
            failed=int(is_failed),
            requests_read=int(sample.is_request_read),
            responses_read=int(sample.is_response_read),
        )
        if is_served:
            self._authentication[sample.authentication] += 1
        self._data.update(code for code in sample.data if code in self._data or len(self._data) < MAX_DATA_CODES)
        if sample.consumer and len(self._consumers) < MAX_CONSUMERS:
            self._consumers.add(sample.consumer)
        self._first_ns = min(self._first_ns or sample.time_unix_ns, sample.time_unix_ns)
        self._last_ns = max(self._last_ns, sample.time_unix_ns)

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

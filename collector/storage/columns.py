"""The one list of columns of rows of calls: how each travels, its bound, how it adds up, and who shows it.

`RowBatch` is the list. From it are made the checks of what arrives (collector/receiver/columns.py), what is inserted
(collector/storage/arrow.py), tables and views (collector/storage/tables/calls.py), and the sums that questions ask for
(`sum_columns`) with their numbers in the API (`list_shown_columns`). A new column is one line here, one in
proto/apidae/v1/data.proto and one in docs/use/storage.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from functools import partial
from typing import Annotated, Any, Final, get_type_hints

import numpy as np

from collector.core.rows import U32, U64, Ragged, Route, ServiceLoss

# Of one row: sums over a year of rows then stay far below 2**64.
CALLS_LIMIT: Final = 2**40
SUM_LIMIT: Final = 2**56
STATUS_CODE_LIMIT: Final = 1_000
RPC_STATUS_LIMIT: Final = 256  # Codes past those of google.rpc are kept, as other unknown values are.


class Adding(StrEnum):
    """How rows of one key become one: the database's function for it."""

    KEY = "key"  # Rows that differ in it stay apart. A new one goes last: that is where tables that exist take it.
    SUM = "sum"
    MAX = "max"  # Of media types the greatest, which forgets the empty one and the order.
    BITS = "groupBitOr"
    HISTOGRAM = "sumMap"
    SET = "groupUniqArrayArray"


class UsedBy(Flag):
    """Who shows a column, or reads it for something else that is shown."""

    NOBODY = 0
    ENDPOINTS = auto()
    CONSUMERS = auto()
    CALLS = auto()  # Calls by minute or hour, the evidence of alerts.
    DETECTORS = auto()


@dataclass(frozen=True, slots=True)
class RowColumn:
    """One column. `type` is the database's. Values stay below `below`, or below what the wire's type holds."""

    adding: Adding
    type: str = "UInt64"
    below: int | None = None
    is_text: bool = False  # On the wire an index into the batch's strings.
    is_rare: bool = False  # Omitted in a batch in which all rows have 0.
    is_kept_by_hour: bool = True
    lists: tuple[str, ...] = ()  # Of a histogram or set: the wire's fields of lengths, values and, if any, counts.
    shown_by: UsedBy = UsedBy.NOBODY  # As a number under its own name, which `text` describes.
    read_by: UsedBy = UsedBy.NOBODY  # For other figures.
    text: str = ""

    @property
    def table_type(self) -> str:
        """Its type in a table whose engine adds rows up."""
        return self.type if self.adding is Adding.KEY else f"SimpleAggregateFunction({self.adding}, {self.type})"


ENDPOINTS, CONSUMERS, CALLS, DETECTORS = UsedBy.ENDPOINTS, UsedBy.CONSUMERS, UsedBy.CALLS, UsedBy.DETECTORS
_key = partial(RowColumn, Adding.KEY)
_name = partial(RowColumn, Adding.KEY, "LowCardinality(String)", is_text=True)
_media_type = partial(RowColumn, Adding.MAX, "String", is_text=True)
_count = partial(RowColumn, Adding.SUM, below=CALLS_LIMIT)
_total = partial(RowColumn, Adding.SUM, below=SUM_LIMIT)
_histogram = partial(RowColumn, Adding.HISTOGRAM, "Tuple(Array(UInt16), Array(UInt64))")
_set = partial(RowColumn, Adding.SET, "Array(UInt64)", is_kept_by_hour=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHead:
    """What a batch says once, with the names of proto/apidae/v1/data.proto."""

    node: str
    boot_id: str
    sequence: int
    key_id: int
    policy_epoch: int
    clock_segment: int
    lost_calls: int
    seen_calls: int
    tls_lost_calls: int = 0  # Of both, what TLS carried.
    tls_seen_calls: int = 0
    service_losses: tuple[ServiceLoss, ...] = ()  # In none of these.


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBatch(BatchHead):
    """Rows of one batch, n long each, with the names of proto/apidae/v1/data.proto.

    Only `collector.receiver.convert` makes it, after a check of lengths, dictionary indexes and bounds. So everything
    behind it may index without a check.
    """

    strings: tuple[str, ...]
    routes: tuple[Route, ...]
    route: U32  # Index into routes.
    route_id: U64
    window_start: U32  # Unix seconds.
    window_length: U32  # Seconds.

    # Who called, how, and what came of it.
    principal: Annotated[U64, _key(read_by=CONSUMERS | DETECTORS)]
    principal_kind: Annotated[U32, _key("UInt8", read_by=CONSUMERS | DETECTORS)]
    credential: Annotated[U64, _key(read_by=CONSUMERS | CALLS | DETECTORS)]
    client_address: Annotated[U32, _name(read_by=CONSUMERS | DETECTORS)]
    client_workload: Annotated[U32, _name(read_by=CONSUMERS | DETECTORS)]
    authentication: Annotated[U32, _key("UInt32", read_by=ENDPOINTS | DETECTORS)]  # Bits.
    status_code: Annotated[U32, _key("UInt16", below=STATUS_CODE_LIMIT, read_by=ENDPOINTS | DETECTORS)]
    role: Annotated[U32, _key("UInt8", read_by=ENDPOINTS | DETECTORS)]
    hop: Annotated[U32, _key("UInt8", read_by=ENDPOINTS | DETECTORS)]
    protocol_version: Annotated[U32, _name(read_by=ENDPOINTS)]
    kind: Annotated[U32, _key("UInt8", is_rare=True, read_by=ENDPOINTS)]
    rpc_status: Annotated[U32, _key("UInt8", below=RPC_STATUS_LIMIT, is_rare=True, read_by=ENDPOINTS)]
    # What many callers share is asked of hours, not months: minute rows alone have it.
    client_software: Annotated[U32, _name(is_rare=True, is_kept_by_hour=False, read_by=CONSUMERS | DETECTORS)]
    carriers: Annotated[U32, _name(is_rare=True, read_by=ENDPOINTS)]  # Where the credentials of its calls were.
    request_content_type: Annotated[U32, _media_type(read_by=ENDPOINTS)]
    response_content_type: Annotated[U32, _media_type(read_by=ENDPOINTS)]
    flags: Annotated[U32, RowColumn(Adding.BITS, "UInt32", read_by=ENDPOINTS | DETECTORS)]  # RowFlag.

    # How much.
    calls: Annotated[U64, _count(read_by=ENDPOINTS | CONSUMERS | CALLS | DETECTORS)]
    request_bytes: Annotated[
        U64, _total(shown_by=ENDPOINTS | CONSUMERS | CALLS, text="Heads and bodies of requests as on the wire.")
    ]
    response_bytes: Annotated[
        U64,
        _total(
            shown_by=ENDPOINTS | CONSUMERS | CALLS,
            read_by=DETECTORS,
            text="Heads and bodies of responses as on the wire.",
        ),
    ]
    time_to_first_byte_sum_us: Annotated[U64, _total(read_by=ENDPOINTS)]
    duration_sum_us: Annotated[U64, _total(read_by=DETECTORS)]
    duration_max_us: Annotated[U64, RowColumn(Adding.MAX, below=SUM_LIMIT, read_by=ENDPOINTS)]
    # Buckets of scale 3 over microseconds and bytes, with counts.
    duration: Annotated[
        Ragged, _histogram(lists=("duration_len", "duration_bucket", "duration_count"), read_by=ENDPOINTS)
    ]
    response_size: Annotated[
        Ragged,
        _histogram(lists=("response_size_len", "response_size_bucket", "response_size_count"), read_by=ENDPOINTS),
    ]
    # Keyed hashes. Sets would grow without bound, so hours keep a sketch of 3 KB (about 1.6 % error).
    objects: Annotated[Ragged, _set(lists=("objects_len", "objects_hash"), read_by=CONSUMERS | CALLS | DETECTORS)]
    objects_count: Annotated[U64, RowColumn(Adding.MAX, below=CALLS_LIMIT, read_by=CONSUMERS | CALLS | DETECTORS)]
    object_numeric_calls: Annotated[U64, _count(read_by=ENDPOINTS | CALLS | DETECTORS)]
    object_monotonic_steps: Annotated[U64, _count(read_by=ENDPOINTS | CALLS | DETECTORS)]
    object_numeric_span: Annotated[
        U64, RowColumn(Adding.MAX, below=2**63, read_by=CALLS)
    ]  # Of two integers below 2**63.

    # Of streams, messages and bodies.
    ended_later: Annotated[U64, _count(is_rare=True, read_by=ENDPOINTS)]
    streams: Annotated[U64, _count(is_rare=True, read_by=ENDPOINTS)]
    stream_duration_sum_us: Annotated[U64, _total(is_rare=True, read_by=ENDPOINTS)]
    counted_messages_calls: Annotated[U64, _count(is_rare=True, read_by=ENDPOINTS)]
    request_messages: Annotated[U64, _total(is_rare=True, read_by=ENDPOINTS)]
    response_messages: Annotated[U64, _total(is_rare=True, read_by=ENDPOINTS)]
    records_returned: Annotated[
        U64, _total(is_rare=True, shown_by=CALLS, read_by=ENDPOINTS | DETECTORS, text="As far as they are known.")
    ]
    records_measured: Annotated[U64, _total(is_rare=True, read_by=ENDPOINTS)]  # Of those, counted in bodies.
    request_bodies_read: Annotated[U64, _count(is_rare=True, read_by=ENDPOINTS | DETECTORS)]  # Calls.
    response_bodies_read: Annotated[U64, _count(is_rare=True, read_by=ENDPOINTS)]
    # What was found where (proto DataPlace * 64 + DataKind), and the calls that carried it.
    data: Annotated[
        Ragged,
        _histogram(is_rare=True, lists=("found_len", "found_code", "found_count"), read_by=ENDPOINTS | DETECTORS),
    ]

    # Of attacks.
    attacks: Annotated[
        U64,
        _count(
            is_rare=True,
            shown_by=ENDPOINTS | CONSUMERS,
            text="Calls whose request held an attack payload, as far as it was read (docs/internals/detection.md).",
        ),
    ]
    attacks_confirmed: Annotated[
        U64,
        _count(
            is_rare=True,
            shown_by=ENDPOINTS | CONSUMERS,
            text="Answers to such calls that say that the payload worked.",
        ),
    ]
    # Keyed hashes; the lowest 4 bits are an AttackClass, the next 4 an AttackEvidence.
    payloads: Annotated[Ragged, _set(is_rare=True, lists=("payloads_len", "payloads_hash"), read_by=DETECTORS)]

    def __len__(self) -> int:
        return len(self.route)


_HINTS: Final[Mapping[str, Any]] = get_type_hints(RowBatch, include_extras=True)
COLUMNS: Final[Mapping[str, RowColumn]] = {
    name: hint.__metadata__[0] for name, hint in _HINTS.items() if hasattr(hint, "__metadata__")
}
# The wire's number types, by column; of histograms and sets those of their lengths.
WIRE_TYPES: Final[Mapping[str, type[np.uint32 | np.uint64]]] = {
    (column.lists or (name,))[0]: np.uint64 if _HINTS[name].__origin__ == U64 else np.uint32
    for name, column in COLUMNS.items()
}


def fill_columns(count: int, **known: Any) -> dict[str, Any]:
    """The columns of `count` rows: those that are known, and of all others nothing. For `RowBatch`."""
    nothing = Ragged(
        offsets=np.zeros(count + 1, np.int64), values=np.zeros(0, np.uint64), counts=np.zeros(0, np.uint64)
    )
    zeros = {np.uint32: np.zeros(count, np.uint32), np.uint64: np.zeros(count, np.uint64)}
    return {name: nothing if column.lists else zeros[WIRE_TYPES[name]] for name, column in COLUMNS.items()} | known


def list_shown_columns(by: UsedBy) -> dict[str, RowColumn]:
    """The columns that are shown there as they are."""
    return {name: column for name, column in COLUMNS.items() if column.shown_by & by}


def list_summed_columns(by: UsedBy) -> dict[str, Adding]:
    """How each adds up that is used there, but for keys, texts and sets."""
    return {
        name: column.adding
        for name, column in COLUMNS.items()
        if (column.shown_by | column.read_by) & by and column.adding not in (Adding.KEY, Adding.SET)
        if not column.is_text
    }


def sum_columns(by: UsedBy, row: str = "r") -> str:
    """`sum(r.calls) AS calls, ..`: all of `list_summed_columns`; `row` is the alias."""
    return ", ".join(f"{adding}({row}.{name}) AS {name}" for name, adding in list_summed_columns(by).items())


def read_figures(row: Mapping[str, Any], by: UsedBy) -> dict[str, int]:
    """The numbers of a row of a question that asked for `sum_columns`."""
    return {name: int(row[name]) for name in list_shown_columns(by)}

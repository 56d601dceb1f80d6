"""What sensors report of the blocks they hold, in the state: who enforces, who does not and why, what was stopped.

A sensor counts from when it took a block, and from 0 again after a restart or a change of its switch. Earlier counts
are kept. A sensor that is not heard any more enforces nothing, or soon will not (docs/use/response.md).

A report comes every 5 s, and most say what the one before said. So a report waits in memory for `flush`, once a second,
and only what changed is written; that a node was heard is written every `HEARD_SECONDS`. A sensor may report to one
collector and then to another: what is counted is in the state alone.
"""

import hashlib
import re
import threading
from collections import ChainMap, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, delete, select, tuple_, update

from collector.core.feature import Feature, Job, Role
from collector.receiver.policy import BlockStatus, EnforcementReport
from collector.response.block import PART_MARK, BlockState
from collector.storage.state.erasing import ERASED
from collector.storage.state.store import StateStore, upsert
from collector.storage.state.tables.response import BLOCK_REPORTS, BLOCKS, ENFORCING_NODES
from collector.trust.audit import AuditEntry, add_entries
from common.bounded import BoundedDict

NODES_MAX: Final = 20_000  # The one not heard for longest goes.
# A sensor reports every 5 s.
SILENT_SECONDS: Final = 60.0
HEARD_SECONDS: Final = 20.0
GONE_SECONDS: Final = 3_600.0  # Of a node that is not listed any more.
CLEAN_SECONDS: Final = 300.0  # Between two looks for what is of no live block or of a node that is gone.
SILENT_REASON: Final = "its sensor has not been heard for over a minute"
NOT_HELD_REASON: Final = "its sensor does not hold it"
_COUNTS: Final = ("stopped_connections", "stopped_bytes", "failed_resets", "spared_requests")
T = TypeVar("T")

_KEYS: Final = 5_000  # In one statement.


_Key = tuple[str, str, str]  # Block, node, and part of the block.
_Batch = Mapping[str, tuple[EnforcementReport, float]]  # By node, with when it came.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A row: one block at one node, of a workload one address of it. `last` is of the last report, `before` the sum of
    what was counted before the sensor began anew."""

    block_id: str
    node: str
    part: str  # Of the id that sensors got; it names no address.
    is_enforced: bool
    reason: str
    first_stop_at: float
    is_reported: bool  # In the node's last report.
    last: tuple[int, ...]
    before: tuple[int, ...]

    def take(self, status: BlockStatus) -> "_Counted":
        counts = _list_counts(status)
        is_anew = any(new < old for new, old in zip(counts, self.last, strict=True))
        return replace(
            self,
            is_enforced=status.is_enforced,
            reason=status.reason,
            first_stop_at=self.first_stop_at or status.first_stop_at,
            is_reported=True,
            last=counts,
            before=tuple(map(sum, zip(self.before, self.last, strict=True))) if is_anew else self.before,
        )

    @property
    def key(self) -> _Key:
        """Of the row."""
        return self.block_id, self.node, self.part


class BlockReports:
    """Thread-safe. What reads or writes the state raises StoreError."""

    def __init__(self, state: StateStore, clock: Callable[[], float]) -> None:
        """`clock` gives unix seconds."""
        self._state, self._clock = state, clock
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, EnforcementReport, float]] = []
        # The last report of a node that was worth writing, and when it came; the longest silent first.
        self._taken: BoundedDict[str, tuple[EnforcementReport, float]] = BoundedDict(NODES_MAX)
        self._kept: BoundedDict[str, EnforcementReport] = BoundedDict(NODES_MAX)  # As this process wrote it last.
        self._cleaned_at = 0.0

    @property
    def feature(self) -> Feature:
        """What the collector repeats."""
        return Feature(name="block reports", role=Role.INGEST, jobs=(Job(works=(self.flush,)),))

    def take(self, node: str, report: EnforcementReport) -> None:
        """A report. Does not block."""
        now = self._clock()
        with self._lock:
            taken, at = self._taken.get(node, (None, 0.0))
            if taken != report or abs(now - at) >= HEARD_SECONDS:
                self._taken.renew(node, (report, now))
                self._waiting.append((node, report, now))

    def flush(self) -> None:
        """Write what waits. What a node declines since then is in the audit log once."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        now = self._clock()
        is_due = abs(now - self._cleaned_at) >= CLEAN_SECONDS
        if not waiting and not is_due:
            return
        try:
            with self._state.write() as connection:
                kept = dict[str, EnforcementReport]()
                for batch in _split_by_node(waiting):
                    _write(connection, batch, ChainMap(kept, self._kept), now)
                    kept |= {node: report for node, (report, _) in batch.items()}
                if is_due:
                    _clean(connection, now)
        except BaseException:
            with self._lock:
                self._waiting = waiting[-NODES_MAX:] + self._waiting
            raise
        for node, report in kept.items():
            self._kept.renew(node, report)
        if is_due:
            self._cleaned_at = now

    def list_statuses(self, block_ids: Collection[str]) -> dict[str, list[tuple[str, BlockStatus]]]:
        """Of blocks, what each node that got one makes of it."""
        found: dict[str, list[tuple[str, BlockStatus]]] = {block_id: [] for block_id in block_ids}
        parts: defaultdict[tuple[str, str], list[_Counted]] = defaultdict(list)
        with self._state.read() as connection:
            heard = {row.node: row.heard_at for row in connection.execute(select(ENFORCING_NODES))}
            for ids in _split(list(block_ids)):
                own = select(BLOCK_REPORTS).where(BLOCK_REPORTS.c.block_id.in_(ids))
                for row in connection.execute(own.order_by(BLOCK_REPORTS.c.node)):
                    parts[row.block_id, row.node].append(_read_row(row))
        now = self._clock()
        for (block_id, node), counted in parts.items():
            status = _join_parts(block_id, counted)
            if node not in heard or now - heard[node] >= SILENT_SECONDS:
                status = replace(status, is_enforced=False, reason=SILENT_REASON)
            found[block_id].append((node, status))
        return found

    def list_nodes(self) -> list[tuple[str, EnforcementReport]]:
        """What each node enforces at all."""
        now = self._clock()
        is_heard = select(ENFORCING_NODES).where(ENFORCING_NODES.c.heard_at > now - GONE_SECONDS)
        newest = is_heard.order_by(ENFORCING_NODES.c.heard_at.desc(), ENFORCING_NODES.c.node).limit(NODES_MAX)
        found = []
        with self._state.read() as connection:
            for row in connection.execute(newest):
                report = EnforcementReport(epoch=row.epoch, is_enabled=row.is_enabled, reason=row.reason, blocks=())
                if now - row.heard_at >= SILENT_SECONDS:
                    report = replace(report, is_enabled=False, reason=SILENT_REASON)
                found.append((row.node, report))
        return sorted(found, key=lambda one: one[0])


def _write(connection: Connection, batch: _Batch, kept: Mapping[str, EnforcementReport], now: float) -> None:
    """One report of each node, and those that were `kept` before."""
    known: dict[str, str] = {}
    for nodes in _split(list(batch)):
        own = select(ENFORCING_NODES.c.node, ENFORCING_NODES.c.content).where(ENFORCING_NODES.c.node.in_(nodes))
        known |= {row.node: row.content for row in connection.execute(own)}
    contents = {node: _digest(repr(report.blocks)) for node, (report, _) in batch.items()}
    changed = {node: batch[node][0] for node in batch if known.get(node) != contents[node]}
    # What another collector kept since is read as a whole.
    before = {
        node: kept[node] for node in changed if node in kept and known.get(node) == _digest(repr(kept[node].blocks))
    }
    if changed:
        _write_statuses(connection, changed, before, now)
    rows = [
        {
            "node": node,
            "heard_at": heard_at,
            "epoch": report.epoch,
            "is_enabled": report.is_enabled,
            "reason": report.reason,
            "content": contents[node],
        }
        for node, (report, heard_at) in sorted(batch.items())
    ]
    upsert(connection, ENFORCING_NODES, rows)


def _write_statuses(
    connection: Connection,
    batch: Mapping[str, EnforcementReport],
    kept: Mapping[str, EnforcementReport],
    now: float,
) -> None:
    """What differs from the reports that are kept; of other nodes everything."""
    is_live = BLOCKS.c.state == BlockState.LIVE
    live = {row.id: f"{row.kind}:{row.value}" for row in connection.execute(select(BLOCKS).where(is_live))}
    reported: dict[_Key, BlockStatus] = {}
    gone: set[_Key] = set()
    whole: set[str] = set()
    for node, report in batch.items():
        old = frozenset(kept[node].blocks if node in kept else ())
        new = frozenset(report.blocks).difference(old)
        if 4 * len(new) >= len(report.blocks):  # One row after the other takes longer.
            whole.add(node)
        reported |= {_make_key(node, one): one for one in new}
        gone |= {_make_key(node, one) for one in old.difference(report.blocks)}
    before = {row.key: row for row in _read_rows(connection, whole, {*reported, *gone})}
    after = {
        key: replace(row, is_reported=False) if row.node not in kept or key in gone else row
        for key, row in before.items()
    }
    declined: list[tuple[str, str, str]] = []
    for key, status in reported.items():
        block_id, node, _ = key
        if block_id not in live:
            continue
        after[key] = (after.get(key) or _begin(*key)).take(status)
        was = before.get(key)
        was_declined = was is not None and was.is_reported and not was.is_enforced
        if batch[node].is_enabled and not status.is_enforced and not was_declined:
            declined.append((node, block_id, status.reason))
    rows = [_write_row(row) for key, row in sorted(after.items()) if row != before.get(key)]
    upsert(connection, BLOCK_REPORTS, rows)
    add_entries(
        connection,
        [
            AuditEntry(time=now, by=f"sensor {node}", action="declined", block_id=one, target=live[one], why=why)
            for node, one, why in declined
        ],
    )


def _make_key(node: str, status: BlockStatus) -> _Key:
    block_id, _, part = status.id.partition(PART_MARK)
    return block_id, node, _digest(part)


def _read_rows(connection: Connection, nodes: Collection[str], keys: Collection[_Key]) -> Iterator[_Counted]:
    """Those of whole nodes, and those of keys."""
    for some in _split(sorted(nodes)):
        yield from map(_read_row, connection.execute(select(BLOCK_REPORTS).where(BLOCK_REPORTS.c.node.in_(some))))
    columns = tuple_(BLOCK_REPORTS.c.block_id, BLOCK_REPORTS.c.node, BLOCK_REPORTS.c.part)
    for part in _split([key for key in keys if key[1] not in nodes]):
        yield from map(_read_row, connection.execute(select(BLOCK_REPORTS).where(columns.in_(part))))


def _read_row(row: Any) -> _Counted:
    return _Counted(
        block_id=row.block_id,
        node=row.node,
        part=row.part,
        is_enforced=row.is_enforced,
        reason=row.reason,
        first_stop_at=row.first_stop_at,
        is_reported=row.is_reported,
        last=tuple(row.last),
        before=tuple(row.before),
    )


def take_counts(connection: Connection, block_id: str) -> tuple[int, int, int]:
    """What was reported of a block that ends, and is not kept any longer: connections, bytes, and on how many nodes."""
    own = BLOCK_REPORTS.c.block_id == block_id
    parts = [_read_row(row) for row in connection.execute(select(BLOCK_REPORTS).where(own))]
    if parts:
        connection.execute(delete(BLOCK_REPORTS).where(own))
    status = _join_parts(block_id, parts)
    return status.stopped_connections, status.stopped_bytes, len({one.node for one in parts})


def blank_reasons(connection: Connection, pattern: re.Pattern[str]) -> None:
    """Blank a name that a pattern finds in what sensors say of blocks."""
    for row in connection.execute(select(BLOCK_REPORTS)).all():
        if pattern.search(row.reason):
            keys = (getattr(row, column.name) == column for column in BLOCK_REPORTS.primary_key)
            connection.execute(update(BLOCK_REPORTS).where(*keys).values(reason=pattern.sub(ERASED, row.reason)))


def _begin(block_id: str, node: str, part: str) -> _Counted:
    nothing = (0,) * len(_COUNTS)
    return _Counted(
        block_id=block_id,
        node=node,
        part=part,
        is_enforced=False,
        reason="",
        first_stop_at=0.0,
        is_reported=True,
        last=nothing,
        before=nothing,
    )


def _join_parts(block_id: str, parts: Sequence[_Counted]) -> BlockStatus:
    """One block at one node: enforced where all that the node holds of it is."""
    held = [part for part in parts if part.is_reported]
    reason = next((part.reason for part in held if not part.is_enforced), "" if held else NOT_HELD_REASON)
    counts = [one for part in parts for one in (part.last, part.before)]
    sums = [sum(column) for column in zip(*counts, strict=True)]
    return BlockStatus(
        id=block_id,
        is_enforced=not reason and all(part.is_enforced for part in held),
        reason=reason,
        first_stop_at=min((part.first_stop_at for part in parts if part.first_stop_at), default=0.0),
        **dict(zip(_COUNTS, sums or (0,) * len(_COUNTS), strict=True)),
    )


def _list_counts(status: BlockStatus) -> tuple[int, ...]:
    return tuple(getattr(status, name) for name in _COUNTS)


def _write_row(counted: _Counted) -> dict[str, Any]:
    return {column.name: getattr(counted, column.name) for column in BLOCK_REPORTS.columns}


def _clean(connection: Connection, now: float) -> None:
    live = select(BLOCKS.c.id).where(BLOCKS.c.state == BlockState.LIVE)
    connection.execute(delete(BLOCK_REPORTS).where(BLOCK_REPORTS.c.block_id.not_in(live)))
    connection.execute(delete(ENFORCING_NODES).where(ENFORCING_NODES.c.heard_at < now - GONE_SECONDS))


def _split_by_node(
    waiting: Iterable[tuple[str, EnforcementReport, float]],
) -> list[dict[str, tuple[EnforcementReport, float]]]:
    """In batches with one report of each node, in their order."""
    batches: list[dict[str, tuple[EnforcementReport, float]]] = []
    places: dict[str, int] = defaultdict(int)
    for node, report, heard_at in waiting:
        place = places[node]
        places[node] += 1
        if place == len(batches):
            batches.append({})
        batches[place][node] = report, heard_at
    return batches


def _split(keys: Sequence[T]) -> list[Sequence[T]]:
    return [keys[start : start + _KEYS] for start in range(0, len(keys), _KEYS)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""

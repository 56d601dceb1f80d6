"""The audit log: who decided what, when, why, and what was before and after, in the state.

An entry is in the transaction of the decision that it records, and nothing of it changes. Only where a consumer is
erased its name is blanked. Entries go by age, and the oldest beyond `ENTRIES_MAX`.

Entries are numbered without gaps and form a chain. The seal of an entry is the SHA-256 of a random salt and of the
texts that an erasure may blank. Its hash is the SHA-256 of the hash before it, its number, time and action, and its
seal. So an entry that is changed or missing shows, and the chain holds where a name was blanked: then the salt goes,
and with it the means to try names. The entry of the erasure says which ones those are, so any other without a salt was
changed; in those, later changes of the same texts do not show. An entry that says how far old entries were deleted has
the hash that the first of those that stay stands on. What these two say names nobody: it is in their hash, and never
blanked. Whoever may write the database can make a whole new chain; keep its last hash elsewhere.
"""

import hashlib
import re
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.types import TypeDecorator

from collector.core.budget import check_budget
from collector.core.feature import Feature, Job, Role
from collector.storage.disk import StoredRows
from collector.storage.state.erasing import ERASED
from collector.storage.state.store import StateStore, lock_table, read_row
from collector.storage.state.tables.base import PROSE
from collector.storage.state.tables.trust import AUDIT_ENTRIES
from collector.trust.principal import find_principal
from common.figures import make_totals

ENTRIES_MAX: Final = 500_000  # Some 200 MB.
ENTRY_BYTES: Final = 390  # The mean of 20,000 in a database.
PRUNE_SECONDS: Final = 6 * 3_600.0  # Between two looks for entries that are too old.
PRUNED: Final = "audit.pruned"
ERASURE: Final = "erased"
OWN_NAME: Final = "apidae"  # Who does what nobody asked for.
SALT_BYTES: Final = 16
VALUE_CHARACTERS_MAX: Final = (400, 100, 20)  # Of one value before or after; fewer where all do not fit otherwise.
VALUES_MAX: Final = 20  # Of one list.
_COLUMNS: Final = ("by", "target", "why", "before", "after")  # In which somebody may be named.
_IDS_MAX: Final = 500  # The same, compared with a list.
_ROWS: Final = 10_000  # In one statement.
_RANGES_MAX: Final = 90  # Of entries, that one entry names: so many fit, however large the numbers.


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One decision. `time`: unix seconds. `way`: how who decided had shown who that is; empty of the collector itself.
    `before` and `after`: what the decision changed, as `write_values` has it."""

    time: float
    by: str
    action: str  # proposed, began, approved, rejected, lifted, expired, declined, ladder; others as alert.mute.
    block_id: str = ""  # Of a block; of what a sensor reports, the id of that.
    target: str
    why: str = ""
    way: str = ""
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine(AuditEntry):
    """An entry as it is kept."""

    number: int
    hash: str
    is_erased: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilters:
    """Which entries; empty means all. Times are unix seconds."""

    actor: str = ""  # By whom, with or without who asked for it.
    action: str = ""  # One, or the first word of several: token.
    target: str = ""
    start: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCheck:
    """What became of the chain. `fault` is a sentence on the first entry that is missing or changed, or empty."""

    entries: int
    first: int
    last: int
    last_hash: str
    unchained: int  # Of a version that had no chain.
    erased: int  # In which a name was blanked.
    fault: str = ""


def write_values(**values: object) -> str:
    """What is before or after a decision, as JSON with its keys in order, of at most PROSE characters."""
    text = ""
    for most in VALUE_CHARACTERS_MAX:
        shown = {name: _shorten(value, most) for name, value in sorted(values.items())}
        text = msgspec.json.encode(shown).decode()
        if len(text) <= PROSE:
            break
    return text


def _shorten(value: object, most: int) -> object:
    """Texts in whole words: half of a name would escape an erasure."""
    if isinstance(value, list | tuple):
        return [_shorten(one, most) for one in value[:VALUES_MAX]]
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = str(value)
    return text if len(text) <= most else f"{text[:most].rpartition(' ')[0]}…"


def make_entry(
    time: float,
    by: str,
    action: str,
    target: str,
    *,
    why: str = "",
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> AuditEntry:
    """The entry of a decision; `before` and `after` are values by name, None where there is nothing."""
    return AuditEntry(
        time=time,
        by=by,
        action=action,
        target=target,
        why=why,
        before="" if before is None else write_values(**before),
        after="" if after is None else write_values(**after),
    )


class AuditLog:
    """Reads the log, and writes what has no transaction of its own. Methods raise StoreError."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._evicted_count = 0  # Entries that went because there were more than ENTRIES_MAX.

    def make_feature(self, clock: Callable[[], float], kept_days: int) -> Feature:
        """What the collector repeats and shows."""
        text = f"Entries of the audit log that were deleted because there were more than {ENTRIES_MAX:,}."
        return Feature(
            name="audit log",
            role=Role.JOBS,
            jobs=(Job(works=(lambda: self.prune(clock() - kept_days * 86_400, clock()),), seconds=PRUNE_SECONDS),),
            figures=lambda: make_totals([("audit_entries_evicted", text, self._evicted_count)]),
        )

    def add(self, entry: AuditEntry) -> None:
        """One more entry."""
        with self._state.write() as connection:
            add_entries(connection, [entry])

    def add_new(self, entries: Sequence[AuditEntry], *, most: int) -> tuple[int, int]:
        """Those of which the log has none with their `block_id`, the first `most` of them. How many were written, and
        how many were too many."""
        with self._state.write() as connection:
            lock_table(connection, AUDIT_ENTRIES)
            known = set()
            for start in range(0, len(entries), _IDS_MAX):
                ids = [entry.block_id for entry in entries[start : start + _IDS_MAX]]
                known |= set(connection.execute(select(_ENTRY.block_id).where(_ENTRY.block_id.in_(ids))).scalars())
            new = [entry for entry in entries if entry.block_id not in known]
            add_entries(connection, new[:most])
        return len(new[:most]), len(new[most:])

    def list_recent(self, limit: int) -> list[AuditEntry]:
        """Of decisions on blocks, which whoever sees blocks sees; the newest first. All others have a dot."""
        is_other = AUDIT_ENTRIES.c.action.contains(".", autoescape=True) & (AUDIT_ENTRIES.c.action != PRUNED)
        newest = select(AUDIT_ENTRIES).where(~is_other).order_by(AUDIT_ENTRIES.c.number.desc()).limit(limit)
        with self._state.read() as connection:
            return [read_row(AuditEntry, row) for row in connection.execute(newest)]

    def list_actions(self, action: str) -> set[tuple[str, str]]:
        """Of all entries with this action, the block and why."""
        entries = select(AUDIT_ENTRIES.c.block_id, AUDIT_ENTRIES.c.why).where(AUDIT_ENTRIES.c.action == action)
        with self._state.read() as connection:
            return {(row.block_id, row.why) for row in connection.execute(entries)}

    def list_lines(self, filters: AuditFilters, *, limit: int, before: int = 0) -> list[AuditLine]:
        """The newest first; `before`: those with a smaller number, 0 for all."""
        conditions = [*_filter(filters), *([_ENTRY.number < before] if before else [])]
        newest = select(AUDIT_ENTRIES).where(and_(True, *conditions)).order_by(_ENTRY.number.desc()).limit(limit)
        with self._state.read() as connection:
            return [_read_line(row) for row in connection.execute(newest)]

    def list_after(self, number: int, *, limit: int, until: int = 0) -> list[AuditLine]:
        """Those with a larger number, up to `until` where it is set, the oldest first."""
        conditions = [_ENTRY.number > number, *([_ENTRY.number <= until] if until else [])]
        oldest = select(AUDIT_ENTRIES).where(*conditions).order_by(_ENTRY.number).limit(limit)
        with self._state.read() as connection:
            return [_read_line(row) for row in connection.execute(oldest)]

    def find_last(self) -> int:
        """The largest number; 0 of an empty log."""
        with self._state.read() as connection:
            return int(connection.execute(select(func.max(_ENTRY.number))).scalar() or 0)

    def measure(self, kept_days: int, now: float) -> StoredRows:
        """What it takes of the state. Raises StoreError."""
        with self._state.read() as connection:
            rows, oldest = connection.execute(select(func.count(), func.min(_ENTRY.time))).one()
        kept = kept_days * 86_400
        return StoredRows(
            what="Audit log, of these",
            setting="retention.audit_days",
            kept_seconds=kept,
            rows=rows,
            bytes=rows * ENTRY_BYTES,
            span_seconds=min(max(0, int(now - oldest)), kept) if rows else 0,
        )

    def check(self) -> AuditCheck:
        """Follow the chain from its first entry to its last."""
        with self._state.snapshot() as connection:
            pruned, is_named = _find_pruned(connection), _find_erased(connection)
            oldest = select(AUDIT_ENTRIES).order_by(_ENTRY.number).execution_options(yield_per=_PAGE)
            return _check_chain(connection.execute(oldest), pruned, is_named)

    def prune(self, before: float, now: float) -> int:
        """Delete entries from before a unix time, and the oldest beyond what is kept at most. How many went by age. The
        last one stays, for the next one stands on it."""
        with self._state.write() as connection:
            lock_table(connection, AUDIT_ENTRIES)
            last, kept = connection.execute(select(func.max(_ENTRY.number), func.count())).one()
            if not kept:
                return 0
            young = select(func.min(_ENTRY.number)).where(_ENTRY.time >= before)
            first = connection.execute(young).scalar() or last
            old = connection.execute(select(func.count()).where(_ENTRY.number < first)).scalar_one()
            over = max(0, kept - old - ENTRIES_MAX)
            if not old and not over:
                return 0
            gone = connection.execute(
                select(_ENTRY.number, _ENTRY.hash).order_by(_ENTRY.number).offset(old + over - 1).limit(1)
            ).one()
            connection.execute(delete(AUDIT_ENTRIES).where(_ENTRY.number <= gone.number))
            self._evicted_count += over
            after = write_values(number=gone.number, hash=gone.hash)
            what = f"{old + over} entries, the last of them number {gone.number}"
            add_entries(connection, [AuditEntry(time=now, by=OWN_NAME, action=PRUNED, target=what, after=after)])
        return int(old)


_ENTRY: Final = AUDIT_ENTRIES.c
_OWN: Final = (PRUNED, ERASURE)  # `after` says what became of other entries.
_PAGE: Final = 1_000
_TYPES: Final = {column.name: column.type for column in AUDIT_ENTRIES.columns}


def add_entries(connection: Connection, entries: Sequence[AuditEntry]) -> None:
    """Decisions of a transaction. It holds the log until it ends, so this comes last in it."""
    if not entries:
        return
    lock_table(connection, AUDIT_ENTRIES)
    last = connection.execute(select(_ENTRY.number, _ENTRY.hash).order_by(_ENTRY.number.desc()).limit(1)).first()
    number, previous = (0, "") if last is None else (last.number, last.hash)
    principal = find_principal()
    rows = []
    for entry in entries:
        row = {name: _bind(connection, name, value) for name, value in asdict(entry).items()}
        row["time"] = float(row["time"])  # A whole number is another text.
        row["way"] = row["way"] or ("" if principal is None else principal.way.value)
        number += 1
        row |= {"number": number, "salt": secrets.token_hex(SALT_BYTES)}
        row["seal"] = _seal(row)
        row["hash"] = previous = _hash(previous, row)
        rows.append(row)
    connection.execute(insert(AUDIT_ENTRIES), rows)


def _bind(connection: Connection, name: str, value: Any) -> Any:
    """As the database keeps it: what is too long is cut."""
    kind = _TYPES[name]
    return kind.process_bind_param(value, connection.dialect) if isinstance(kind, TypeDecorator) else value


def _seal(row: Mapping[str, Any]) -> str:
    return _digest([row["salt"], *(row[name] for name in _COLUMNS)])


def _hash(previous: str, row: Mapping[str, Any]) -> str:
    names = ("number", "time", "action", "block_id", "way", "seal", *(("after",) if row["action"] in _OWN else ()))
    return _digest([previous, *(row[name] for name in names)])


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _find_pruned(connection: Connection) -> tuple[int, str]:
    """Number and hash of the last entry that was deleted for its age; 0 where none was."""
    newest = select(_ENTRY.after).where(_ENTRY.action == PRUNED).order_by(_ENTRY.number.desc()).limit(1)
    text = connection.execute(newest).scalar()
    if text is None:
        return 0, ""
    try:
        found = msgspec.json.decode(text, type=_Pruned)
    except msgspec.DecodeError:
        return 0, ""  # It was changed, which its own hash shows.
    return found.number, found.hash


class _Pruned(msgspec.Struct, frozen=True):
    number: int
    hash: str


def _find_erased(connection: Connection) -> Callable[[int], bool]:
    """Whether an erasure names an entry, by its number."""
    ranges: list[tuple[int, int]] = []
    for text in connection.execute(select(_ENTRY.after).where(_ENTRY.action == ERASURE)).scalars():
        with suppress(msgspec.DecodeError):  # It was changed, which its own hash shows.
            ranges += msgspec.json.decode(text, type=_Erasure).entries
    ranges.sort()
    firsts, lasts = [first for first, _ in ranges], list(accumulate((last for _, last in ranges), max, initial=-1))
    return lambda number: lasts[bisect_right(firsts, number)] >= number


class _Erasure(msgspec.Struct, frozen=True):
    """Numbers of entries, from the first to the last of each range."""

    entries: list[tuple[int, int]]


def _check_chain(rows: Iterable[Row[Any]], pruned: tuple[int, str], is_named: Callable[[int], bool]) -> AuditCheck:
    number, previous = pruned
    counts = {"entries": 0, "first": 0, "last": 0, "unchained": 0, "erased": 0}
    is_chained, fault = False, ""
    for found in rows:
        check_budget()
        row: dict[str, Any] = {str(name): value for name, value in found._mapping.items()}
        counts["entries"] += 1
        counts["first"] = counts["first"] or row["number"]
        counts["last"], last = row["number"], number
        number = row["number"]
        if not row["hash"] and not is_chained:
            counts["unchained"] += 1
            continue
        is_chained = True
        counts["erased"] += not row["salt"]
        if number != last + 1:
            missing = f"Entry {last + 1} is" if number == last + 2 else f"Entries {last + 1} to {number - 1} are"
            fault = fault or f"{missing} missing."
        elif row["hash"] != _hash(previous, row) or (row["salt"] and row["seal"] != _seal(row)):
            fault = fault or f"Entry {number} was changed."
        elif not row["salt"] and not is_named(number):
            fault = fault or f"Entry {number} was changed: it has no salt, and no erasure names it."
        previous = row["hash"]
    return AuditCheck(**counts, last_hash=previous if counts["entries"] else "", fault=fault)


def _filter(filters: AuditFilters) -> Iterator[ColumnElement[bool]]:
    if filters.actor:
        yield (_ENTRY.by == filters.actor) | _ENTRY.by.startswith(f"{filters.actor}, asked by ", autoescape=True)
    if filters.action:
        yield (_ENTRY.action == filters.action) | _ENTRY.action.startswith(f"{filters.action}.", autoescape=True)
    if filters.target:
        yield _ENTRY.target.contains(filters.target, autoescape=True)
    if filters.start:
        yield _ENTRY.time >= filters.start
    if filters.end:
        yield _ENTRY.time < filters.end


def _read_line(row: Row[Any]) -> AuditLine:
    return read_row(AuditLine, row, is_erased=bool(row.hash) and not row.salt)


def erase_mentions(connection: Connection, pattern: re.Pattern[str], erasure: AuditEntry) -> int:
    """Blank a name that a pattern finds, in every entry; what was decided, when and by whom stays. Then add the entry
    of the erasure, which says where that was. How many entries were blanked."""
    lock_table(connection, AUDIT_ENTRIES)
    texts = (_ENTRY[name] for name in _COLUMNS)
    every = select(_ENTRY.number, _ENTRY.action, *texts).order_by(_ENTRY.number).execution_options(yield_per=_PAGE)
    blanked = []
    for number, action, *found in connection.execute(every):
        old = dict(zip(_COLUMNS, found, strict=True))
        new = {
            name: text if name == "after" and action in _OWN else pattern.sub(ERASED, text)
            for name, text in old.items()
        }
        if new != old:
            blanked.append({"own": number, "salt": "", **new})
    if blanked:
        connection.execute(update(AUDIT_ENTRIES).where(_ENTRY.number == bindparam("own")), blanked)
    ranges = _join_numbers(row["own"] for row in blanked)
    said = [ranges[start : start + _RANGES_MAX] for start in range(0, len(ranges) or 1, _RANGES_MAX)]
    afters = [msgspec.json.encode(_Erasure(entries)).decode() for entries in said]
    add_entries(connection, [replace(erasure, action=ERASURE, after=after) for after in afters])
    return len(blanked)


def _join_numbers(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ranges of numbers that grow."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        is_next = bool(ranges) and number == ranges[-1][1] + 1
        ranges.append((ranges.pop()[0] if is_next else number, number))
    return ranges


def import_audit(connection: Connection, content: bytes) -> int:
    """The lines of `audit.jsonl` of an earlier version, but for one that a crash cut. How many there were."""
    entries = []
    for line in content.splitlines():
        try:
            entries.append(msgspec.json.decode(line, type=AuditEntry))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    for start in range(0, len(entries), _ROWS):
        add_entries(connection, entries[start : start + _ROWS])
    return len(entries)

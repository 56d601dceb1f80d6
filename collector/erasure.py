"""Erases one consumer from a running collector: each place in turn, in the order in which its name travels.

The log comes first, so that nobody reads the name again. Then come the detectors, whose earlier signals are taken
meanwhile. Then come the alerts in memory, waiting notifications, and the blocks. The tables come last, when nothing
writes the name any more. What the consumer does later is known again. Thread-safe, one erasure at a time.

Log: its hash or text is blanked in every frame, byte for byte, so lengths and readers' positions stay. A hash is eight
bytes on the wire (fixed64), which occur by chance once in 2^64 places. A text is replaced where it is a whole entry of
the batch's dictionary. Nobody may write the log meanwhile.

Texts: `Mention` finds `kind:value`, or the value alone where that is specific enough. An address is not part of a
longer one. The name of a workload is also that of a service, so it counts only behind its kind.

State: its alerts, with their timelines and what people did to them, its silences, its known-good rules, its blocks, its
label, views that name it and what changes are compared with are deleted. In texts that stay, its name is blanked. The
database overwrites what it deletes.

Tables: its rows of calls and reports are deleted, and its uses of MCP tools and of models. In texts that stay, its name
is blanked. Sums of all consumers (routes_hour, routes_day) name nobody and stay. The engine keeps deleted rows and the
statement, which names the consumer, for a while. So it is configured not to, and the erasure waits for it.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from collector.alerting.service import AlertService
from collector.core.budget import use_budget
from collector.core.errors import ConflictError
from collector.core.kinds import ConsumerKind
from collector.inventory.consumers.consumer import ConsumerName
from collector.log.base import Log
from collector.receiver.writer import StoreWriter
from collector.response.responder import Erasing, Responder
from collector.storage.base import Store, StoreError
from collector.storage.tables.layout import Layout

ERASED: Final = "erased"


@dataclass(frozen=True, slots=True)
class Mention:
    """`pattern` for texts here; `sql` for ClickHouse's match() and replaceRegexpAll(), by `sql_replacement`, which
    knows no looking around."""

    pattern: re.Pattern[str]
    sql: str
    sql_replacement: str = rf"\1{ERASED}\2"


def find_mention(consumer: ConsumerName) -> Mention:
    """The patterns of one consumer."""
    prefix, value = re.escape(f"{consumer.kind}:"), re.escape(consumer.value)
    name = prefix + value if consumer.kind is ConsumerKind.WORKLOAD else f"(?:{prefix})?{value}"
    # What would make it a part of something longer; a colon only where the value itself has some (IPv6).
    part = r"0-9A-Za-z_" + (":" if ":" in consumer.value else "")
    before, after = rf"[{part}.-]", rf"[{part}]|[.-][{part}]"
    return Mention(
        pattern=re.compile(rf"(?<!{before}){name}(?!{after})"),
        sql=rf"(^|[^{part}.-]){name}($|[^{part}.-]|[.-]$|[.-][^{part}])",
    )


_HASH_BYTES: Final = 8
# Field `strings` of a Batch, and its tag: length-delimited, wire type 2 of protobuf.
STRINGS_FIELD: Final = 9
_STRINGS_TAG: Final = bytes([STRINGS_FIELD << 3 | 2])
_SHORT_BYTES: Final = 0x80  # A longer text has a length of two bytes.


def find_replacement(consumer: ConsumerName) -> tuple[bytes, bytes]:
    """What a batch calls a consumer, and as many bytes that name nobody."""
    if consumer.kind in (ConsumerKind.PRINCIPAL, ConsumerKind.CREDENTIAL):
        return int(consumer.value, 16).to_bytes(_HASH_BYTES, "little"), bytes(_HASH_BYTES)
    text = consumer.value.encode()
    length = len(text)
    size = bytes([length]) if length < _SHORT_BYTES else bytes([length & 0x7F | _SHORT_BYTES, length >> 7])
    return _STRINGS_TAG + size + text, _STRINGS_TAG + size + b"-" * length


WAIT_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.25
_NOTHING: Final = "1 = 0"  # The condition of a statement that deletes no row.
_CALLS: Final = ("rows_minute", "rows_hour")
# Table and the condition under which a row speaks of the consumer `id`, which texts name by `pattern`.
_SPOKEN: Final = (("detector_reports", "consumer = {id:String}"),)
# Texts of people and of rules, and clients of encrypted connections.
_WRITTEN: Final = (
    ("endpoint_risks", "explanation"),
    ("coverage_rows", "handshakes"),
)
# Who uses tools of MCP, and who asks models: one object of JSON a use, which names the consumer and where it called
# from.
_USES: Final = (
    "schemas",
    "part IN (241, 250) AND match(operations, {pattern:String})",
    "UPDATE operations = replaceRegexpOne(replaceRegexpAll(operations, {use:String}, ''), ',]$', ']')",
)
_COLUMNS: Final = {
    ConsumerKind.PRINCIPAL: "principal = reinterpretAsUInt64(reverse(unhex({value:String})))",
    ConsumerKind.CREDENTIAL: "credential = reinterpretAsUInt64(reverse(unhex({value:String})))",
    ConsumerKind.ADDRESS: "client_address = {value:String}",
    ConsumerKind.WORKLOAD: "client_workload = {value:String}",
}


def check_consumer(consumer: ConsumerName) -> None:
    """Raises ValueError with one sentence where it is nobody."""
    if consumer.kind not in _COLUMNS or not consumer.value:
        raise ValueError(f"{consumer.id} names nobody; write principal:, credential:, address: or workload:")


def find_credentials(store: Store, consumer: ConsumerName) -> list[ConsumerName]:
    """The credentials that only this principal used, which name it too. Raises StoreError."""
    if consumer.kind is not ConsumerKind.PRINCIPAL:
        return []
    mine = _COLUMNS[consumer.kind]
    calls = " UNION ALL ".join(f"SELECT credential, principal FROM {table}" for table in _CALLS)
    rows = store.query(
        f"SELECT lower(leftPad(hex(credential), 16, '0')) FROM ({calls}) WHERE credential != 0 "
        f"GROUP BY credential HAVING min({mine})",
        {"value": consumer.value},
    )
    return [ConsumerName(kind=ConsumerKind.CREDENTIAL, value=str(row[0])) for row in rows]


class TableEraser:
    """Erases in one store. `clock` gives seconds that only grow."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._layout = store, layout
        self._clock, self._wait = clock, wait

    def erase(self, consumer: ConsumerName, mention: Mention) -> dict[str, int]:
        """Delete and blank, and wait until nothing of it is on disk; gives rows by table. Raises StoreError."""
        condition = _COLUMNS[consumer.kind]
        parameters = {
            "id": consumer.id,
            "value": consumer.value,
            "pattern": mention.sql,
            "blank": mention.sql_replacement,
            "use": rf"\{{[^{{}}]*{mention.sql}[^{{}}]*\}},?",
        }
        work = [(table, condition, "DELETE") for table in _CALLS]
        work += [(table, where, "DELETE") for table, where in _SPOKEN]
        for table, column in _WRITTEN:
            change = f"UPDATE {column} = replaceRegexpAll({column}, {{pattern:String}}, {{blank:String}})"
            work.append((table, f"match({column}, {{pattern:String}})", change))
        work.append(_USES)
        counts: dict[str, int] = {}
        try:
            for table, where, change in work:
                found = int(self._store.query(f"SELECT count() FROM {table} WHERE {where}", parameters)[0][0])
                if found and not counts.get(table):
                    self._alter(table, "MODIFY SETTING old_parts_lifetime = 1, finished_mutations_to_keep = 1")
                counts[table] = counts.get(table, 0) + found
                if found:
                    self._mutate(table, f"{change} WHERE {where}", parameters)
            self._forget([table for table, count in counts.items() if count])
        finally:
            for table in [table for table, count in counts.items() if count]:
                self._alter(table, "RESET SETTING old_parts_lifetime, finished_mutations_to_keep")
        return counts

    def _alter(self, table: str, change: str, parameters: Mapping[str, str] | None = None) -> None:
        self._store.execute(f"ALTER TABLE {table} {change}", parameters)

    def _mutate(self, table: str, change: str, parameters: Mapping[str, str] | None = None) -> None:
        self._alter(table, change, parameters)
        self._wait_for("mutations", "NOT is_done", [table], "is still being rewritten")

    def _forget(self, tables: Sequence[str]) -> None:
        """Wait until the parts of before and the statements are gone; of statements the engine keeps the last, so that
        is to be one without a name."""
        if not tables:
            return
        now = int(self._store.query("SELECT toUnixTimestamp(now())")[0][0])
        for table in tables:
            self._mutate(table, f"DELETE WHERE {_NOTHING}")
        # Parts that later merges leave behind never held it.
        is_old = f"NOT active AND toUnixTimestamp(modification_time) <= {now}"
        self._wait_for("parts", is_old, tables, "still has parts of before")
        self._wait_for("mutations", f"position(command, '{_NOTHING}') = 0", tables, "still has old statements")

    def _wait_for(self, system: str, condition: str, tables: Sequence[str], what: str) -> None:
        names, replicas = ", ".join(f"'{table}'" for table in tables), self._layout.replicas
        source = f"clusterAllReplicas('{replicas}', system.{system})" if replicas else f"system.{system}"
        sql = f"SELECT table FROM {source} WHERE database = currentDatabase() AND table IN ({names}) AND {condition}"
        until = self._clock() + WAIT_SECONDS
        while rows := self._store.query(f"{sql} LIMIT 1"):
            if self._clock() > until:
                raise StoreError(
                    f"The table {rows[0][0]} {what} after {WAIT_SECONDS:.0f} s; erase again later.",
                    "it is still rewriting its tables, so erase again later",
                )
            # The engine's cleaner rests for minutes; this wakes it. Servers that do not know it clean up by themselves.
            for table in tables if system == "parts" else ():
                with suppress(StoreError):
                    self._store.execute(f"SYSTEM START CLEANUP {table}")
            self._wait(_LOOK_SECONDS)


DETECTORS_SECONDS: Final = 120.0  # They may be in the midst of a backlog.

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was found and is gone, by place."""

    rows: dict[str, int]  # By table; rows deleted, or blanked.
    log_batches: int
    detector_subjects: int
    alerts: int  # Open and recent ones, of those in `rows`.
    notifications: int  # That waited to be sent, or stood in a file of ours.
    blocks: int
    audit_lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Eraser:
    """The places. `notified` takes back what waits to be sent about a pattern. `erase_detected` has the detectors
    forget a consumer (DetectorProcess.erase), and `erase_state` the state, by its id and pattern; `forget` has sums of
    consumers made anew."""

    log: Log
    writer: StoreWriter
    store: Store
    tables: TableEraser
    erase_detected: Callable[[str, float], int]
    erase_state: Callable[[str, re.Pattern[str]], dict[str, int]]
    alert_service: AlertService
    responder: Responder
    notified: Callable[..., int]
    forget: Callable[[], None]
    lock: threading.Lock

    @use_budget(None)  # It is done as a whole, however long it takes.
    def erase(self, consumer: ConsumerName, wish: Erasing) -> Erased:
        """Everywhere, and wait until it is so. Raises ValueError for who is nobody, ConflictError, StoreError,
        TimeoutError, OSError; after any of the last three another run does the rest.
        """
        check_consumer(consumer)
        mention = find_mention(consumer)
        if not self.lock.acquire(blocking=False):
            raise ConflictError("Another erasure or a backup is under way; erase this consumer when that is done.")
        try:
            names = [consumer, *find_credentials(self.store, consumer)]
            hashes = {int(name.value, 16) for name in names if name.is_hash}
            # First, for it may refuse.
            blocks = self.responder.erase(consumer.id, mention.pattern, hashes, wish)
            with self.writer.pause(), self.log.hold():
                batches = sum(self.log.erase(*find_replacement(name)) for name in names)
            self.log.await_stored()
            subjects = self.erase_detected(consumer.id, DETECTORS_SECONDS)
            alerts = self.alert_service.erase(mention.pattern)
            notifications = self.notified(mention.pattern)
            rows = self.erase_state(consumer.id, mention.pattern) | self.tables.erase(consumer, mention)
        finally:
            try:
                self.forget()
            finally:
                self.lock.release()
        logger.info("A consumer (%s) was erased by %s.", consumer.kind, wish.by)
        return Erased(
            rows=rows,
            log_batches=batches,
            detector_subjects=subjects,
            alerts=alerts,
            notifications=notifications,
            blocks=blocks.blocks,
            audit_lines=blocks.audit_lines,
        )

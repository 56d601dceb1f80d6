"""The tables without one consumer: its rows of calls, alerts, timelines, mutes, reports and what is known to be good
go; where somebody wrote its name into a text that stays, the name is blanked.

Sums of all consumers together (routes_hour, routes_day) name nobody and stay. Neither what was deleted nor the
statement that deleted it, which names the consumer, is left on disk: the engine keeps both for a while, so it is told
not to, and waited for.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from collector.erasure.mention import Mention
from collector.inventory.consumer import ConsumerKind, ConsumerName
from collector.store.base import Store, StoreError
from collector.store.tables.layout import Layout

WAIT_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.25
_NOTHING: Final = "1 = 0"  # The condition of a statement that deletes no row.
_CALLS: Final = ("rows_minute", "rows_hour")
# Table and the condition under which a row speaks of the consumer `id`, which texts name by `pattern`.
_SPOKEN: Final = (
    ("alert_actions", "alert_id IN (SELECT id FROM alerts WHERE consumer = {id:String})"),
    ("incident_entries", "match(title, {pattern:String}) OR match(why, {pattern:String})"),
    ("alert_mutes", "match(subject, {pattern:String})"),
    ("detector_reports", "consumer = {id:String}"),
    ("known_good", "consumer = {id:String}"),
    ("change_facts", "detail = {id:String} OR subject = {id:String}"),
    ("alerts", "consumer = {id:String} OR match(title, {pattern:String}) OR match(why, {pattern:String})"),
)
# Texts of people and of rules, and clients of encrypted connections.
_WRITTEN: Final = (
    ("known_good", "note"),
    ("detection_decisions", "note"),
    ("alert_actions", "note"),
    ("alert_mutes", "reason"),
    ("findings", "note"),
    ("findings", "why"),
    ("finding_changes", "note"),
    ("endpoint_risks", "explanation"),
    ("coverage_rows", "handshakes"),
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
        }
        work = [(table, condition, "DELETE") for table in _CALLS]
        work += [(table, where, "DELETE") for table, where in _SPOKEN]
        for table, column in _WRITTEN:
            change = f"UPDATE {column} = replaceRegexpAll({column}, {{pattern:String}}, {{blank:String}})"
            work.append((table, f"match({column}, {{pattern:String}})", change))
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
        layout = self._layout
        self._store.execute(f"ALTER TABLE {table}{layout.write_table}{layout.on_cluster} {change}", parameters)

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
        layout = self._layout
        names = ", ".join(f"'{table}{layout.write_table}'" for table in tables)
        source = f"clusterAllReplicas('{layout.cluster}', system.{system})" if layout.cluster else f"system.{system}"
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
                    self._store.execute(f"SYSTEM START CLEANUP{layout.on_cluster} {table}{layout.write_table}")
            self._wait(_LOOK_SECONDS)

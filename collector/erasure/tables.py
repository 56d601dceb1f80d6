"""The tables without one consumer: its rows of calls, alerts, timelines, mutes, reports and what is known to be good.

Sums of all consumers together (routes_hour, routes_day) name nobody and stay.
"""

from typing import Final

from collector.inventory.consumer import ConsumerKind, ConsumerName
from collector.store.base import Store

_CALLS: Final = ("rows_minute", "rows_hour")
# Table and the condition under which a row speaks of the consumer `id`.
_SPOKEN: Final = (
    (
        "alert_actions",
        "alert_id IN (SELECT id FROM alerts WHERE consumer = {id:String})",
    ),
    ("incident_entries", "position(title, {id:String}) > 0 OR position(why, {id:String}) > 0"),
    ("alert_mutes", "position(subject, {id:String}) > 0"),
    ("detector_reports", "consumer = {id:String}"),
    ("known_good", "consumer = {id:String}"),
    ("alerts", "consumer = {id:String} OR position(title, {id:String}) > 0 OR position(why, {id:String}) > 0"),
)
_COLUMNS: Final = {
    ConsumerKind.PRINCIPAL: "principal = reinterpretAsUInt64(reverse(unhex({value:String})))",
    ConsumerKind.CREDENTIAL: "credential = reinterpretAsUInt64(reverse(unhex({value:String})))",
    ConsumerKind.ADDRESS: "client_address = {value:String}",
    ConsumerKind.WORKLOAD: "client_workload = {value:String}",
}


def erase_from_tables(
    store: Store, consumer: ConsumerName, *, suffix: str = "", on_cluster: str = ""
) -> dict[str, int]:
    """Delete its rows and wait until they are gone; gives rows by table. `suffix` and `on_cluster` are the layout's
    (collector/store/tables/layout.py). Raises StoreError, and ValueError for a consumer that is nobody.
    """
    condition = _COLUMNS.get(consumer.kind)
    if condition is None or not consumer.value:
        raise ValueError(f"{consumer.id} names nobody; write principal:, credential:, address: or workload:")
    parameters = {"id": consumer.id, "value": consumer.value}
    asked = [*((table, condition) for table in _CALLS), *_SPOKEN]
    counts: dict[str, int] = {}
    for table, where in asked:
        counts[table] = int(store.query(f"SELECT count() FROM {table} WHERE {where}", parameters)[0][0])
        if counts[table]:
            store.execute(
                f"ALTER TABLE {table}{suffix}{on_cluster} DELETE WHERE {where} SETTINGS mutations_sync = 2", parameters
            )
    return counts

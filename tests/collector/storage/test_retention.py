"""How long rows are kept is a setting, and tables that are there already follow it."""

from dataclasses import replace

from collector.storage.clickhouse import TABLES, ClickHouseStore
from collector.storage.disk import list_stored
from collector.storage.embedded import EmbeddedStore
from collector.storage.tables.layout import Layout, Retention

KEPT = Retention(minute_hours=72, hour_days=30, alert_days=60)


def read_created(store: ClickHouseStore) -> dict[str, str]:
    return dict(store.query("SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase()"))


def change(store: ClickHouseStore, retention: Retention) -> list[str]:
    """Make the tables keep rows as long as a start with these settings does; gives the statements."""
    created, layout = read_created(store), replace(store.layout, retention=retention)
    statements = [one for table in TABLES for one in table.render_expiry(layout, created[table.name])]
    for statement in statements:
        store.execute(statement)
    return statements


def test_tables_follow_the_settings_and_are_left_alone_where_they_do_already(embedded: EmbeddedStore) -> None:
    assert change(embedded, Retention()) == []
    changed = change(embedded, KEPT)
    tables = {statement.split()[2] for statement in changed}
    assert {"rows_minute", "rows_hour", "routes_day", "schemas"} <= tables
    assert not tables & {"routes_hour", "findings"}
    created = read_created(embedded)
    assert "TTL time + toIntervalHour(72)" in created["rows_minute"]
    assert "TTL time + toIntervalDay(30)" in created["rows_hour"]
    assert change(embedded, KEPT) == []
    change(embedded, Retention())
    assert change(embedded, Retention()) == []


def test_parts_that_are_there_already_expire_by_the_new_time(embedded: EmbeddedStore) -> None:
    embedded.execute("TRUNCATE TABLE rows_minute")
    embedded.execute("INSERT INTO rows_minute (time, route_id, calls) VALUES (now(), 1, 1)")

    def read_expiry() -> int:
        found = embedded.query(
            "SELECT max(dateDiff('hour', now(), delete_ttl_info_max)) FROM system.parts "
            "WHERE active AND table = 'rows_minute'"
        )
        return int(found[0][0])

    assert read_expiry() in (47, 48)
    change(embedded, KEPT)
    embedded.execute("ALTER TABLE rows_minute MATERIALIZE TTL SETTINGS mutations_sync = 2")  # And all before it.
    assert read_expiry() in (71, 72)
    change(embedded, Retention())
    embedded.execute("TRUNCATE TABLE rows_minute")


def test_every_table_that_expires_says_when_in_a_way_that_is_found_again() -> None:
    for table in TABLES:
        if table.expiry:
            created = f"CREATE TABLE x TTL {table.write_expiry(Layout())} SETTINGS y = 1"
            assert list(table.render_expiry(Layout(), created)) == []


def test_what_is_stored_is_listed_with_what_a_day_and_the_whole_span_take(embedded: EmbeddedStore) -> None:
    for table in ("rows_minute", "rows_hour"):
        embedded.execute(f"TRUNCATE TABLE {table}")
    now = float(embedded.query("SELECT toUnixTimestamp(now())")[0][0])
    times = f"({now:.0f} - 36000, 1, 1), ({now:.0f}, 1, 1)"
    embedded.execute(f"INSERT INTO rows_minute (time, route_id, calls) VALUES {times}")
    stored = {one.what: one for one in list_stored(embedded, KEPT, now)}
    minutes, hours = stored["Calls by minute"], stored["Calls by hour"]
    assert (minutes.rows, minutes.setting, minutes.kept_seconds) == (2, "retention.minute_hours", 72 * 3_600)
    assert minutes.bytes > 0 and minutes.bytes_a_day == round(minutes.bytes * 2.4)
    assert minutes.bytes_full == minutes.bytes_a_day * 3
    assert hours.kept_seconds == 30 * 86_400 and stored["Others"].rows >= 0
    embedded.execute("TRUNCATE TABLE rows_minute")

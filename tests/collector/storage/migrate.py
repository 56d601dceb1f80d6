"""Run in a process of its own, for one has one engine: a store of release 0.1.0 with calls in it, opened by this one.

Takes the directory, prints what the tables say of the calls of before and after, as JSON.
"""

import json
import sys
import time
from pathlib import Path

import clickhouse_connect

from collector.storage.clickhouse import render_statements
from collector.storage.embedded import EmbeddedStore

BEFORE = Path(__file__).with_name("tables_0_1_0.sql")
AT = f"toDateTime({int(time.time()) // 3_600 * 3_600}, 'UTC')"  # Lately: minutes are not kept for ever.
# Route 1 has 5 calls with 200, of them 3 with credentials, and 2 with 500.
OLD_ROWS = f"""
INSERT INTO rows_minute (time, route_id, status_code, authentication, role, protocol_version, calls, last_seen) VALUES
    ({AT}, 1, 200, 8, 1, '1.1', 3, {AT}),
    ({AT}, 1, 200, 0, 1, '1.1', 2, {AT}),
    ({AT}, 1, 500, 0, 1, '1.1', 2, {AT})"""
# The same minute and keys but for the RPC status: 4 OK with credentials, 1 OK that nobody could judge, 7 INTERNAL.
NEW_ROWS = f"""
INSERT INTO rows_minute (time, route_id, status_code, authentication, role, protocol_version, calls, kind, rpc_status)
VALUES
    ({AT}, 1, 200, 8, 1, '2', 4, 1, 1),
    ({AT}, 1, 200, 262144, 1, '2', 1, 1, 1),
    ({AT}, 1, 200, 8, 1, '2', 7, 1, 14)"""


def main(directory: Path) -> None:
    """Fill, open, open again, tell."""
    directory.mkdir(exist_ok=True)
    client = clickhouse_connect.get_client(interface="chdb", path=str(directory / "engine"))
    for statement in BEFORE.read_text().split(";\n"):
        if statement.strip():
            client.command(statement)
    client.command(OLD_ROWS)
    client.command("INSERT INTO endpoint_routes (route_id, version, endpoint_id) VALUES (7, 1, 'old')")
    client.close()
    store = EmbeddedStore(directory)
    store.execute(NEW_ROWS)
    for statement in render_statements(store.layout, {}):
        store.execute(statement)
    store.execute("OPTIMIZE TABLE rows_minute FINAL")
    store.execute("OPTIMIZE TABLE routes_day FINAL")
    told = {
        "minute": store.query(
            "SELECT status_code, rpc_status, sum(calls) FROM rows_minute GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        "hour": store.query("SELECT kind, rpc_status, sum(calls) FROM rows_hour GROUP BY 1, 2 ORDER BY 1, 2"),
        "day": store.query(
            "SELECT sum(calls), sum(success_calls), sum(error_calls), sum(judged_calls), sum(authenticated_calls), "
            "groupBitOr(protocols) FROM routes_day"
        ),
        "named": store.query("SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id = 'old'"),
        # By part: one that was not made there is of no use.
        "indexed_bytes": store.query(
            "SELECT name, secondary_indices_compressed_bytes > 0 FROM system.parts "
            "WHERE active AND table = 'endpoint_routes' AND database = currentDatabase()"
        ),
    }
    print(json.dumps(told))
    store.close()


main(Path(sys.argv[1]))

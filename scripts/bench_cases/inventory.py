"""How long the inventory's questions take with 100,000 endpoints and a day of rows in an embedded store.

    scripts/bench inventory [--endpoints 100000] [--consumers 1000000] [--rounds 7] [--directory DIR]

Every endpoint is called each hour by one consumer, and one in 500 each minute by five; one in ten is seen at both
ends and one in twenty at the client only. Further consumers make one call each, spread over the day. One endpoint in
four is reached from outside. A directory that holds a bench's store is used again; without one it is made aside and
removed. One JSON line a question: milliseconds of wall time (median, and the 95th percentile of the rounds) and of
process time, which other work on the machine does not lengthen. `next pages` are those after the second, which keeps
the ranking that they are cut from (collector/inventory/endpoints/list_query.py).
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from collector.inventory.consumers.consumers import ConsumerInventory, ConsumerQuery
from collector.inventory.consumers.labels import LabelBook
from collector.inventory.consumers.sums import ConsumerSums
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.filters import EndpointQuery, EndpointSort
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.query import Since, Span, span_since
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore, open_state

HOURS = 24
FILTERS: tuple[dict[str, str], ...] = (
    *({"q": "items77 get"}, {"service": "svc7"}, {"auth": "none"}, {"data": "personal"}, {"exposure": "external"}),
    *({"risk_min": "70"}, {"data": "response:personal", "auth": "none", "exposure": "external"}),
    *({"data": "personal", "exposure": "external", "risk_min": "50", "sort": "risk"}, {"status": "4xx"}),
    *({"status": "500"}, {"finding": "any"}, {"first_seen_since": "7d"}, {"last_seen_before": "2h"}),
)
BUSY_SHARE = 500
CLIENT_SHARE = 20
BOTH_SHARE = 10
SERVICES = 200
CHUNK = 25_000

_ROUTE_COLUMNS = "'', '', concat('svc', toString(number % {services})), 1, 'node-1', 8080"
_HOST = "if(number % 3 = 0, 'gateway.example', concat('svc', toString(number % {services}), '.example'))"
_METHOD = "['GET', 'POST', 'PUT', 'DELETE'][number % 4 + 1]"
ROWS = """
INSERT INTO rows_minute (time, route_id, principal, principal_kind, credential, client_address, client_workload,
    authentication, status_code, role, hop, protocol_version, first_seen, last_seen, request_content_type,
    response_content_type, flags, calls, request_bytes, response_bytes, time_to_first_byte_sum_us, duration_sum_us,
    duration_max_us, duration, response_size, objects_count, object_numeric_calls, object_monotonic_steps,
    object_numeric_span, objects)
WITH cityHash64(n, m, k, role) AS x, 60 + toUInt16(n % 60) AS bucket, toDateTime({now} - m * 60) AS at
SELECT at, cityHash64(n), cityHash64('p', n % 100, x % 40), 1, 0, concat('10.0.', toString(n % 50), '.',
    toString(x % 40)), '', if(n % 3 = 0, 0, 8), [200, 200, 200, 200, 200, 200, 200, 404, 500, 201][x % 10 + 1], role,
    1, '1.1', at + 1, at + 59, '', 'application/json', 0, (1 + x % 20 AS c), c * 200, c * 1000, c * 300, c * 500, 9000,
    ([bucket, bucket + 4, bucket + 8, bucket + 13], [c, toUInt64(1), toUInt64(1), toUInt64(1)]),
    ([70, 79], [c, toUInt64(1)]), 2, 0, 0, 0, [x, x + 1]
FROM ({source})
SETTINGS max_execution_time = 0"""


def seed(store: EmbeddedStore, endpoints: int, now: int, consumers: int = 0) -> None:
    """Routes, their endpoints and their rows; some 40 rows an endpoint, and one a further consumer."""
    service, host = _ROUTE_COLUMNS.format(services=SERVICES), _HOST.format(services=SERVICES)
    store.execute(
        f"INSERT INTO routes SELECT cityHash64(number), {service}, {host}, {_METHOD}, [1, 3], ['items', ''], [0, 0], "
        f"[5, 0], false, toDateTime({now} - 86400 - number % 86400) FROM numbers({endpoints})"
    )
    store.execute(
        "INSERT INTO endpoint_routes SELECT cityHash64(number), 1, lower(hex(cityHash64(number, 1))), "
        f"concat('svc', toString(number % {SERVICES}), ':8080'), {service}, {host}, {_METHOD}, "
        f"concat('/api/v', toString(number % 3), '/items', toString(number), '/{{item_id}}') FROM numbers({endpoints})"
    )
    store.execute(
        "INSERT INTO endpoint_risks (endpoint_id, computed_at, score, level, exposure, service, explanation) "
        f"SELECT lower(hex(cityHash64(number, 1))), {now}, number % 101, 'low', "
        "['external', 'internal', 'internal', 'unknown'][number % 4 + 1], 'svc', "
        'concat(\'{"formula":"bench","score":\', toString(number % 101), \',"level":"low","base":0,\''
        ", '\"terms\":[],\"findings\":[\"', repeat('x', 1900), '\"]}') "
        f"FROM numbers({endpoints})"
    )
    of_hour = """SELECT number AS n, {hour} * 60 + cityHash64(number, {hour}) % 60 AS m, 0 AS k,
        arrayJoin(multiIf(number % {client} = 1, [2], number % {both} = 2, [1, 2], [1])) AS role
        FROM numbers({first}, {count})"""
    of_busy = """SELECT intDiv(number, 300) * {busy} AS n, {hour} * 60 + intDiv(number, 5) % 60 AS m,
        number % 5 AS k, 1 AS role FROM numbers({busy_first}, {busy_count})"""
    shares = {"client": CLIENT_SHARE, "both": BOTH_SHARE, "busy": BUSY_SHARE}
    for hour in range(HOURS):
        for first in range(0, endpoints, CHUNK):  # A statement may take 30 s.
            count = min(CHUNK, endpoints - first)
            calls = {"busy_first": first // BUSY_SHARE * 300, "busy_count": count // BUSY_SHARE * 300}
            for source in (of_hour, of_busy):
                chosen = source.format(hour=hour, first=first, count=count, **shares, **calls)
                store.execute(ROWS.format(now=now // 60 * 60 - 60, source=chosen))
    # An hour at a time, which is one partition.
    of_consumers = """SELECT cityHash64(number, 'n') % {endpoints} AS n, {hour} * 60 + number % 60 AS m, 0 AS k,
        1 AS role FROM numbers({first}, {count})"""
    for hour in range(HOURS):
        first, last = consumers * hour // HOURS, consumers * (hour + 1) // HOURS
        source = of_consumers.format(endpoints=endpoints, hour=hour, first=first, count=last - first)
        rows = ROWS.format(now=now // 60 * 60 - 60, source=source)
        store.execute(rows.replace("cityHash64('p', n % 100, x % 40)", "cityHash64('c', x)"))
    # What the engine does by itself within minutes, so that every run finds the same parts.
    partitions = "SELECT DISTINCT table, partition_id FROM system.parts WHERE active AND database = currentDatabase()"
    for table, partition in store.query(f"{partitions} AND (table LIKE 'rows%' OR table LIKE 'routes_%')"):
        store.execute(f"OPTIMIZE TABLE {table} PARTITION ID '{partition}' FINAL")


def list_questions(store: EmbeddedStore, state: StateStore, now: float) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every kind of question, by name."""
    who = ConsumerSql()
    endpoints = EndpointInventory(reader=store, who=who)
    consumers = ConsumerInventory(reader=store, who=who, labels=LabelBook(state, time.time))
    for since in (Since.HOUR, Since.DAY, Since.WEEK):
        span = span_since(since, now)

        def list_endpoints(query: EndpointQuery, span: Span = span) -> Callable[[], object]:
            return lambda: endpoints.list_endpoints(query, span)

        for sort in EndpointSort:
            query = EndpointQuery(since=since, sort=sort)
            yield f"{since} list by {sort}", list_endpoints(query)
            page = endpoints.list_endpoints(query, span)
            if page.next_cursor:
                later = query.model_copy(update={"cursor": page.next_cursor})
                yield f"{since} next pages by {sort}", list_endpoints(later)
        page = endpoints.list_endpoints(EndpointQuery(since=since), span)
        for asked in FILTERS:
            named = " ".join(f"{name}={value}" for name, value in asked.items())
            yield f"{since} list {named}", list_endpoints(EndpointQuery.model_validate({"since": since, **asked}))
        yield f"{since} detail", lambda s=span, i=page.items[0].id: endpoints.get_endpoint(i, s)
        everyone = ConsumerQuery(since=since)
        yield f"{since} consumers", lambda q=everyone, s=span: consumers.list_consumers(q, s)
        if since is Since.DAY:
            sums = ConsumerSums(store=store, who=who, clock=lambda: now)
            while sums.find(span) is None and sums.update():
                pass
            kept = ConsumerInventory(reader=store, who=who, labels=LabelBook(state, time.time), sums=sums)
            yield f"{since} consumers with sums", lambda q=everyone, s=span, k=kept: k.list_consumers(q, s)


def measure(task: Callable[[], object], rounds: int) -> dict[str, float]:
    """After one round that warms."""
    task()
    wall, process = [], []
    for _ in range(rounds):
        start, start_process = time.perf_counter(), time.process_time()
        task()
        wall.append((time.perf_counter() - start) * 1e3)
        process.append((time.process_time() - start_process) * 1e3)
    wall.sort()
    return {
        "ms_median": round(statistics.median(wall), 1),
        "ms_p95": round(wall[min(len(wall) - 1, int(0.95 * len(wall)))], 1),
        "cpu_ms_median": round(statistics.median(process), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench inventory")
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--consumers", type=int, default=0, help="Further ones, with a call each.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--only", default="", help="Questions with this in their name.")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="apidae-bench-"))
    store = EmbeddedStore(directory)
    state = open_state(directory)
    try:
        if not store.query("SELECT count() FROM routes")[0][0]:
            start = time.monotonic()
            seed(store, options.endpoints, int(time.time()), options.consumers)
            rows = int(store.query("SELECT count() FROM rows_minute")[0][0])
            figures = {"seconds": round(time.monotonic() - start, 1), "rows": rows, "endpoints": options.endpoints}
            print(json.dumps({"scenario": "seed", **figures}), flush=True)
        for name, task in list_questions(store, state, time.time()):
            if options.only in name:
                print(json.dumps({"scenario": name, **measure(task, options.rounds)}), flush=True)
    finally:
        state.close()
        store.close()
        if options.directory is None:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()

"""Which rows count, said once: the SQL that every inventory question starts from.

A call seen at both ends has a server-role and a client-role row on different nodes. The server's row counts; the
client's counts only
where no sensor saw that server, which nobody can know when the row is written. So it is decided at query time: a
client-role row is
left out when its host was answered 2xx by a watched server in the same span. The 2xx keeps a stranger who sends
`Host: api.example.com` to
any of our servers and is turned away from hiding the real outbound calls to api.example.com. Hosts that name nothing
(empty, and
`other` past the host cap) never match.

Every value reaches the database as a typed parameter; the texts here hold only names of our own tables and columns.
"""

from typing import Any

from collector.inventory.span import Span

ROLE_SERVER = 1  # proto Role.
ROLE_CLIENT = 2
HOP_PROXY = 2  # proto Hop.
FLAG_LOSSY = 1 << 5  # proto RowFlag.


# Route -> endpoint, with the time the endpoint's route was first seen within retention.
NAMES = """
    names AS (
        SELECT m.route_id AS route_id, m.endpoint_id AS endpoint_id, m.service AS service, m.cluster AS cluster,
        m.namespace AS namespace,
            m.workload AS workload, m.workload_kind AS workload_kind, m.host_name AS host_name, m.port AS port,
            m.host AS host,
            m.method AS method, m.url_template AS url_template, f.first_seen AS first_seen
        FROM endpoint_routes AS m FINAL
        LEFT JOIN (SELECT route_id, toUnixTimestamp(min(first_seen)) AS first_seen FROM routes GROUP BY route_id) AS f
            ON f.route_id = m.route_id
    )"""

IN_SPAN = "r.time >= toDateTime({start:UInt32}, 'UTC') AND r.time < toDateTime({end:UInt32}, 'UTC')"

SUCCESS = "r.status_code BETWEEN 200 AND 299"
CLIENT_ERROR = "r.status_code BETWEEN 400 AND 499"
ERROR = "(r.status_code >= 500 OR r.status_code = 0)"

# First known of the four actor columns; a row past the cap has none and is nobody.
CONSUMER_ID = """multiIf(
        r.principal != 0, concat('principal:', leftPad(lower(hex(r.principal)), 16, '0')),
        r.credential != 0, concat('credential:', leftPad(lower(hex(r.credential)), 16, '0')),
        r.client_address != '', concat('address:', r.client_address),
        r.client_workload != '', concat('workload:', r.client_workload),
        'other:')"""
HAS_CONSUMER = "(r.principal != 0 OR r.credential != 0 OR r.client_address != '' OR r.client_workload != '')"
# The same as one number, for distinct counts.
CONSUMER_KEY = """multiIf(
        r.principal != 0, r.principal,
        r.credential != 0, r.credential,
        r.client_address != '', cityHash64(r.client_address),
        cityHash64('workload', r.client_workload))"""
CONSUMER_COUNT = f"uniqCombined64If(12)({CONSUMER_KEY}, {HAS_CONSUMER})"


def rows_table(span: Span) -> str:
    """The roll-up that answers for a span."""
    return "rows_hour" if span.is_hourly else "rows_minute"


def objects_count(span: Span) -> str:
    """Distinct objects: exact sets or sketches merged, and never fewer than one row's own estimate (a row past 256
    holds a sample)."""
    union = "uniqCombined64Merge(12)(r.objects_state)" if span.is_hourly else "uniqCombined64Array(12)(r.objects)"
    return f"greatest({union}, max(r.objects_count))"


def counted_rows(span: Span) -> str:
    """`FROM ... WHERE ...` of the rows that count, joined with their endpoints: aliases `r` and `n`. Needs NAMES in
    the WITH clause."""
    table = rows_table(span)
    return f"""
    FROM {table} AS r
    INNER JOIN names AS n ON n.route_id = r.route_id
    WHERE {IN_SPAN} AND (r.role = {ROLE_SERVER} OR n.host NOT IN (
        SELECT s.host FROM endpoint_routes AS s FINAL
        WHERE s.host NOT IN ('', 'other') AND s.route_id IN (
            SELECT r.route_id FROM {table} AS r WHERE {IN_SPAN} AND r.role = {ROLE_SERVER} AND {SUCCESS})))"""


def span_parameters(span: Span) -> dict[str, Any]:
    """The parameters that `counted_rows` needs."""
    return {"start": span.start, "end": span.end}

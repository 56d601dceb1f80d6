"""The statements that measure: every figure of some endpoints, and the history of one.

Rows of calls lie by route, so that only the rows of these endpoints are read.
"""

from collector.inventory.counted import (
    ERROR,
    HOP_PROXY,
    JUDGED,
    OUTCOME,
    PROTOCOL_BIT,
    UNREAD,
    ConsumerSql,
    counted_rows_of_routes,
    objects_count,
)
from collector.inventory.outbound import ROLE_CLIENT, ROLE_SERVER
from collector.inventory.partners import PartnerNetworks
from collector.inventory.public_address import is_public
from collector.inventory.span import Span

TOP_CONSUMERS = 20
ROUTES_MAX = 100
CONTENT_TYPES_MAX = 8
_AT_SERVER = f"r.role = {ROLE_SERVER} AND r.client_address != ''"
_PUBLIC = is_public("r.client_address")


def measures(span: Span, who: ConsumerSql, partners: PartnerNetworks) -> str:
    """All figures of the endpoints of some routes, by `owner`: its place among them (collector/inventory/outbound.py).
    The engine needs as long to read the statement as the rows of a page, so what follows from another column is left to
    collector/inventory/measured.py: calls by class of status, and those with credentials."""
    return f"""
SELECT
    transform(r.route_id, {{routes:Array(UInt64)}}, {{owners:Array(UInt32)}}, toUInt32(0)) AS owner,
    toUnixTimestamp(max(r.last_seen)) AS last_seen,
    sum(r.calls) AS calls,
    sumMap([toUInt16({OUTCOME})], [r.calls]) AS outcomes,
    sumMapIf([r.authentication], [r.calls], {JUDGED}) AS authentication,
    sumMap(r.duration) AS duration,
    max(r.duration_max_us) AS duration_max_us,
    sum(r.time_to_first_byte_sum_us) AS time_to_first_byte_sum_us,
    groupBitOr({PROTOCOL_BIT}) AS protocols,
    sumMapIf([r.rpc_status], [r.calls + r.ended_later], r.rpc_status != 0) AS rpc_statuses,
    sum(r.streams) AS streams,
    sum(r.stream_duration_sum_us) AS stream_duration_sum_us,
    sum(r.counted_messages_calls) AS counted_messages_calls,
    sum(r.request_messages) AS request_messages,
    sum(r.response_messages) AS response_messages,
    sum(r.records_returned) AS records_returned,
    sum(r.records_measured) AS records_measured,
    sum(r.request_bodies_read) AS request_bodies_read,
    sum(r.response_bodies_read) AS response_bodies_read,
    sum(r.attacks) AS attacks,
    sum(r.attacks_confirmed) AS attacks_confirmed,
    sumMap(r.data) AS data,
    sum(r.object_numeric_calls) AS numeric_calls,
    sum(r.object_monotonic_steps) AS monotonic_steps,
    sumIf(r.calls, {_AT_SERVER} AND {partners.condition}) AS partner_calls,
    sum(r.request_bytes) AS request_bytes,
    sum(r.response_bytes) AS response_bytes,
    sumMap(r.response_size) AS response_size,
    {who.count} AS consumers,
    groupBitOr(r.flags) AS flags,
    sumIf(r.calls, {_AT_SERVER}) AS addressed_calls,
    sumIf(r.calls, {_AT_SERVER} AND {_PUBLIC} AND NOT {partners.condition}) AS public_calls,
    anyIf(r.client_address, {_AT_SERVER} AND {_PUBLIC} AND NOT {partners.condition}) AS public_address,
    max(r.hop = {HOP_PROXY}) AS is_proxied,
    max(r.role = {ROLE_SERVER}) AS at_server,
    max(r.role = {ROLE_CLIENT}) AS at_client,
    groupUniqArray({CONTENT_TYPES_MAX})(r.protocol_version) AS protocol_versions,
    groupUniqArray({CONTENT_TYPES_MAX})(r.request_content_type) AS request_content_types,
    groupUniqArray({CONTENT_TYPES_MAX})(r.response_content_type) AS response_content_types
{counted_rows_of_routes(span)}
GROUP BY owner
HAVING sum(r.calls) > 0"""


def series_points(counted: str, who: ConsumerSql) -> str:
    """One row a step, ascending; steps without calls are absent."""
    return f"""
SELECT intDiv(toUnixTimestamp(r.time), {{step:UInt32}}) * {{step:UInt32}} AS point, sum(r.calls) AS calls,
sumIf(r.calls, {ERROR}) AS errors,
    sumMap(r.duration) AS duration, sum(r.request_bytes) AS request_bytes, sum(r.response_bytes) AS response_bytes,
    {who.count} AS consumers
{counted}
GROUP BY point
ORDER BY point"""


def top_consumers(counted: str, span: Span, who: ConsumerSql) -> str:
    """The busiest consumers of one endpoint."""
    return f"""
SELECT {who.id} AS consumer, sum(r.calls) AS calls, sumIf(r.calls, {ERROR}) AS errors,
    sumIf(r.calls, {UNREAD}) AS not_read, {objects_count(span.rollup)} AS objects,
    toUnixTimestamp(min(r.first_seen)) AS first_seen, toUnixTimestamp(max(r.last_seen)) AS last_seen
{counted}
GROUP BY consumer
ORDER BY calls DESC, consumer
LIMIT {TOP_CONSUMERS}"""


def status_codes(counted: str) -> str:
    """Calls by status code, most first."""
    return f"""
SELECT r.status_code AS status_code, sum(r.calls) AS total
{counted}
GROUP BY status_code
ORDER BY total DESC, status_code"""


def routes_behind(counted: str) -> str:
    """The routes behind one endpoint, busiest first."""
    return f"""
SELECT t.route_id AS route_id, t.method AS method, t.host AS host, t.segment_kind AS segment_kind, t.segment_text AS
segment_text,
    t.segment_length AS segment_length, t.has_trailing_slash AS has_trailing_slash, c.total AS calls
FROM (SELECT r.route_id AS route_id, sum(r.calls) AS total {counted} GROUP BY r.route_id) AS c
INNER JOIN (SELECT * FROM routes LIMIT 1 BY route_id) AS t ON t.route_id = c.route_id
ORDER BY calls DESC, route_id
LIMIT {ROUTES_MAX}"""

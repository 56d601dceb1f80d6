"""The days' summaries of routes with the endpoints to which these belong now, as a part of statements."""

from typing import Final

# `d` is a route's day, `n` its endpoint: endpoint_id, service, host, method, url_template, first_seen (unix seconds).
DAYS_OF_ENDPOINTS: Final = """FROM routes_day AS d
INNER JOIN (
    SELECT e.route_id AS route_id, e.endpoint_id AS endpoint_id, e.service AS service, e.host AS host,
        e.method AS method, e.url_template AS url_template, toUnixTimestamp(f.first_seen) AS first_seen
    FROM (SELECT * FROM endpoint_routes FINAL) AS e
    LEFT JOIN (SELECT route_id, min(first_seen) AS first_seen FROM routes GROUP BY route_id) AS f
        ON f.route_id = e.route_id
) AS n ON n.route_id = d.route_id"""

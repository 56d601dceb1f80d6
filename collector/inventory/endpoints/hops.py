"""Decides which endpoints are hops: those of a proxy in front of an application whose own endpoint is known.

A call through an ingress controller, a waypoint and a sidecar is seen three times: at both proxies and at the
application. It is one call. So lists, totals and findings exclude the proxies' endpoints. A proxy's
endpoint stays where no application behind it is seen: it may be all that is known of an API. Behind it is what has the
same cluster, host, method and template, is not a proxy's, and answered 2xx on the days of the span. Hosts that name
nothing (empty, and `other` past the host cap) never match. A proxy that rewrites host or path is listed beside its
application.

It reads the days' summaries, by the parameters `start` and `end`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from collector.inventory.endpoints.outbound import ROLE_SERVER, WITHIN_DAYS
from collector.storage.records import Reader, select


class HopView(StrEnum):
    """Whether a proxy's endpoints are listed, where the application behind it has the same ones."""

    INCLUDE = "include"
    EXCLUDE = "exclude"
    ONLY = "only"


# Routes that a proxy served on these days.
_PROXIED: Final = f"""SELECT d.route_id FROM routes_day AS d
            WHERE {WITHIN_DAYS} AND d.role = {ROLE_SERVER} AND d.proxied_calls > 0"""
_NAMED_ALIKE: Final = f"""SELECT route_id, cluster, host, method, url_template FROM endpoint_routes FINAL
            WHERE host NOT IN ('', 'other') AND (host, method) IN (
                SELECT host, method FROM endpoint_routes WHERE route_id IN ({_PROXIED}))"""
HOP_ROUTES: Final = f"""
        SELECT arrayJoin(groupArrayIf(a.route_id, a.is_hop)) AS route_id
        FROM (
            SELECT d.route_id AS route_id, sum(d.proxied_calls) = sum(d.calls) AS is_hop,
                max(d.success_calls > 0) AS is_answered
            FROM routes_day AS d
            WHERE {WITHIN_DAYS} AND d.role = {ROLE_SERVER} AND d.route_id IN (
                SELECT route_id FROM ({_NAMED_ALIKE}))
            GROUP BY d.route_id
        ) AS a
        INNER JOIN ({_NAMED_ALIKE}) AS n ON n.route_id = a.route_id
        GROUP BY n.cluster, n.host, n.method, n.url_template
        HAVING max(NOT a.is_hop AND a.is_answered)"""


def restrict_hops(reader: Reader, view: HopView, route: str, parameters: Mapping[str, Any]) -> str:
    """` AND ..`, a condition on `route`, an expression of route ids; `parameters` are the span's. Few installations
    have proxies, and to look for one costs a fifth of a statement that is ready for many. Raises StoreError."""
    if view is HopView.INCLUDE:
        return ""
    is_excluded = view is HopView.EXCLUDE
    if not select(reader, f"{_PROXIED} LIMIT 1", parameters):
        return "" if is_excluded else " AND false"
    return f" AND {route} {'NOT ' * is_excluded}IN ({HOP_ROUTES})"

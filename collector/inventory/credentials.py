"""Finds out which possible credentials are credentials: outcomes of calls in, rows of `proven_carriers` out.

A sensor reports a value that looks random under a name that says nothing as a possible credential, and its carrier, as
`header x-shop-thing` (proto Rows.carriers). It counts as none, unless behaviour proves it. On one endpoint

    calls with this carrier and no other credential were served, at least SERVED_MIN, and at most a third was refused,
    calls with no credential at all were refused, at least REFUSED_MIN, and hardly any was served.

A refusal by 401 speaks of credentials. One by 403 may be a policy on addresses, so it counts only from an address from
which calls with the carrier were served. What is proven on one endpoint holds for all of the service, in the past too,
because rows are read with `collector.core.kinds.find_authentication`. Consumers stay as they are: the value names
nobody.

The evidence is that of the last EVIDENCE_DAYS. A carrier is forgotten with its last row of calls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from collector.core.kinds import POSSIBLE_CREDENTIAL, find_outcome, is_success
from collector.storage.base import Store
from collector.storage.records import select

EVIDENCE_DAYS: Final = 7
SERVED_MIN: Final = 3
REFUSED_MIN: Final = 3
OPEN_SHARE: Final = 0.02  # Of the calls without: more that are served mean that nothing is asked for.
ADDRESSES_MAX: Final = 1_000  # Of one endpoint, each.
PROVEN_MAX: Final = 10_000  # Pairs of a route and carriers in one round.

_OUTCOME: Final = find_outcome("r")
_SERVED: Final = is_success("r")
_SINCE: Final = "toDateTime({since:UInt32}, 'UTC')"
_POSSIBLE: Final = f"time >= {_SINCE} AND authentication = {POSSIBLE_CREDENTIAL} AND carriers != ''"
# Most installations have none, and to find that out takes a twentieth of what the evidence takes.
_ANY: Final = f"SELECT route_id FROM rows_hour WHERE {_POSSIBLE} LIMIT 1"
# Endpoints with such calls, and all of their routes.
_ROUTES: Final = f"""
    SELECT route_id, endpoint_id, service FROM endpoint_routes FINAL WHERE endpoint_id IN (
        SELECT endpoint_id FROM endpoint_routes FINAL WHERE route_id IN (
            SELECT route_id FROM rows_hour WHERE {_POSSIBLE}))"""
_ROWS: Final = f"FROM rows_hour AS r INNER JOIN ({_ROUTES}) AS n ON n.route_id = r.route_id WHERE r.time >= {_SINCE}"
_EVIDENCE: Final = f"""
    SELECT w.service AS service, w.carriers AS carriers
    FROM (
        SELECT n.endpoint_id AS endpoint_id, n.service AS service, r.carriers AS carriers,
            sumIf(r.calls, {_SERVED}) AS served, sumIf(r.calls, {_OUTCOME} IN (401, 403)) AS refused,
            groupUniqArrayIf({ADDRESSES_MAX})(r.client_address, {_SERVED}) AS addresses
        {_ROWS} AND r.authentication = {POSSIBLE_CREDENTIAL} AND r.carriers != ''
        GROUP BY endpoint_id, service, carriers
    ) AS w
    INNER JOIN (
        SELECT n.endpoint_id AS endpoint_id, sumIf(r.calls, {_SERVED}) AS served,
            sumIf(r.calls, {_OUTCOME} = 401) AS refused,
            groupArrayIf({ADDRESSES_MAX})((r.client_address, r.calls), {_OUTCOME} = 403) AS forbidden
        {_ROWS} AND r.authentication = 0
        GROUP BY endpoint_id
    ) AS o ON o.endpoint_id = w.endpoint_id
    WHERE w.served >= {SERVED_MIN} AND w.refused * 2 <= w.served
        AND (o.refused + arraySum(a -> if(has(w.addresses, a.1), a.2, 0), o.forbidden) AS refusals) >= {REFUSED_MIN}
        AND o.served <= {OPEN_SHARE} * (o.served + refusals)"""
_KNOWN: Final = """
    SELECT n.service AS service, p.carriers AS carriers FROM proven_carriers AS p
    INNER JOIN (SELECT route_id, service FROM endpoint_routes FINAL) AS n ON n.route_id = p.route_id"""
_PROVEN: Final = f"""
SELECT DISTINCT r.route_id AS route_id, r.carriers AS carriers, n.endpoint_id AS endpoint_id
{_ROWS} AND r.authentication = {POSSIBLE_CREDENTIAL} AND (n.service, r.carriers) IN ({_EVIDENCE} UNION ALL {_KNOWN})
LIMIT {PROVEN_MAX}"""

_ALL: Final = f"SELECT DISTINCT route_id, carriers FROM proven_carriers LIMIT {PROVEN_MAX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenCarrier:
    """One row of `proven_carriers`."""

    route_id: int
    carriers: str
    time: datetime


class CarrierProof:
    """Keeps `proven_carriers`. Blocks. Raises StoreError."""

    def __init__(self, *, store: Store, clock: Callable[[], float], reassess: Callable[[Sequence[str]], None]) -> None:
        """`reassess` gets the ids of endpoints whose calls count otherwise now."""
        self._store = store
        self._clock = clock
        self._reassess = reassess
        self._known: set[tuple[int, str]] | None = None  # Of the last round; at most PROVEN_MAX.

    def update(self) -> None:
        """Write what is proven now, and have those endpoints assessed that are new among it."""
        now = self._clock()
        if self._known is None:
            self._known = {(int(row["route_id"]), row["carriers"]) for row in select(self._store, _ALL)}
        asked = {"since": max(0, int(now) - EVIDENCE_DAYS * 86_400)}
        rows = select(self._store, _PROVEN, asked) if select(self._store, _ANY, asked) else ()
        time = datetime.fromtimestamp(now, UTC)
        found = {(int(row["route_id"]), row["carriers"]): row["endpoint_id"] for row in rows}
        records = [ProvenCarrier(route_id=route_id, carriers=carriers, time=time) for route_id, carriers in found]
        self._store.insert_records("proven_carriers", records)
        changed = {endpoint_id for pair, endpoint_id in found.items() if pair not in self._known}
        if changed:
            self._reassess(sorted(changed))
        self._known = set(found)

"""Which endpoints have metrics of their own: those that people chose, and those that match a rule.

The rule is a query of the list of endpoints, such as `risk_min=70`. Its first matches are metered until there are
`ENDPOINTS_MAX` with the chosen ones. The choice is one row of the state. The process that writes the tables looks at it
every `LOOK_SECONDS`, and asks again which endpoints match every `RULE_SECONDS`.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

from sqlalchemy import Connection, select

from collector.core.errors import ConflictError
from collector.core.feature import Feature, Job, Role
from collector.core.rates import Interval
from collector.core.rows import Service
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.endpoints.outbound import find_present_id
from collector.inventory.endpoints.spec_status import NO_SPEC, read_specs
from collector.inventory.traffic.meter import CallMeter, EndpointKey
from collector.inventory.views import read_query, write_query
from collector.storage.records import Reader, read_record
from collector.storage.records import select as select_rows
from collector.storage.state.cache import StateCache
from collector.storage.state.store import StateStore, lock_table, read_row, upsert
from collector.storage.state.tables.inventory import METERED_ENDPOINTS
from collector.trust.audit import add_entries, make_entry

ENDPOINTS_MAX: Final = 200  # A histogram has 17 series, so these are 4,600 in Prometheus.
LOOK_SECONDS: Final = 10.0
RULE_SECONDS: Final = 300.0  # A query of 100,000 endpoints takes some 0.1 s of a processor.
_ROW: Final = 1

_NAMES: Final = """
SELECT route_id, endpoint_id, cluster, namespace, workload, workload_kind, host_name, port, host, method, url_template
FROM endpoint_routes FINAL WHERE endpoint_id IN {ids:Array(String)}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredChoice:
    """What people decided. `query` is the rule, a query string; empty: there is no rule."""

    endpoints: tuple[str, ...] = ()
    query: str = ""
    changed_by: str = ""
    changed_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredEndpoint:
    """An endpoint with metrics of its own. `is_chosen`: by its id; else it matches the rule."""

    id: str
    service: Service
    host: str
    method: str
    template: str
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """The endpoints, and which of them each route is."""

    items: tuple[MeteredEndpoint, ...]
    routes: Mapping[int, EndpointKey]


class MeteredEndpoints:
    """Thread-safe. Methods raise StoreError."""

    def __init__(
        self, *, state: StateStore, reader: Reader, endpoints: EndpointInventory, clock: Callable[[], float]
    ) -> None:
        self._state = state
        self._reader = reader
        self._endpoints = endpoints
        self._clock = clock
        self._choice = StateCache(state, (METERED_ENDPOINTS.name,), _read_choice)

    def read(self) -> MeteredChoice:
        """What people decided."""
        return self._choice.recall()

    def change(
        self, *, add: Collection[str] = (), remove: Collection[str] = (), query: str | None = None, by: str
    ) -> MeteredChoice:
        """Choose endpoints by id, take others out, and set another rule; None leaves it. Raises ConflictError where
        they are too many, ValueError for an id that no endpoint has, and ValidationError for what the list of endpoints
        does not take."""
        if query is not None:
            asked = {name: value for name, value in read_query(query).items() if value}
            EndpointQuery.model_validate(asked)
            query = write_query(asked)
        present = {endpoint_id: self._find(endpoint_id) for endpoint_id in add}
        if missing := [endpoint_id for endpoint_id, found in present.items() if not found]:
            raise ValueError(f"there is no endpoint {missing[0][:80]!r}; look it up in /api/v1/endpoints")
        with self._state.write() as connection:
            lock_table(connection, METERED_ENDPOINTS)
            before = _read_choice(connection)
            kept = [one for one in dict.fromkeys((*before.endpoints, *present.values())) if one not in remove]
            if len(kept) > ENDPOINTS_MAX:
                raise ConflictError(
                    f"{len(kept):,} endpoints would have metrics of their own, and {ENDPOINTS_MAX} are the most; take "
                    "others out first."
                )
            choice = MeteredChoice(
                endpoints=tuple(kept),
                query=before.query if query is None else query,
                changed_by=by,
                changed_at=self._clock(),
            )
            _write_choice(connection, choice)
            added = [one for one in kept if one not in before.endpoints]
            gone = [one for one in before.endpoints if one not in kept]
            entry = make_entry(
                choice.changed_at,
                by,
                "metrics.changed",
                "metered endpoints",
                before={"query": unquote_plus(before.query), "removed": gone},
                after={"query": unquote_plus(choice.query), "added": added},
            )
            add_entries(connection, [entry])
        self._choice.look()
        return choice

    def _find(self, endpoint_id: str) -> str:
        """The current id; empty where there is no such endpoint."""
        return endpoint_id if self._name([endpoint_id]) else find_present_id(self._reader, endpoint_id)

    def resolve(self) -> Metered:
        """Which endpoints have metrics now."""
        choice = self.read()
        chosen = [self._find(endpoint_id) for endpoint_id in choice.endpoints]
        ids = dict.fromkeys(one for one in chosen if one)
        if choice.query and len(ids) < ENDPOINTS_MAX:
            query = EndpointQuery.model_validate({**read_query(choice.query), "limit": ENDPOINTS_MAX})
            ids |= dict.fromkeys(self._endpoints.rank_endpoints(query, query.find_span(self._clock())))
        kept = list(ids)[:ENDPOINTS_MAX]
        rows, specs = self._name(kept), read_specs(self._reader, kept)
        items: dict[str, MeteredEndpoint] = {}
        routes: dict[int, EndpointKey] = {}
        for row in rows:
            name = row["endpoint_id"]
            items[name] = MeteredEndpoint(
                id=name,
                service=read_record(Service, row),
                host=row["host"],
                method=row["method"],
                template=row["url_template"],
                is_chosen=name in chosen,
            )
            described = specs.get(name, NO_SPEC).http_route
            routes[int(row["route_id"])] = EndpointKey(name, row["host"], row["method"], row["url_template"], described)
        return Metered(items=tuple(items[name] for name in kept if name in items), routes=routes)

    def _name(self, ids: Collection[str]) -> list[dict[str, Any]]:
        return select_rows(self._reader, _NAMES, {"ids": list(ids)}) if ids else []

    def make_feature(self, meter: CallMeter) -> Feature:
        """What the process that writes the tables repeats; all show what they counted."""
        rule = Interval(RULE_SECONDS)
        last: list[MeteredChoice] = []

        def look() -> None:
            choice = self.read()
            if rule.take() or [choice] != last:
                meter.choose(self.resolve().routes)
                last[:] = [choice]

        return Feature(
            name="metrics of services",
            role=Role.WRITER,
            jobs=(Job(works=(look,), seconds=LOOK_SECONDS),),
            figures=meter.list_figures,
            limits=lambda: (meter.limit,),
        )

    def erase(self, pattern: re.Pattern[str]) -> dict[str, int]:
        """Take the rule away where it names a consumer; rows by table."""
        with self._state.write() as connection:
            choice = _read_choice(connection)
            is_named = bool(pattern.search(unquote_plus(choice.query)))
            if is_named:
                _write_choice(connection, MeteredChoice(**{**asdict(choice), "query": ""}))
        self._choice.look()
        return {METERED_ENDPOINTS.name: int(is_named)}


def _read_choice(connection: Connection) -> MeteredChoice:
    row = connection.execute(select(METERED_ENDPOINTS)).first()
    return MeteredChoice() if row is None else read_row(MeteredChoice, row, endpoints=tuple(row.endpoints))


def _write_choice(connection: Connection, choice: MeteredChoice) -> None:
    upsert(connection, METERED_ENDPOINTS, [{**asdict(choice), "endpoints": list(choice.endpoints), "id": _ROW}])

"""Who was served by some endpoints in the last day: out of the store, or of whoever stands in for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from collector.inventory.consumer import PRINCIPAL_KINDS, ConsumerKind
from collector.inventory.counted import SUCCESS, ConsumerSql, counted_rows_of_routes, span_parameters
from collector.inventory.outbound import Routes, find_routes
from collector.inventory.public_address import is_public
from collector.inventory.reader import Reader, select
from collector.inventory.span import Since, Span, span_since

# Pods and jobs come and go, and each time with another address: callers inside that have no name are one.
INSIDE: Final = "inside:"
# Who logs in anew has another session.
SESSIONS: Final = "sessions:"
_SESSION: Final = next(number for number, kind in PRINCIPAL_KINDS.items() if kind == "session")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """`name`: `kind:value`, INSIDE or SESSIONS, of an endpoint's consumers; of calls out the workload that made them.
    `key_id`: of its hash."""

    endpoint_id: str
    name: str
    key_id: int
    first_seen: int


class Callers(Protocol):
    """Whoever knows who called; methods raise StoreError."""

    def read_consumers(self, ids: Sequence[str], now: float, limit: int) -> list[Caller]:
        """Who was answered 2xx by these endpoints, at most `limit` an endpoint."""
        ...

    def read_workloads(self, ids: Sequence[str], now: float, limit: int) -> list[Caller]:
        """Whose programs called these servers of others, at most `limit` an endpoint."""
        ...

    def find_services(self, workloads: Sequence[str]) -> dict[str, int]:
        """Of workloads, as consumers, that serve too: when they were seen first (unix seconds)."""
        ...


class StoredCallers:
    """Those of the rows in the store."""

    def __init__(self, reader: Reader, who: ConsumerSql) -> None:
        self._reader, self._who = reader, who

    def read_consumers(self, ids: Sequence[str], now: float, limit: int) -> list[Caller]:
        """As the contract says."""
        who = self._who.id
        is_address = f"startsWith({who}, '{ConsumerKind.ADDRESS}:')"
        is_session = f"startsWith({who}, '{ConsumerKind.PRINCIPAL}:') AND r.principal_kind = {_SESSION}"
        name = (
            f"multiIf({is_session}, '{SESSIONS}', "
            f"{is_address} AND r.client_workload != '', concat('{ConsumerKind.WORKLOAD}:', r.client_workload), "
            f"{is_address} AND NOT {is_public('r.client_address')}, '{INSIDE}', {who})"
        )
        return _read(self._reader, ids, now, limit, name, SUCCESS)

    def read_workloads(self, ids: Sequence[str], now: float, limit: int) -> list[Caller]:
        """As the contract says."""
        name = f"concat('{ConsumerKind.WORKLOAD}:', r.client_workload)"
        return _read(self._reader, ids, now, limit, name, "r.client_workload != ''")

    def find_services(self, workloads: Sequence[str]) -> dict[str, int]:
        """As the contract says."""
        names = [name.partition(":")[2] for name in workloads]
        rows = select(self._reader, _SERVICES, {"names": names}) if names else []
        return {f"{ConsumerKind.WORKLOAD}:{row['name']}": int(row["first_seen"]) for row in rows}


_SERVICES: Final = """
SELECT if(r.namespace = '', toString(r.workload), concat(r.namespace, '/', r.workload)) AS name,
    toUnixTimestamp(min(r.first_seen)) AS first_seen
FROM routes AS r WHERE name IN {names:Array(String)} GROUP BY name"""


def _read(reader: Reader, ids: Sequence[str], now: float, limit: int, name: str, condition: str) -> list[Caller]:
    if not ids:
        return []
    span = span_since(Since.DAY, now)
    routes = find_routes(reader, list(ids), span_parameters(span))
    owners = list(routes.named)
    rows = select(reader, _statement(span, name, condition), _parameters(span, routes, limit)) if owners else []
    return [
        Caller(
            endpoint_id=owners[int(row["owner"]) - 1],
            name=row["name"],
            key_id=int(row["key_id"]),
            first_seen=int(row["first_seen"]),
        )
        for row in rows
    ]


def _parameters(span: Span, routes: Routes, limit: int) -> Mapping[str, Any]:
    return {**span_parameters(span), **routes.parameters, "limit": limit}


def _statement(span: Span, name: str, condition: str) -> str:
    return f"""
SELECT transform(r.route_id, {{routes:Array(UInt64)}}, {{owners:Array(UInt32)}}, toUInt32(0)) AS owner, {name} AS name,
    max(r.key_id) AS key_id, toUnixTimestamp(min(r.first_seen)) AS first_seen
{counted_rows_of_routes(span)} AND {condition}
GROUP BY owner, name
ORDER BY owner, first_seen, name
LIMIT {{limit:UInt32}} BY owner"""

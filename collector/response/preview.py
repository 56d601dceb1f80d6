"""Previews the blast radius of a block: the client's own calls in the last 24 hours, and others at its addresses.

It reads the store's rows of calls at servers. A client at an address with several principals may be a proxy or a
network behind one address. To block that address stops them all, so it needs a confirmation.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any, Final

from collector.core.scope import find_scope
from collector.inventory.endpoints.outbound import ROLE_SERVER
from collector.inventory.endpoints.peers import Holder
from collector.inventory.endpoints.predicates import IN_SPAN as _IN_SPAN
from collector.inventory.endpoints.predicates import NAMES
from collector.inventory.query import Since, Span, series_span, span_since
from collector.kubernetes.rows import PeerKind
from collector.receiver.policy import NO_CLUSTER, BlockKind
from collector.response.block import CLUSTERS_MAX, EXPORT_SHARE_MAX, BlockTarget
from collector.response.holders import Holders, describe_holders
from collector.storage.records import Reader, select

NAMED_MAX: Final = 20
DAY_SECONDS: Final = 86_400
_ON_SHARED_CONNECTIONS: Final = (
    "Its calls are let through, and counted, from trusted proxies and on connections of HTTP/2 that carry others too. "
    "With a confirmation those connections are cut, and the others on them lose what is under way."
)
CREDENTIALS_MAX: Final = 64
SHARE_CALLS_MIN: Final = 20  # With fewer calls a share says nothing; sensors have the same bound.
_WHO: Final = (
    "multiIf(r.principal != 0, concat('principal:', leftPad(lower(hex(r.principal)), 16, '0')), "
    "r.credential != 0, concat('credential:', leftPad(lower(hex(r.credential)), 16, '0')), '')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A client, an endpoint or an address, and its calls in the span."""

    name: str
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPreview:
    """What a block would have stopped in the last 24 hours."""

    target: str
    calls: int
    share: float  # Of all calls, 0 to 1.
    clients: tuple[Hit, ...]  # Who would be stopped, most calls first; the target itself where it is one client.
    clients_total: int
    endpoints: tuple[Hit, ...]
    clusters: tuple[Hit, ...]  # Where it called, wherever the block is to hold.
    shared_addresses: tuple[Hit, ...]  # Of a credential or principal: from where others call too.
    first_seen: float  # Unix seconds, as far back as rows are kept; 0: never.
    key_id: int
    needs_confirmation: str  # Why; empty where it needs none.
    notes: tuple[str, ...]
    holders: tuple[Holder, ...]  # Of an address in the span, the newest first.
    held_by: str  # The same in words.
    addresses: tuple[str, ...]  # Of a workload: what its Pods hold now.


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCheck:
    """Of a preview, what decides. `key_id` 0: an address, a workload, or a client that made no call."""

    key_id: int
    needs_confirmation: str
    share: float = 0.0  # Of all calls at servers in the last 24 hours; 0 where they are too few.
    credentials: tuple[int, ...] = ()  # Of a principal in the last 24 hours, the newest first.
    first_seen: float = 0.0  # Unix seconds, as far back as rows are kept; 0: never.


class Previewer:
    """Answers from the store. Raises StoreError."""

    def __init__(self, reader: Reader, holders: Holders, find_heard: Callable[[float], Collection[str]]) -> None:
        """`find_heard`: clusters whose sensors were heard since a time."""
        self._reader = reader
        self._find_heard = find_heard
        self._holders = holders

    def preview(self, target: BlockTarget, clusters: tuple[str, ...], now: float) -> BlockPreview:
        """The last 24 hours up to `now`, in these clusters; none: in all."""
        span = series_span(span_since(Since.DAY, now))
        where, parameters = self._find_rows(target, clusters, span.start)
        asked = {"start": span.start, "end": span.end, "limit": NAMED_MAX, **parameters}
        totals = self._select(
            f"""SELECT sumIf(r.calls, {where}) AS own, sum(r.calls) AS total, maxIf(r.key_id, {where}) AS key_id,
                uniqExactIf({_WHO}, {where} AND {_WHO} != '') AS clients
            FROM rows_minute AS r WHERE {_IN_SPAN} AND r.role = {ROLE_SERVER}""",
            asked,
        )[0]
        own, total, clients_total = int(totals["own"]), int(totals["total"]), int(totals["clients"])
        shared = () if target.is_by_address else self._find_shared(target, where, asked)
        holders = self._list_holders(target, clusters, now)
        return BlockPreview(
            target=target.consumer,
            calls=own,
            share=own / total if total else 0.0,
            clients=tuple(hit for hit in self._list_hits(_WHO, where, asked, is_of_route=False) if hit.name),
            clients_total=clients_total,
            endpoints=self._list_hits("concat(n.method, ' ', n.host, n.url_template)", where, asked, is_of_route=True),
            clusters=self._list_clusters(target, asked),
            shared_addresses=shared,
            first_seen=self._find_first(where, parameters),
            key_id=0 if target.is_by_address else int(totals["key_id"]),
            needs_confirmation=self._find_confirmation(target, clusters, clients_total, holders, now),
            notes=_write_notes(target, own, own / total if total else 0.0, shared, holders),
            holders=holders,
            held_by=describe_holders(holders, now),
            addresses=self._list_addresses(target, clusters),
        )

    def check(self, target: BlockTarget, clusters: tuple[str, ...], now: float) -> "BlockCheck":
        """What must be known before a block begins, by a query or two: they are waited for while the client goes on."""
        span = series_span(span_since(Since.DAY, now))
        where, parameters = self._find_rows(target, clusters, span.start)
        (row,) = self._select(
            f"""SELECT uniqExactIf({_WHO}, {_WHO} != '') AS clients, max(r.key_id) AS newest, sum(r.calls) AS own
            FROM rows_minute AS r WHERE {_IN_SPAN} AND r.role = {ROLE_SERVER} AND {where}""",
            {"start": span.start, "end": span.end, **parameters},
        )
        holders = self._list_holders(target, clusters, now)
        return BlockCheck(
            key_id=0 if target.is_by_address else int(row["newest"]),
            needs_confirmation=self._find_confirmation(target, clusters, int(row["clients"]), holders, now),
            share=self._measure_share(int(row["own"]), span) if target.is_by_address else 0.0,
            credentials=self._list_credentials(target.value, now) if target.kind is BlockKind.PRINCIPAL else (),
        )

    def check_all(self, targets: Collection[BlockTarget], now: float) -> dict[BlockTarget, BlockCheck]:
        """The same of many, wherever they called, by one question for all and one for who held the addresses. Of a
        network, a workload, or an address that may be somebody else's in another cluster it says nothing."""
        known = self.list_clusters(now) if any(target.is_local for target in targets) else ()
        asked = [
            target
            for target in targets
            if target.kind is not BlockKind.WORKLOAD
            and (target.is_address or not target.is_by_address)
            and not (target.is_local and len(known) > 1)
        ]
        if not asked:
            return {}
        span = series_span(span_since(Since.DAY, now))
        by_kind = {kind: [one.value for one in asked if one.kind is kind] for kind in BlockKind}
        rows = self._select(
            _OF_ALL,
            {
                "start": span.start,
                "end": span.end,
                "principals": [int(value, 16) for value in by_kind[BlockKind.PRINCIPAL]],
                "credentials": [int(value, 16) for value in by_kind[BlockKind.CREDENTIAL]],
                "addresses": by_kind[BlockKind.ADDRESS],
                "limit": CREDENTIALS_MAX,
            },
        )
        found = {(str(row["kind"]), str(row["value"])): row for row in rows}
        addresses = [(one.value, ()) for one in asked if one.is_address]
        past = self._holders.list_all_past(addresses, now - DAY_SECONDS, now)
        holders = {address: tuple(held)[:NAMED_MAX] for (address, _), held in zip(addresses, past, strict=True)}
        checks = {}
        for target in asked:
            row = found.get((target.kind, target.value), _NO_ROW)
            own, total, clients = int(row["own"]), int(row["total"]), int(row["clients"])
            confirmation = self._find_confirmation(target, (), clients, holders.get(target.value, ()), now, known)
            checks[target] = BlockCheck(
                key_id=0 if target.is_by_address else int(row["newest"]),
                needs_confirmation=confirmation,
                share=own / total if target.is_by_address and total >= SHARE_CALLS_MIN else 0.0,
                credentials=tuple(row["credentials"]) if target.kind is BlockKind.PRINCIPAL else (),
                first_seen=float(row["first"]),
            )
        return checks

    def _measure_share(self, own: int, span: Span) -> float:
        """Of all calls at servers; of a client that only sensors stop nobody asks."""
        (row,) = self._select(
            f"SELECT sum(r.calls) AS total FROM rows_minute AS r WHERE {_IN_SPAN} AND r.role = {ROLE_SERVER}",
            {"start": span.start, "end": span.end},
        )
        return own / int(row["total"]) if int(row["total"]) >= SHARE_CALLS_MIN else 0.0

    def list_clusters(self, now: float) -> tuple[str, ...]:
        """Whose sensors were heard in the last 24 hours, by name; of a part of the installation, those that it has."""
        if not find_scope().is_all:
            rows = self._select("SELECT DISTINCT cluster FROM endpoint_routes ORDER BY cluster", {})
            return tuple(str(row["cluster"]) or NO_CLUSTER for row in rows)
        return tuple(cluster or NO_CLUSTER for cluster in sorted(self._find_heard(now - DAY_SECONDS)))

    def find_clusters(self, target: BlockTarget, now: float) -> tuple[str, ...]:
        """In which a client called in the last 24 hours."""
        span = series_span(span_since(Since.DAY, now))
        return tuple(hit.name for hit in self._list_clusters(target, {"start": span.start, "end": span.end}))

    def _list_credentials(self, principal: str, now: float) -> tuple[int, ...]:
        """Credentials that a principal showed in the last 24 hours, the newest first."""
        span = series_span(span_since(Since.DAY, now))
        rows = self._select(
            f"""SELECT r.credential AS credential FROM rows_minute AS r
            WHERE {_IN_SPAN} AND r.principal = {{hash:UInt64}} AND r.credential != 0
            GROUP BY credential ORDER BY max(r.last_seen) DESC LIMIT {{limit:UInt32}}""",
            {"start": span.start, "end": span.end, "hash": int(principal, 16), "limit": CREDENTIALS_MAX},
        )
        return tuple(int(row["credential"]) for row in rows)

    def find_first_seen(self, target: BlockTarget) -> float:
        """Unix seconds of the first call that is kept; 0 where there is none."""
        where, parameters = self._find_rows(target, ())
        return self._find_first(where, parameters)

    def _list_holders(self, target: BlockTarget, clusters: tuple[str, ...], now: float) -> tuple[Holder, ...]:
        """Who held an address in the last 24 hours."""
        if not target.is_address:
            return ()
        return tuple(self._holders.list_past(target.value, now - DAY_SECONDS, now, clusters))[:NAMED_MAX]

    def _list_addresses(self, target: BlockTarget, clusters: tuple[str, ...]) -> tuple[str, ...]:
        if target.kind is not BlockKind.WORKLOAD:
            return ()
        places = clusters or tuple(self._holders.find_kinds(target.workload, ()))
        return tuple(one for place in places for one in self._holders.list_addresses(target.workload, place))

    def _find_confirmation(
        self,
        target: BlockTarget,
        clusters: tuple[str, ...],
        clients_total: int,
        holders: tuple[Holder, ...],
        now: float,
        known: tuple[str, ...] | None = None,
    ) -> str:
        """`known`: the clusters, where somebody asked for them already."""
        if not target.is_by_address:
            return ""
        if clients_total > 1:
            return f"{target.value} carried {clients_total} clients in the last 24 hours; all of them would be stopped"
        if target.kind is BlockKind.WORKLOAD:
            return ""
        nodes = [holder.name for holder in holders if holder.kind is PeerKind.NODE]
        node = next(iter(nodes), "") or self._holders.find_node(target.value, clusters)
        if node:
            return f"{target.value} is an address of node {node}; all that call with it would be stopped"
        if ip_network(target.value).num_addresses > 1:
            return f"{target.value} is a network; whoever calls from it would be stopped"
        if known is None and target.is_local and not clusters:
            known = self.list_clusters(now)
        if target.is_local and not clusters and known is not None and len(known) > 1:
            return (
                f"{target.value} may be somebody else's in each of {len(known)} clusters "
                f"({', '.join(known[:NAMED_MAX])}), and it would be stopped in all; name those that are meant"
            )
        if len(holders) > len({holder.cluster for holder in holders}):
            return (
                f"{target.value} changed hands in the last 24 hours, and its calls are those of "
                f"{len(holders)} holders: {describe_holders(holders, now)}"
            )
        return ""

    def _find_rows(self, target: BlockTarget, clusters: tuple[str, ...], start: int = 0) -> tuple[str, dict[str, Any]]:
        """The condition on a target's rows from `start` (unix seconds) on in these clusters (none: in all), and its
        parameters."""
        names = ["" if name == NO_CLUSTER else name for name in clusters]
        if target.kind is BlockKind.WORKLOAD:
            name = target.workload
            asked = {"namespace": name.namespace, "workload": name.name, "kind": name.kind}
            rows = self._select(_HELD, {**asked, "start": max(start, 0), "clusters": names})
            where, parameters = (
                _WHILE_HELD,
                {
                    "held": [str(row["address"]) for row in rows],
                    "since": [int(row["since"]) for row in rows],
                    "until": [int(row["until"]) for row in rows],
                },
            )
        else:
            where, parameters = _match_target(target)
        if not names:
            return where, parameters
        inside = "SELECT m.route_id FROM endpoint_routes AS m FINAL WHERE has({clusters:Array(String)}, m.cluster)"
        return f"({where} AND r.route_id IN ({inside}))", {**parameters, "clusters": names}

    def _select(self, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        return select(self._reader, statement, parameters)

    def _list_hits(self, name: str, where: str, asked: dict[str, Any], *, is_of_route: bool) -> tuple[Hit, ...]:
        """The names with most calls; `name` is of rows `r`, or of their routes `n`."""
        joined = "INNER JOIN names AS n ON n.route_id = r.route_id" if is_of_route else ""
        rows = self._select(
            f"""WITH {NAMES} SELECT {name} AS name, sum(r.calls) AS calls FROM rows_minute AS r {joined}
            WHERE {_IN_SPAN} AND r.role = {ROLE_SERVER} AND {where}
            GROUP BY name ORDER BY calls DESC, name LIMIT {{limit:UInt32}}""",
            asked,
        )
        return tuple(Hit(name=str(row["name"]), calls=int(row["calls"])) for row in rows)

    def _list_clusters(self, target: BlockTarget, asked: dict[str, Any]) -> tuple[Hit, ...]:
        """Where it called, most calls first."""
        where, parameters = self._find_rows(target, (), asked["start"])
        hits = self._list_hits("n.cluster", where, {**asked, **parameters, "limit": CLUSTERS_MAX}, is_of_route=True)
        return tuple(replace(hit, name=hit.name or NO_CLUSTER) for hit in hits)

    def _find_shared(self, target: BlockTarget, where: str, asked: dict[str, Any]) -> tuple[Hit, ...]:
        """Addresses of the client from which others called, with the others' calls."""
        rows = self._select(
            f"""SELECT r.client_address AS name, sumIf(r.calls, NOT ({where}) AND {_WHO} != '') AS calls
            FROM rows_minute AS r WHERE {_IN_SPAN} AND r.role = {ROLE_SERVER} AND r.client_address IN (
                SELECT r.client_address FROM rows_minute AS r
                WHERE {_IN_SPAN} AND r.role = {ROLE_SERVER} AND r.client_address != '' AND {where})
            GROUP BY name HAVING calls > 0 ORDER BY calls DESC, name LIMIT {{limit:UInt32}}""",
            asked,
        )
        return tuple(Hit(name=str(row["name"]), calls=int(row["calls"])) for row in rows)

    def _find_first(self, where: str, parameters: dict[str, Any]) -> float:
        rows = self._select(
            f"""SELECT min(seen) AS first FROM (
                SELECT toUnixTimestamp(r.first_seen) AS seen FROM rows_minute AS r WHERE {where}
                UNION ALL
                SELECT toUnixTimestamp(r.first_seen) AS seen FROM rows_hour AS r WHERE {where}
            )""",
            dict(parameters),
        )
        return float(rows[0]["first"]) if rows and rows[0]["first"] else 0.0


# Of each client one row. Its first call is of any time, all else of calls at servers within the span.
_OF_CLIENTS: Final = """(r.principal IN {principals:Array(UInt64)} OR r.credential IN {credentials:Array(UInt64)}
    OR r.client_address IN {addresses:Array(String)})"""
_COLUMNS: Final = "r.principal AS principal, r.credential AS credential, r.client_address AS client_address"
_OF_ALL: Final = f"""
WITH (SELECT sum(r.calls) FROM rows_minute AS r WHERE {_IN_SPAN} AND r.role = {ROLE_SERVER}) AS all_calls
SELECT client.1 AS kind, client.2 AS value, min(first) AS first, sumIf(calls, is_counted) AS own,
    any(all_calls) AS total, maxIf(key_id, is_counted) AS newest, uniqExactIf(who, is_counted AND who != '') AS clients,
    arraySlice(arrayMap(one -> one.1, arrayReverseSort(one -> (one.2, one.1),
        CAST(maxMapIf(map(credential, last), is_counted AND credential != 0), 'Array(Tuple(UInt64, UInt32))'))),
        1, {{limit:UInt32}}) AS credentials
FROM (
    SELECT {_COLUMNS}, r.calls AS calls, r.key_id AS key_id, {_WHO} AS who, toUnixTimestamp(r.first_seen) AS first,
        toUnixTimestamp(r.last_seen) AS last, {_IN_SPAN} AND r.role = {ROLE_SERVER} AS is_counted
    FROM rows_minute AS r WHERE {_OF_CLIENTS}
    UNION ALL
    SELECT {_COLUMNS}, 0 AS calls, 0 AS key_id, '' AS who, toUnixTimestamp(r.first_seen) AS first, 0 AS last,
        0 AS is_counted
    FROM rows_hour AS r WHERE {_OF_CLIENTS}
)
ARRAY JOIN arrayFilter(one -> one.2 != '', [
    ('principal', if(principal IN {{principals:Array(UInt64)}}, leftPad(lower(hex(principal)), 16, '0'), '')),
    ('credential', if(credential IN {{credentials:Array(UInt64)}}, leftPad(lower(hex(credential)), 16, '0'), '')),
    ('address', if(client_address IN {{addresses:Array(String)}}, client_address, ''))]) AS client
GROUP BY kind, value"""
_NO_ROW: Final = dict.fromkeys(("own", "total", "newest", "clients", "first"), 0) | {"credentials": ()}
_HELD: Final = """
SELECT address, since, until FROM peer_addresses FINAL
WHERE kind = 'pod' AND port = 0 AND namespace = {namespace:String} AND workload = {workload:String}
    AND (workload_kind = {kind:String} OR {kind:String} = '') AND (until = 0 OR until >= {start:UInt32})
    AND (empty({clusters:Array(String)}) OR has({clusters:Array(String)}, cluster))
ORDER BY since DESC LIMIT 10000"""
# A row begins with its minute or hour, in which a Pod may have begun as well.
_WHILE_HELD: Final = """arrayExists((held, since, until) -> r.client_address = held
    AND toUnixTimestamp(r.last_seen) >= since AND (until = 0 OR toUnixTimestamp(r.first_seen) < until),
    {held:Array(String)}, {since:Array(UInt32)}, {until:Array(UInt32)})"""


def _match_target(target: BlockTarget) -> tuple[str, dict[str, Any]]:
    if target.kind is not BlockKind.ADDRESS:
        return f"r.{target.kind} = {{hash:UInt64}}", {"hash": int(target.value, 16)}
    network = ip_network(target.value)
    if network.num_addresses == 1:
        return "r.client_address = {text:String}", {"text": target.value}
    return "isIPAddressInRange(if(r.client_address = '', '0.0.0.0', r.client_address), {text:String})", {
        "text": target.value
    }


def _write_notes(
    target: BlockTarget, own: int, share: float, shared: tuple[Hit, ...], holders: tuple[Holder, ...]
) -> tuple[str, ...]:
    notes = []
    if target.is_by_address and share > EXPORT_SHARE_MAX:
        notes.append("It made over half of all calls: proxies do not get this block unless it is confirmed.")
    if target.kind is BlockKind.WORKLOAD:
        notes.append("It holds for the addresses that its Pods hold; a new Pod is stopped within seconds.")
    elif holders and holders[0].kind is PeerKind.POD and not holders[0].until:
        notes.append("It ends with this Pod. Block its workload, or a credential, to stop the Pod that follows it.")
    if not own:
        notes.append("It made no call in the last 24 hours that a sensor could read.")
    if not target.is_by_address:
        notes.append(_ON_SHARED_CONNECTIONS)
    if shared:
        notes.append(
            "Others call from its addresses. They are not stopped; if one is a proxy, let it block this client."
        )
    return tuple(notes)

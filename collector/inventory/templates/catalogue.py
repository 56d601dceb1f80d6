"""The mapping of routes to endpoints that the running collector holds: complete at the start, then kept up to date.

It reads routes from the store and decisions from the state, names the routes, keeps what the detectors need, and asks
the sensors for words that are still hidden. A new route is named by itself at once
(collector/inventory/templates/mapping.py). `group` then compares it with its siblings, and again as more is seen of
them. `follow` takes up what another collector of the same state decided.

`map_endpoints` decides which routes are one endpoint: all routes of one (service, host) in, route id -> endpoint out.
Pure. Routes are immutable shapes, and many may be one endpoint. Sibling segments are joined from the root where they
are values (`collector.inventory.templates.path_trie` decides). The result depends on the set of routes, not on their
order, and a second mapping changes nothing.

`FormerNames` renames routes of a workload that a node called by a container's id while the API server was away.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, Final, NamedTuple

from collector.core.budget import check_budget
from collector.core.feature import Feature, Job, Role
from collector.core.kinds import BITS, RPC_BITS, Protocol
from collector.core.limits import Limit
from collector.core.rows import Route, Segment, Service
from collector.inventory.naming import LITERAL, WORD, identify_endpoint, template
from collector.inventory.templates.mapping import (
    Edit,
    EditBook,
    EditedEndpoint,
    EditKind,
    EndpointName,
    HostKey,
    TenantHosts,
    is_pattern,
    name_endpoint,
)
from collector.inventory.templates.path_trie import (
    PARAMETER,
    RARE_SHARE,
    VALUE,
    Key,
    Position,
    RouteEvidence,
    find_targets,
    find_values,
)
from collector.inventory.templates.table import FORMER_NAMES_LIMIT, TemplateTable
from collector.inventory.templates.whole_paths import fold_whole_paths
from collector.receiver.reports import FormerName, RevealBook, RevealedWord
from collector.storage.base import Store, StoreError
from collector.storage.records import read_record, select

_CONTAINER: Final = 2  # The wire's WorkloadKind.
_KUBERNETES: Final = 4
LOOKS_MAX: Final = 6  # A minute: calls come with their routes, or a window of 10 s later.
_NAMED_BITS: Final = RPC_BITS | BITS[Protocol.SOAP]  # Whose paths are names of services and methods.
_HIDDEN_WORD: Final = "{word"  # What `template` writes for a word without a text.
MIN_SLASHED_CALLS: Final = 2  # One client may add a slash that the server ignores.
# Routes are looked at among their siblings soon after they came, and all of them now and then, for calls show more.
GROUP_SECONDS: Final = 10.0
GROUP_ALL_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Workload:
    namespace: str
    name: str


class FormerNames:
    """Former names by cluster and node. Not thread-safe."""

    def __init__(self) -> None:
        self._workloads: dict[tuple[str, str, str], _Workload] = {}

    def is_new(self, told: FormerName) -> bool:
        """Whether this is not known, or of another workload."""
        return self._workloads.get(_key_of(told)) != _Workload(told.namespace, told.workload)

    def add(self, told: Iterable[FormerName]) -> None:
        """Take them up."""
        for one in told:
            if len(self._workloads) < FORMER_NAMES_LIMIT or _key_of(one) in self._workloads:
                self._workloads[_key_of(one)] = _Workload(one.namespace, one.workload)

    def rename(self, route: Route) -> Route:
        """The route under the name of its workload; itself where no other is known."""
        service = route.service
        if service.workload_kind != _CONTAINER or service.namespace:
            return route
        found = self._workloads.get((service.cluster, service.host_name, service.workload))
        if found is None:
            return route
        named = Service(
            cluster=service.cluster,
            namespace=found.namespace,
            workload=found.name,
            workload_kind=_KUBERNETES,
            host_name="",
            port=service.port,
        )
        return replace(route, service=named)

    def list_former(self, workloads: Iterable[str]) -> list[str]:
        """What these workloads are called in routes besides."""
        wanted = set(workloads)
        return sorted({former for (_, _, former), one in self._workloads.items() if one.name in wanted})


def _key_of(told: FormerName) -> tuple[str, str, str]:
    return told.cluster, told.node, told.former_name


def _build(routes: Iterable[RouteEvidence]) -> Position:
    """The trie of the routes, with the values at each position joined."""
    root = Position()
    for evidence in routes:
        root.insert(evidence)
    fold_whole_paths(root)
    _merge(root, rare_calls=RARE_SHARE * root.measure_endpoint_calls(), before=None)
    return root


def _merge(position: Position, *, rare_calls: float, before: Key | None) -> None:
    """Joins the values among the children, then goes down."""
    values = find_values(position, rare_calls=rare_calls, before=before)
    targets = find_targets(values)
    for key in sorted(values):
        source = position.children.pop(key)
        position.children.setdefault(targets.get(key, VALUE), Position()).absorb(source)
    for key, child in position.children.items():
        _merge(child, rare_calls=rare_calls, before=key)


def _has_trailing_slash(routes: Sequence[RouteEvidence], method: str) -> bool:
    """Whether all served calls of an endpoint had a trailing slash, and there were enough to say so. A method that was
    never served follows the others."""
    served = [evidence for evidence in routes if evidence.served_calls]
    served = [evidence for evidence in served if evidence.route.method == method] or served
    calls = sum(evidence.served_calls for evidence in served)
    return calls >= MIN_SLASHED_CALLS and all(evidence.route.has_trailing_slash for evidence in served)


def _name(
    node: Position, segments: tuple[Segment, ...], words: Mapping[int, str], found: dict[int, EndpointName]
) -> None:
    for evidence in node.routes:
        route = evidence.route
        named = template(segments, _has_trailing_slash(node.routes, route.method), words)
        found[route.route_id] = EndpointName(endpoint_id=identify_endpoint(route, named), template=named)
    for (kept, text, word_hash), child in node.children.items():
        kind = kept
        if kind == PARAMETER:
            # The shape most calls had names the parameter; words and literals that joined it say no more than
            # PARAMETER.
            shapes = {shape: calls for shape, calls in child.kinds.items() if shape not in (LITERAL, WORD)}
            kind = min(shapes, key=lambda shape: (-shapes[shape], shape), default=PARAMETER)
        _name(child, (*segments, Segment(kind, text, word_hash, 0)), words, found)


def map_endpoints(routes: Iterable[RouteEvidence], words: Mapping[int, str]) -> dict[int, EndpointName]:
    """Endpoints by route id: `routes` are all routes of one (service, host) with their totals, `words` the revealed
    texts by hash.

    Deterministic, independent of the order of `routes`. Cost: 30 to 60 us a route. A trailing slash does not make
    another endpoint; it stays where all served calls had it. The names of an RPC are never values: its routes are named
    by themselves.
    """
    found: dict[int, EndpointName] = {}
    plain = []
    for evidence in sorted(routes, key=lambda evidence: evidence.route.route_id):
        if evidence.is_rpc:
            found[evidence.route.route_id] = name_endpoint(evidence.route, words)
        else:
            plain.append(evidence)
    _name(_build(plain), (), words, found)
    return found


# Routes grouped in one pass; what is past them keeps the name of its own. 100,000 take some 6 s and 200 MB.
ROUTES_LIMIT = 100_000

# Of SOAP only samples know.
_CALLS: Final = f"""
SELECT route_id, sum(calls), sum(success_calls), max(success_content_type), bitOr(groupBitOr(protocols), if(
    route_id IN (SELECT route_id FROM operation_samples WHERE protocol = 'soap'), {BITS[Protocol.SOAP]}, 0
)) FROM routes_day GROUP BY route_id"""
_RESPONSE_BODY: Final = 5  # The wire's SchemaPart.
# Media types of documents without named fields: of these the head says as much as the body, which may not be read.
_WITHOUT_FIELDS: Final = re.compile(
    r"text/(?!.*(?:json|xml|yaml|event-stream))|image/(?!svg)|audio/|video/|font/|application/(?:octet-stream|pdf|zip|gzip)\Z"
)
# Of the outermost object, or of the objects of an outermost list. `fields` is as collector/schemas/merging.py reads it.
_ANSWERS: Final = f"""
SELECT route_id, arrayStringConcat(arraySort(groupUniqArray(answer)), ' ') FROM (
    SELECT route_id, concat(media_type, ' ', arrayStringConcat(arraySort(arrayFilter(
        step -> match(step, '^(/\\\\[\\\\])?/[^/]+$'),
        arrayMap(field -> JSONExtractString(field, 1), JSONExtractArrayRaw(fields))
    )), ',')) AS answer
    FROM schemas FINAL WHERE part = {_RESPONSE_BODY} AND status_class = 2 AND operation = '' AND {{condition}}
) GROUP BY route_id"""

Home = tuple[Service, str]  # Routes of one service and host are siblings.


class RouteTotals(NamedTuple):
    """What all callers did on one route."""

    calls: int = 0
    served_calls: int = 0  # 2xx.
    content_type: str = ""  # Of what was answered 2xx.
    protocols: int = 0  # Bits.

    def show_answer(self) -> str:
        """What the heads show of an answer, where its body has no fields."""
        return f"{self.content_type} " if _WITHOUT_FIELDS.match(self.content_type) else ""


_NO_TOTALS: Final = RouteTotals()


class Catalogue:
    """Thread-safe: the writer's thread maps, the flush renames, the detectors' thread reads."""

    def __init__(self, store: Store, table: TemplateTable, reveals: RevealBook) -> None:
        """Takes up what the state and the store hold. Raises StoreError."""
        self._store = store
        self._table = table
        self._reveals = reveals
        self._following = Lock()
        self._followed = -1  # How often the state had been written at the last look.
        self._lock = Lock()
        self._former_names = FormerNames()
        self._told_names = table.read_former_names()
        self._former_names.add(self._told_names)
        self._hidden_words: Set[int] = frozenset()
        table.copy_names()
        self._known_edits = table.read_edits()
        edits = list(self._known_edits.values())
        self._edits = EditBook(edits)
        self._hosts = TenantHosts(_read_patterns(store), find_kept_hosts(edits))
        self._is_host_edited = False  # Since routes of all hosts were grouped.
        self._grown: set[Home] = set()  # Where routes or words came since they were grouped.
        self._looks: dict[Home, int] = {}  # How often routes were grouped whose calls had not come.
        self._revision, self._endpoints = table.list_names()
        self._changed = dict(self._endpoints)  # Since they were taken.
        self._words = table.read_words()
        unsure = self._select_routes(
            "route_id NOT IN (SELECT route_id FROM endpoint_routes) "
            "OR arrayExists((k, t) -> k = 2 AND t = '', segment_kind, segment_text)",
            {},
        )
        # What a crash left between a route or word and its mapping; the grouping mends what it has named itself.
        self._remember([route for route in unsure if self._is_unnamed(route)])
        self._grown.update((route.service, route.host) for route in unsure)

    def follow(self) -> None:
        """Take up the names, edits and words that were written by another collector, and words and edits that came
        here. Raises StoreError, and then does the rest the next time."""
        with self._following:
            self._table.copy_names(is_due=False)
            writes = self._table.count_writes()
            if writes == self._followed:
                return
            with self._lock:
                self._take_names(*self._table.list_names(self._revision))
            words = self._table.read_words()
            if words is not self._words:
                self._learn({word: text for word, text in words.items() if self._words.get(word) != text}, words)
            edits = self._table.read_edits()
            if edits is not self._known_edits:
                self._take_edits(edits)
            told = self._table.read_former_names()
            if told is not self._told_names:
                self._take_former_names(told)
                self._told_names = told
            self._reveal()
            self._followed = writes

    def _reveal(self) -> None:
        hidden = self._table.read_hidden_words()
        if hidden is not self._hidden_words:
            self._reveals.set_questions(hidden)
            self._hidden_words = hidden

    def map_routes(self, routes: Sequence[Route]) -> None:
        """Name new routes. Raises StoreError."""
        if not routes:
            return
        self.follow()
        with self._lock:
            # The collector that wrote the tables before may have named some.
            routes = [route for route in routes if route.route_id not in self._endpoints]
            routes = [self._hosts.rename(self._former_names.rename(route)) for route in routes]
            self._remember(routes)
            self._grown.update((route.service, route.host) for route in routes)

    def find_service(self, route: Route) -> Service:
        """Of a route, under the name of its workload. Without the lock: it looks one name up."""
        return self._former_names.rename(route).service

    def choose_former_names(self, told: Sequence[FormerName]) -> list[FormerName]:
        """Those that say something new."""
        with self._lock:
            return [one for one in told if self._former_names.is_new(one)]

    def take_former_names(self, told: Sequence[FormerName]) -> None:
        """Keep these, and give their routes to their workloads. Raises StoreError."""
        self._table.add_former_names(told)
        self.follow()

    def _take_former_names(self, told: Sequence[FormerName]) -> None:
        with self._lock:
            new = [one for one in told if self._former_names.is_new(one)]
            self._former_names.add(new)
        routes = self._select_routes(
            "workload_kind = 2 AND has({former:Array(String)}, workload)",
            {"former": sorted({one.former_name for one in new})},
        )
        with self._lock:
            self._remember(routes)
            self._grown.update((route.service, route.host) for route in routes)

    def learn(self, words: Sequence[RevealedWord]) -> None:
        """Keep revealed words, and name anew the routes in which they were hidden. Raises StoreError."""
        self._table.add_words(words)
        self.follow()

    def _learn(self, new: Mapping[int, str], words: Mapping[int, str]) -> None:
        routes = self._select_routes("hasAny(segment_hash, {hashes:Array(UInt64)})", {"hashes": list(new)})
        with self._lock:
            # Those that were grouped are named by the next grouping.
            own = [route for route in routes if self._is_named_alone(route)]
            self._words = words
            self._remember(own)
            self._grown.update((route.service, route.host) for route in routes)

    @property
    def feature(self) -> Feature:
        """What the collector repeats and shows."""
        return Feature(
            name="names of endpoints",
            role=Role.JOBS,
            start=self._take_over,
            jobs=(
                Job(works=(self.group,), seconds=GROUP_SECONDS),
                Job(works=(partial(self.group, is_all=True),), seconds=GROUP_ALL_SECONDS, is_late=True),
            ),
            limits=lambda: (self.limit,),
        )

    def _take_over(self) -> None:
        """Another collector grouped until now, and found which hosts are one."""
        with self._lock:
            self._hosts = TenantHosts(_read_patterns(self._store), find_kept_hosts(list(self._known_edits.values())))

    def group(self, *, is_all: bool = False) -> int:
        """Names routes among their siblings: where some came since the last time, or everywhere, for with every call
        more is known of them. Gives the number of routes that moved. Raises StoreError, and then looks again next time.
        """
        if is_all:
            self._table.copy_names()
        self.follow()
        with self._lock:
            homes, self._grown = self._grown, set()
            is_all, self._is_host_edited = is_all or self._is_host_edited, False
        if not homes and not is_all:
            return 0
        try:
            calls = self._count_calls()
            siblings = self._select_siblings(None if is_all else homes, calls)
            answers = self._read_answers(None if is_all else siblings)
        except StoreError:
            with self._lock:
                self._grown |= homes
                self._is_host_edited |= is_all
            raise
        moved = 0
        asked, answered = set[int](), set[int]()
        for routes in siblings.values():
            check_budget()
            evidence = [
                RouteEvidence(
                    route=route,
                    calls=totals.calls,
                    served_calls=totals.served_calls,
                    is_rpc=bool(totals.protocols & _NAMED_BITS),
                    answer=answers.get(route.route_id) or totals.show_answer(),
                )
                for route in routes
                for totals in (calls.get(route.route_id, _NO_TOTALS),)
            ]
            learned = map_endpoints(evidence, self._words)
            moved += self._move(routes, self._edits.apply(routes, learned, self._words))
            self._find_hidden_words(routes, learned, asked, answered)
        self._table.change_hidden_words(asked, answered - asked)
        self._reveal()
        if not is_all:
            self._look_again(
                {
                    home
                    for home, routes in siblings.items()
                    if any(route.route_id not in calls or route.route_id not in answers for route in routes)
                }
            )
        return moved

    @staticmethod
    def _find_hidden_words(
        routes: Sequence[Route], named: Mapping[int, EndpointName], asked: set[int], answered: set[int]
    ) -> None:
        """Adds words that are hidden names to those that sensors are asked for, and values and known ones to the
        others."""
        for route in routes:
            # What follows a whole path has no place of its own here; its text is not needed to see what it is.
            parts = named[route.route_id].template.strip("/").split("/")
            for segment, part in zip(route.segments, parts, strict=False):
                if segment.kind == WORD and segment.hash and not segment.text:
                    (asked if part.startswith(_HIDDEN_WORD) else answered).add(segment.hash)

    def _look_again(self, unsure: set[Home]) -> None:
        """At those with routes whose calls or answers are not in the tables yet: they show what a route is."""
        with self._lock:
            self._looks = {home: looks for home in unsure if (looks := self._looks.get(home, 0) + 1) < LOOKS_MAX}
            self._grown.update(self._looks)

    def _move(self, routes: Sequence[Route], names: Mapping[int, EndpointName]) -> int:
        with self._lock:
            named = [(route, names[route.route_id]) for route in routes]
            moved = [one for one in named if self._endpoints.get(one[0].route_id) != one[1].endpoint_id]
            if moved:
                self._write(moved)
        return len(moved)

    def _select_siblings(self, homes: set[Home] | None, calls: Mapping[int, RouteTotals]) -> dict[Home, list[Route]]:
        """All routes of these homes, or of all; then it is looked anew which hosts are one."""
        condition, parameters = "1", dict[str, Any]()
        if homes is not None:
            condition = "has({workloads:Array(String)}, workload) AND has({hosts:Array(String)}, host)"
            workloads = {service.workload for service, _ in homes}
            with self._lock:
                parameters["workloads"] = sorted(workloads) + self._former_names.list_former(workloads)
                parameters["hosts"] = sorted({host for _, host in homes}) + self._hosts.list_raw(h for _, h in homes)
        raw = self._select_raw(condition, parameters)
        if homes is None:
            served = [route for route in raw if calls.get(route.route_id, _NO_TOTALS).served_calls]
            with self._lock:
                self._hosts.learn(served)
        siblings: dict[Home, list[Route]] = defaultdict(list)
        for route in map(self._hosts.rename, raw):
            home = (route.service, route.host)
            if homes is None or home in homes:
                siblings[home].append(route)
        return siblings

    def _count_calls(self) -> dict[int, RouteTotals]:
        """By route, as far back as they are kept."""
        return {int(row[0]): RouteTotals(*row[1:]) for row in self._store.query(_CALLS)}

    def _read_answers(self, siblings: Mapping[Home, Sequence[Route]] | None) -> dict[int, str]:
        """What these routes answer with 2xx, or all: media types, and the names of the fields of a document."""
        condition, parameters = "1", dict[str, Any]()
        if siblings is not None:
            condition = "route_id IN {routes:Array(UInt64)}"
            parameters["routes"] = [route.route_id for routes in siblings.values() for route in routes]
        rows = self._store.query(_ANSWERS.replace("{condition}", condition), parameters)
        return {int(route_id): str(answer) for route_id, answer in rows}

    def list_endpoints(self) -> dict[int, str]:
        """Endpoint ids by route id."""
        with self._lock:
            return dict(self._endpoints)

    @property
    def limit(self) -> Limit:
        """Of routes."""
        then = "The routes past it are endpoints of their own, without parameters."
        return Limit(name="grouped_routes", used=len(self._endpoints), maximum=ROUTES_LIMIT, then=then)

    def take_changed(self) -> dict[int, str]:
        """Those that are new or others since the last call, all at first."""
        with self._lock:
            changed, self._changed = self._changed, {}
        return changed

    def find_edited(self, endpoint_id: str) -> EditedEndpoint | None:
        """The template and routes of an endpoint, for an edit of it. Raises StoreError."""
        mine = "route_id IN (SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id = {id:String})"
        routes = self._select_routes(mine, {"id": endpoint_id})
        if not routes:
            return None
        templates = self._store.query(
            "SELECT any(url_template) FROM endpoint_routes FINAL WHERE endpoint_id = {id:String}", {"id": endpoint_id}
        )
        seen = self._store.query(
            f"SELECT route_id, toUnixTimestamp(first_seen) FROM routes FINAL WHERE {mine}", {"id": endpoint_id}
        )
        first_seen = {int(route_id): int(time) for route_id, time in seen}
        return EditedEndpoint(template=templates[0][0], routes=routes, first_seen=first_seen)

    def read_words(self) -> dict[int, str]:
        """Revealed texts by hash."""
        with self._lock:
            return dict(self._words)

    def take_edit(self, edit: Edit) -> None:
        """Name routes by an edit that was kept. Raises StoreError."""
        with self._lock:
            self._grown.add((edit.service, edit.host))
        self.group()

    def _take_edits(self, edits: Mapping[str, Edit]) -> None:
        with self._lock:
            changed = [edit for name, edit in edits.items() if self._known_edits.get(name) != edit]
            self._known_edits = edits
            self._edits = EditBook(edits.values())
            self._hosts.keep(find_kept_hosts(list(edits.values())))
            self._grown.update((edit.service, edit.host) for edit in changed)
            self._is_host_edited |= any(edit.kind is EditKind.HOST for edit in changed)

    def list_hosts(self, service: Service, host: str) -> tuple[str, ...]:
        """The hosts of a service that one pattern stands for."""
        with self._lock:
            return self._hosts.list_hosts(service, host)

    def _is_unnamed(self, route: Route) -> bool:
        """Whether a route has no name, or still the one it got when its words were hidden."""
        named = self._endpoints.get(route.route_id)
        hidden = name_endpoint(route, {}).endpoint_id
        return named is None or (named == hidden and name_endpoint(route, self._words).endpoint_id != hidden)

    def _is_named_alone(self, route: Route) -> bool:
        return name_endpoint(route, self._words).endpoint_id == self._endpoints.get(route.route_id)

    def _remember(self, routes: Sequence[Route]) -> None:
        if routes:
            words = self._words
            learned = {route.route_id: name_endpoint(route, words) for route in routes}
            names = self._edits.apply(routes, learned, words)
            self._write([(route, names[route.route_id]) for route in routes])

    def _write(self, named: Sequence[tuple[Route, EndpointName]]) -> None:
        """Keep what routes are named, with the lock held."""
        revision = self._table.write_names(named, self._endpoints)
        # Where another collector wrote in between, its names are read with the next look.
        newest = revision if revision == self._revision + 1 else self._revision
        self._take_names(newest, {route.route_id: name.endpoint_id for route, name in named})

    def _take_names(self, revision: int, names: Mapping[int, str]) -> None:
        self._revision = revision
        for route_id, endpoint_id in names.items():
            if self._endpoints.get(route_id) != endpoint_id:
                self._endpoints[route_id] = self._changed[route_id] = endpoint_id

    def _select_routes(self, condition: str, parameters: dict[str, Any]) -> list[Route]:
        return [self._hosts.rename(route) for route in self._select_raw(condition, parameters)]

    def _select_raw(self, condition: str, parameters: dict[str, Any]) -> list[Route]:
        """Routes under the hosts that they were called by."""
        rows = self._store.query(
            "SELECT route_id, cluster, namespace, workload, workload_kind, host_name, port, host, method, "
            "segment_kind, segment_text, segment_hash, segment_length, has_trailing_slash "
            f"FROM routes FINAL WHERE {condition} ORDER BY route_id LIMIT {ROUTES_LIMIT}",
            parameters,
        )
        return [self._former_names.rename(_read_route(row)) for row in rows]


def find_kept_hosts(edits: Sequence[Edit]) -> set[HostKey]:
    """Hosts and patterns that stay apart: those of which somebody said so, and those with edited templates, which would
    no longer be about them."""
    apart = {(edit.service, edit.host) for edit in edits if edit.kind is EditKind.HOST and not edit.undone_at}
    edited = {(service, host) for service, host in EditBook(edits).list_edited_hosts() if not is_pattern(host)}
    return apart | edited


def _read_patterns(store: Store) -> dict[HostKey, str]:
    """Which hosts were one when the collector stopped."""
    rows = select(
        store,
        "SELECT DISTINCT e.cluster AS cluster, e.namespace AS namespace, e.workload AS workload, "
        "e.workload_kind AS workload_kind, e.host_name AS host_name, e.port AS port, r.host AS called, e.host AS host "
        "FROM endpoint_routes AS e FINAL INNER JOIN (SELECT DISTINCT route_id, host FROM routes) AS r "
        "ON r.route_id = e.route_id WHERE startsWith(e.host, '{')",
    )
    return {(read_record(Service, row), row["called"]): row["host"] for row in rows}


def _read_route(row: tuple[Any, ...]) -> Route:
    cluster, namespace, workload, kind, host_name, port = row[1:7]
    return Route(
        route_id=int(row[0]),
        service=Service(
            cluster=cluster, namespace=namespace, workload=workload, workload_kind=kind, host_name=host_name, port=port
        ),
        host=row[7],
        method=row[8],
        segments=tuple(Segment(*parts) for parts in zip(*row[9:13], strict=True)),
        has_trailing_slash=bool(row[13]),
    )

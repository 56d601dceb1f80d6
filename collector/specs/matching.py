"""Finds the operation of the description that an endpoint is. Pure. Other packages ask `assess_endpoint`.

A path fits where every segment is equal or the description has a parameter there. Of several that fit, the one with
most literals wins. A description is about the service it was uploaded for, else about the hosts of its servers, else
about the service most of whose endpoints it fits. One that was seen in traffic is about the service that served it, as
far as it fits that service's calls (collector/specs/fit.py). It counts where no other is about the service.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from collector.core.budget import check_budget
from collector.inventory.endpoints.spec_status import NO_SPEC, EndpointSpec, SpecStatus
from collector.specs.document import Spec, SpecOperation

# In one description: 100 for each of 50,000 endpoints, and some seconds of a processor.
COMPARISONS_MAX: Final = 5_000_000
TOO_COSTLY: Final = (
    f"Not compared: it takes more than {COMPARISONS_MAX:,} comparisons with the endpoints of its service; write path "
    "parameters as whole segments, or split it."
)
PARAMETER: Final = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEndpoint:
    """What is matched: `service` as listed, `workload` its workload's name; `served_calls`: answered 2xx."""

    id: str
    service: str
    workload: str
    host: str
    method: str
    template: str
    served_calls: int

    @property
    def is_served(self) -> bool:
        """Whether any call was answered 2xx."""
        return self.served_calls > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One version of a description. `service` is empty where it was not said; `place`: host and path where it was seen
    in traffic, empty where somebody gave it."""

    name: str
    service: str
    spec: Spec
    is_current: bool
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a description that was seen in traffic fits its service. Its paths begin with `prefix` and, where
    `is_keeping_base`, the document's own base paths; `heads` are the first segments of the paths that it is about: an
    empty one is those of all paths, and without any it is about none."""

    prefix: str
    is_keeping_base: bool
    heads: frozenset[tuple[str, ...]]

    def list_base_paths(self, spec: Spec) -> tuple[str, ...]:
        """What the document's paths begin with."""
        bases = spec.base_paths if self.is_keeping_base else ("",)
        return tuple(dict.fromkeys(self.prefix + base for base in bases))

    def has(self, template: str) -> bool:
        """Whether it is about this path."""
        segments = tuple(split_path(template))
        return any(segments[: len(head)] == head for head in self.heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An operation of a revision, and its path with the base path."""

    revision: Revision
    operation: SpecOperation
    http_route: str


@dataclass(slots=True)
class _Node:
    """One place of a path: what may follow, and the operation that ends here."""

    literals: dict[str, "_Node"] = field(default_factory=dict)
    # Segments with parameters, by their text with `{}` for each: the literal parts between these.
    patterns: dict[str, tuple[list[str], "_Node"]] = field(default_factory=dict)
    match: Match | None = None


@dataclass(slots=True)
class Effort:
    """Comparisons that are left for all searches in one description. Most take one for each segment. But where many
    patterns stand beside each other, one search would take as many as there are operations."""

    left: int = COMPARISONS_MAX

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left; then nothing more is found."""
        return self.left <= 0


class Index:
    """The operations of one revision as trees of path segments, one for each method and number of segments. A search
    follows the literal segment and every pattern that fits."""

    def __init__(self, revision: Revision, base_paths: Sequence[str], effort: Effort) -> None:
        self.revision = revision
        self.effort = effort
        self.routes: list[list[str]] = []  # All paths as segments, with base path.
        self._trees: dict[tuple[str, int], _Node] = defaultdict(_Node)
        for operation in revision.spec.operations:
            for base in base_paths:
                route = base + operation.path
                segments = split_path(route)
                self.routes.append(segments)
                node = self._trees[operation.method, len(segments)]
                for segment in segments:
                    node = _follow(node, segment)
                # The first of several that are alike.
                node.match = node.match or Match(revision=revision, operation=operation, http_route=route)

    def find(self, method: str, template: str) -> Match | None:
        """The operation that fits best. HEAD is its GET where it is not described (RFC 9110, 9.3.2). Raises
        BudgetError."""
        check_budget()
        seen = split_path(template)
        tree = self._trees.get((method, len(seen)))
        found = self._search(tree, seen) if tree is not None else None
        if found is None and method == "HEAD":
            return self.find("GET", template)
        return found

    def _search(self, tree: _Node, seen: Sequence[str]) -> Match | None:
        """Depth first, literals before patterns, and nothing that cannot have more literals than what was found."""
        best: Match | None = None
        best_literals = -1
        waiting = [(tree, 0, 0)]
        while waiting and not self.effort.is_exhausted:
            node, place, literals = waiting.pop()
            self.effort.left -= 1 + len(node.patterns)
            if literals + len(seen) - place <= best_literals:
                continue
            if place == len(seen):
                best, best_literals = node.match, literals
                continue
            segment = seen[place]
            fitting = [inner for parts, inner in node.patterns.values() if _fits_parts(parts, segment)]
            waiting += ((inner, place + 1, literals) for inner in reversed(fitting))
            if (literal := node.literals.get(segment)) is not None:
                waiting.append((literal, place + 1, literals + 1))
        return None if self.effort.is_exhausted else best


def _follow(node: _Node, segment: str) -> _Node:
    """The node behind a described segment; it is made where it is not there."""
    if not PARAMETER.search(segment):
        return node.literals.setdefault(segment, _Node())
    return node.patterns.setdefault(PARAMETER.sub("{}", segment), (PARAMETER.split(segment), _Node()))[1]


def _fits_parts(parts: Sequence[str], seen: str) -> bool:
    """Whether a segment has these literal parts in order and something between them: `{id}.json` fits `{file_id}.json`
    and `report.json`, not `{id}`. In linear time, for both texts are made by others."""
    if not (seen.startswith(parts[0]) and seen.endswith(parts[-1])):
        return False
    place, end = len(parts[0]), len(seen) - len(parts[-1])
    for part in parts[1:-1]:
        found = seen.find(part, place + 1)
        if found < 0:
            return False
        place = found + len(part)
    return place < end


def _names_nobody(revision: Revision) -> bool:
    return revision.is_current and not revision.service and not revision.spec.hosts


class SpecBook:
    """All revisions, and which services and hosts each is about."""

    def __init__(
        self, revisions: Sequence[Revision], endpoints: Iterable[SeenEndpoint], fits: Mapping[str, Fit] | None = None
    ) -> None:
        """`fits`: of those that were seen in traffic, by name; one without is about nothing. Raises BudgetError."""
        self._fits = fits or {}
        efforts: dict[str, Effort] = defaultdict(Effort)
        self._indexes = [Index(one, self.find_base_paths(one), efforts[one.name]) for one in revisions]
        self._scopes = self._find_scopes(endpoints)
        # Numbers of indexes by what an endpoint must have: a service or workload, a host, or the best fitting service.
        self._numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, index in enumerate(self._indexes):
            for key in self._list_keys(index.revision):
                self._numbers[key].append(number)

    def list_exhausted(self) -> set[str]:
        """Names of descriptions that took more comparisons than they may; they are about nothing."""
        return {index.revision.name for index in self._indexes if index.effort.is_exhausted}

    def _list_keys(self, revision: Revision) -> list[tuple[str, str]]:
        if revision.service:
            return [("service", revision.service)]
        if revision.spec.hosts:
            return [("host", host) for host in revision.spec.hosts]
        return [("scope", scope)] if (scope := self._scopes.get(revision.name)) is not None else []

    def _list_covering(self, endpoint: SeenEndpoint) -> list[Index]:
        """The indexes of descriptions that are about an endpoint, in their order."""
        host = PARAMETER.sub("{}", endpoint.host)
        keys = {
            ("service", endpoint.service),
            ("service", endpoint.workload),
            ("host", host),
            ("host", host.rpartition(":")[0]),
            ("scope", endpoint.service),
        }
        numbers = sorted({number for key in keys for number in self._numbers.get(key, ())})
        found = (self._indexes[number] for number in numbers)
        return [index for index in found if not index.effort.is_exhausted and self.covers(endpoint, index.revision)]

    def _find_scopes(self, endpoints: Iterable[SeenEndpoint]) -> dict[str, str]:
        """Of descriptions that name neither service nor host: the service they fit most."""
        plain = [one for one in self._indexes if _names_nobody(one.revision)]
        fits: dict[str, Counter[str]] = defaultdict(Counter)
        for endpoint in endpoints if plain else ():
            for index in plain:
                if index.find(endpoint.method, endpoint.template) is not None:
                    fits[index.revision.name][endpoint.service] += 1
        return {name: min(found, key=lambda one: (-found[one], one)) for name, found in fits.items()}

    def find_base_paths(self, revision: Revision) -> tuple[str, ...]:
        """What the paths of a description begin with."""
        fit = self._fits.get(revision.name)
        return fit.list_base_paths(revision.spec) if fit is not None else revision.spec.base_paths

    def is_in_force(self, revision: Revision) -> bool:
        """Whether it is about any endpoint that there may be."""
        fit = self._fits.get(revision.name)
        return bool(fit.heads) if fit is not None else not revision.place

    def covers(self, endpoint: SeenEndpoint, revision: Revision) -> bool:
        """Whether a description is about this endpoint's service."""
        if not self.is_in_force(revision):
            return False
        if revision.place:
            return revision.service == endpoint.service and self._fits[revision.name].has(endpoint.template)
        if revision.service:
            return revision.service in (endpoint.service, endpoint.workload)
        if revision.spec.hosts:
            host = PARAMETER.sub("{}", endpoint.host)  # `{tenant}.example.com`, whatever the variable is called.
            return host.rpartition(":")[0] in revision.spec.hosts or host in revision.spec.hosts
        return self._scopes.get(revision.name) == endpoint.service

    def find(self, endpoint: SeenEndpoint) -> tuple[Match | None, Match | None, str]:
        """(operation in force, operation of an older version only, name of a description that covers it)."""
        covering = self._list_covering(endpoint)
        given = [index for index in covering if not index.revision.place]
        if any(index.revision.is_current for index in given):
            covering = given
        current = older = None
        for index in covering:
            match = index.find(endpoint.method, endpoint.template)
            if match is not None and index.revision.is_current:
                current = current or match
            elif match is not None:
                older = older or match
        names = sorted(index.revision.name for index in covering if index.revision.is_current)
        return current, older, names[0] if names else ""


def assess_endpoint(endpoint: SeenEndpoint, book: SpecBook) -> EndpointSpec:
    """What the descriptions say of an endpoint."""
    current, older, name = book.find(endpoint)
    if current is not None:
        return _describe(current, is_zombie=current.operation.is_deprecated)
    if older is not None:
        return _describe(older, is_zombie=True)
    # OPTIONS asks what a path has, as browsers do before a call to another origin; no description lists it.
    if name and endpoint.is_served and endpoint.method != "OPTIONS":
        return EndpointSpec(
            status=SpecStatus.SHADOW, spec=name, reason=f"{name} covers its service and does not have it"
        )
    return NO_SPEC


def _describe(match: Match, *, is_zombie: bool) -> EndpointSpec:
    operation, revision = match.operation, match.revision
    reason = ""
    if is_zombie:
        reason = "deprecated" if revision.is_current else f"only an older version ({revision.spec.version}) has it"
    return EndpointSpec(
        status=SpecStatus.ZOMBIE if is_zombie else SpecStatus.DOCUMENTED,
        spec=revision.name,
        http_route=match.http_route,
        operation_id=operation.operation_id,
        is_deprecated=operation.is_deprecated,
        requires_authentication=operation.requires_authentication,
        reason=reason,
    )


def split_path(path: str) -> list[str]:
    """Segments of a path."""
    return [segment for segment in path.split("/") if segment]

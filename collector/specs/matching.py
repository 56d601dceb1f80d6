"""Finds the operation of the description that an endpoint is. Pure. Other packages ask `assess_endpoint`.

A path fits where every segment is equal or the description has a parameter there. Of several that fit, the one with
most literals wins. A description is about the service it was uploaded for, else about the hosts of its servers, else
about the service most of whose endpoints it fits. One that was seen in traffic is about the service that served it, as
far as it fits that service's calls (collector/specs/fit.py). It counts where no other is about the service.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from collector.inventory.endpoints.spec_status import NO_SPEC, EndpointSpec, SpecStatus
from collector.specs.document import Spec, SpecOperation

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


class Index:
    """The operations of one revision by method and number of segments."""

    def __init__(self, revision: Revision, base_paths: Sequence[str]) -> None:
        self.revision = revision
        self._operations: dict[tuple[str, int], list[tuple[list[str], Match]]] = defaultdict(list)
        for operation in revision.spec.operations:
            for base in base_paths:
                route = base + operation.path
                segments = split_path(route)
                found = Match(revision=revision, operation=operation, http_route=route)
                self._operations[operation.method, len(segments)].append((segments, found))

    @property
    def routes(self) -> list[list[str]]:
        """All paths as segments, with base path."""
        return [segments for found in self._operations.values() for segments, _ in found]

    def find(self, method: str, template: str) -> Match | None:
        """The operation that fits best. HEAD is its GET where it is not described (RFC 9110, 9.3.2)."""
        seen = split_path(template)
        best: Match | None = None
        best_literals = -1
        for segments, match in self._operations.get((method, len(seen)), ()):
            literals = _fit(segments, seen)
            if literals > best_literals:
                best, best_literals = match, literals
        if best is None and method == "HEAD":
            return self.find("GET", template)
        return best


class SpecBook:
    """All revisions, and which services and hosts each is about."""

    def __init__(
        self, revisions: Sequence[Revision], endpoints: Iterable[SeenEndpoint], fits: Mapping[str, Fit] | None = None
    ) -> None:
        """`fits`: of those that were seen in traffic, by name; one without is about nothing."""
        self._fits = fits or {}
        self._indexes = [Index(revision, self.find_base_paths(revision)) for revision in revisions]
        self._scopes = self._find_scopes(list(endpoints))

    def _find_scopes(self, endpoints: list[SeenEndpoint]) -> dict[str, str]:
        """Of descriptions that name neither service nor host: the service they fit most."""
        scopes: dict[str, str] = {}
        for index in self._indexes:
            revision = index.revision
            if revision.service or revision.spec.hosts or not revision.is_current:
                continue
            fits = Counter(one.service for one in endpoints if index.find(one.method, one.template) is not None)
            if fits:
                scopes[revision.name] = min(fits, key=lambda service: (-fits[service], service))
        return scopes

    def find_base_paths(self, revision: Revision) -> tuple[str, ...]:
        """What the paths of a description begin with."""
        fit = self._fits.get(revision.name)
        return fit.list_base_paths(revision.spec) if fit is not None else revision.spec.base_paths

    def is_in_force(self, revision: Revision) -> bool:
        """Whether it is about any endpoint that there may be."""
        fit = self._fits.get(revision.name)
        return not revision.place or (fit is not None and bool(fit.heads))

    def covers(self, endpoint: SeenEndpoint, revision: Revision) -> bool:
        """Whether a description is about this endpoint's service."""
        if revision.place:
            fit = self._fits.get(revision.name)
            return fit is not None and revision.service == endpoint.service and fit.has(endpoint.template)
        if revision.service:
            return revision.service in (endpoint.service, endpoint.workload)
        if revision.spec.hosts:
            host = PARAMETER.sub("{}", endpoint.host)  # `{tenant}.example.com`, whatever the variable is called.
            return host.rpartition(":")[0] in revision.spec.hosts or host in revision.spec.hosts
        return self._scopes.get(revision.name) == endpoint.service

    def find(self, endpoint: SeenEndpoint) -> tuple[Match | None, Match | None, str]:
        """(operation in force, operation of an older version only, name of a description that covers it)."""
        covering = [index for index in self._indexes if self.covers(endpoint, index.revision)]
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


def _fit(described: list[str], seen: list[str]) -> int:
    """Literals that are equal; -1 where the paths are not the same."""
    literals = 0
    for one, other in zip(described, seen, strict=True):
        if one == other and not PARAMETER.search(one):
            literals += 1
        elif not PARAMETER.search(one) or not _fits_part(one, other):
            return -1
    return literals


def _fits_part(described: str, seen: str) -> bool:
    """`{id}.json` fits `{file_id}.json` and `report.json`, not `{id}`."""
    pattern = ".+".join(re.escape(part) for part in PARAMETER.split(described))
    return re.fullmatch(pattern, seen) is not None

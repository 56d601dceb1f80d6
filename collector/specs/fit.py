"""Decides whether a description that passed through a service is that service's own. Pure.

A service also passes documents about others: an export, a catalogue, a gateway's list of APIs behind it. So a document
seen in traffic is in force only where it fits the calls of the service that served it. That is assessed again as calls
come:

- *for the whole service* where half of the calls match one of its operations, and a quarter of the called endpoints.
  Calls alone would let one busy health check decide, endpoints alone a route that was seen as many.
- *for a part of the service*, the paths that begin as its own do. Half of its operations must be called there, and
  half of the calls in that part must match. So a gateway's document of one of ten services fits, though it matches a
  tenth of the calls. A document about another service does not fit, though both have a `/health`.
- where its `servers` name a host of the service: below their base paths if it is the service's only document, else
  for its part.

Paths without a literal segment match everything and do not count. A document in force is dropped below two thirds of
these shares, so that one near the limit does not switch to and fro.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from collector.specs.document import Spec
from collector.specs.matching import (
    PARAMETER,
    TOO_COSTLY,
    Effort,
    Fit,
    Index,
    Match,
    Revision,
    SeenEndpoint,
    split_path,
)

CALLS_SHARE_MIN: Final = 0.5
ENDPOINTS_SHARE_MIN: Final = 0.25
OPERATIONS_SHARE_MIN: Final = 0.5
STAYING: Final = 2 / 3  # Of each share, for a document in force.
# One endpoint is too little to know a service by, unless it is half of the document.
ENDPOINTS_MIN: Final = 2
# Of one service, the busiest: what is left out changes no share by much.
ENDPOINTS_MAX: Final = 1_000


class Extent(StrEnum):
    """For how much of its service a document was last in force by its calls."""

    SERVICE = "service"
    PART = "part"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """A document's fit, how far it is in force by its calls, and why in a sentence."""

    fit: Fit
    extent: Extent
    reason: str


@dataclass(slots=True)
class _Tally:
    """Calls and endpoints, all and those that match."""

    calls: int = 0
    endpoints: int = 0
    matched_calls: int = 0
    matched_endpoints: int = 0

    def add(self, calls: int, is_match: bool) -> None:
        self.calls += calls
        self.endpoints += 1
        self.matched_calls += calls * is_match
        self.matched_endpoints += is_match


@dataclass(slots=True)
class _Comparison:
    """A document beside the calls of its service, if its paths begin in one way. `fit` is about its part."""

    fit: Fit
    operations: int  # That have a literal segment.
    service: _Tally = field(default_factory=_Tally)
    part: _Tally = field(default_factory=_Tally)
    called: set[tuple[str, str]] = field(default_factory=set)  # Of the operations.

    def is_of_service(self, factor: float) -> bool:
        """`factor` of the shares is enough."""
        found = self.service
        return (
            self._has_evidence
            and found.matched_calls >= CALLS_SHARE_MIN * factor * found.calls
            and found.matched_endpoints >= ENDPOINTS_SHARE_MIN * factor * found.endpoints
        )

    def is_of_part(self, factor: float) -> bool:
        """`factor` of the shares is enough."""
        found = self.part
        return (
            self._has_evidence
            and found.matched_calls >= CALLS_SHARE_MIN * factor * found.calls
            and len(self.called) >= OPERATIONS_SHARE_MIN * factor * self.operations
        )

    @property
    def _has_evidence(self) -> bool:
        needed = min(ENDPOINTS_MIN, OPERATIONS_SHARE_MIN * self.operations)
        return 0 < needed <= self.service.matched_endpoints


def assess_served(
    revisions: Sequence[Revision], endpoints: Iterable[SeenEndpoint], before: Mapping[str, Extent]
) -> dict[str, FitResult]:
    """Of each description that was seen in traffic, by name. `before`: as assessed the last time."""
    served: dict[str, list[Revision]] = {}
    for revision in revisions:
        if revision.place:
            served.setdefault(revision.name, []).append(revision)
    newest = [versions[0] for versions in served.values()]
    called, documents = _group_called(endpoints, newest), _count_documents(newest)
    return {
        name: _assess(
            versions,
            called.get(versions[0].service, []),
            before.get(name, Extent.NONE),
            is_only=documents[versions[0].service] == 1,
        )
        for name, versions in served.items()
    }


def _group_called(endpoints: Iterable[SeenEndpoint], newest: Iterable[Revision]) -> dict[str, list[SeenEndpoint]]:
    """What was called of each service, busiest first, but for where it serves documents. OPTIONS asks what a path has,
    and no description lists it."""
    places = {(one.service, one.place) for one in newest}
    groups: dict[str, list[SeenEndpoint]] = {service: [] for service, _ in places}
    for one in endpoints if places else ():
        is_counted = one.service in groups and one.is_served and one.method != "OPTIONS"
        if is_counted and (one.service, one.host + one.template) not in places:
            groups[one.service].append(one)
    return {
        service: sorted(group, key=lambda one: (-one.served_calls, one.id))[:ENDPOINTS_MAX]
        for service, group in groups.items()
    }


def _count_documents(revisions: Iterable[Revision]) -> dict[str, int]:
    """Different documents by service: one that is served under several names is one."""
    found: dict[str, set[frozenset[tuple[str, str]]]] = {}
    for one in revisions:
        operations = frozenset((operation.method, operation.path) for operation in one.spec.operations)
        found.setdefault(one.service, set()).add(operations)
    return {service: len(documents) for service, documents in found.items()}


def _assess(versions: Sequence[Revision], called: list[SeenEndpoint], before: Extent, *, is_only: bool) -> FitResult:
    spec, service = versions[0].spec, versions[0].service
    effort = Effort()
    best = _compare_best(versions, called, before, effort)
    if effort.is_exhausted:
        return FitResult(fit=replace(best.fit, heads=frozenset()), extent=Extent.NONE, reason=TOO_COSTLY)
    found, part = best.service, best.fit.heads
    calls = f"{found.matched_calls:,} of the {found.calls:,} calls of {service} match it"
    operations = f"{len(best.called):,} of its {best.operations:,} operations are called there"
    host = next((one.host for one in called if is_named_by(spec, one.host)), "")
    extent, heads = Extent.NONE, frozenset[tuple[str, ...]]()
    reason = f"Only seen: {calls}, and {operations}. Half of either is needed; upload it if it describes {service}."
    if best.is_of_service(_find_factor(before, Extent.SERVICE)):
        extent, heads, reason = Extent.SERVICE, frozenset({()}), f"{calls}."
    elif best.is_of_part(_find_factor(before, Extent.SERVICE, Extent.PART)):
        extent, heads = Extent.PART, part
        reason = f"{calls}, and {operations}: it is about paths that begin as its own."
    if host and extent is not Extent.SERVICE:
        below = frozenset(tuple(split_path(base)) for base in best.fit.list_base_paths(spec))
        heads = below if is_only else part
        reason = f"Its servers name {host}."
    return FitResult(fit=replace(best.fit, heads=heads), extent=extent, reason=reason)


def _find_factor(before: Extent, *staying: Extent) -> float:
    return STAYING if before in staying else 1.0


def _compare_best(
    versions: Sequence[Revision], called: list[SeenEndpoint], before: Extent, effort: Effort
) -> _Comparison:
    """Under the base paths that fit, the described ones first; under those that most calls match, where none do."""
    best: _Comparison | None = None
    for prefix, is_keeping_base in _list_prefixes(versions[0]):
        found = _compare(versions, called, prefix, is_keeping_base, effort)
        if found.is_of_service(_find_factor(before, Extent.SERVICE)):
            return found
        if best is None or found.service.matched_calls > best.service.matched_calls:
            best = found
    assert best is not None
    return best


def _list_prefixes(revision: Revision) -> list[tuple[str, bool]]:
    """What its paths may begin with as clients see them, and whether its base paths follow: as described; without a
    base path that a proxy takes off before the sensor; below the folders of the place where it is served, which a
    gateway adds."""
    folders = split_path(revision.place.partition("/")[2])[:-1]
    prefixes = ["/" + "/".join(folders[:size]) for size in range(1, len(folders) + 1)]
    plain = [prefix for prefix in prefixes if not PARAMETER.search(prefix)]
    return [("", True), ("", False), *((prefix, is_keeping) for prefix in plain for is_keeping in (True, False))]


def _compare(
    versions: Sequence[Revision], called: list[SeenEndpoint], prefix: str, is_keeping_base: bool, effort: Effort
) -> _Comparison:
    """What only an older version has matches too: it is called still."""
    fit = Fit(prefix=prefix, is_keeping_base=is_keeping_base, heads=frozenset())
    indexes = [Index(one, fit.list_base_paths(one.spec), effort) for one in versions]
    fit = replace(fit, heads=frozenset[tuple[str, ...]]().union(*(_find_heads(one.routes) for one in indexes)))
    operations = versions[0].spec.operations
    bases = fit.list_base_paths(versions[0].spec)
    found = _Comparison(
        fit=fit, operations=sum(any(_has_literal(split_path(base + one.path)) for base in bases) for one in operations)
    )
    for endpoint in called:
        match = _find_match(indexes, endpoint)
        if match is not None and not _has_literal(split_path(match.http_route)):
            continue
        found.service.add(endpoint.served_calls, match is not None)
        if fit.has(endpoint.template):
            found.part.add(endpoint.served_calls, match is not None)
        if match is not None and match.revision is versions[0]:
            found.called.add((match.operation.method, match.operation.path))
    return found


def _find_match(indexes: Sequence[Index], endpoint: SeenEndpoint) -> Match | None:
    for index in indexes:
        match = index.find(endpoint.method, endpoint.template)
        if match is not None:
            return match
    return None


def _has_literal(segments: Sequence[str]) -> bool:
    return any(not PARAMETER.search(segment) for segment in segments)


def _find_heads(routes: Iterable[list[str]]) -> frozenset[tuple[str, ...]]:
    """The first segments of these paths: what all have in common and one more, as far as they are literal."""
    routes = [route for route in routes if _has_literal(route)]
    common = 0
    for segments in zip(*routes, strict=False):
        if len(set(segments)) > 1 or PARAMETER.search(segments[0]):
            break
        common += 1
    heads: set[tuple[str, ...]] = set()
    for route in routes:
        literals = 0
        while literals < min(len(route), common + 1) and not PARAMETER.search(route[literals]):
            literals += 1
        if literals:
            heads.add(tuple(route[:literals]))
    return frozenset(heads)


def is_named_by(spec: Spec, host: str) -> bool:
    """Whether a server of the document is at this host, as calls name it. Where both say a port it is the same one.
    What is everybody's own host says nothing."""
    name, port = _split_host(PARAMETER.sub("{}", host))
    if _is_anybody(name):
        return False
    for authority in spec.authorities:
        other, other_port = _split_host(authority)
        if other == name and (not port or not other_port or port == other_port):
            return True
    return False


def _split_host(authority: str) -> tuple[str, str]:
    name, colon, port = authority.rpartition(":")
    return (name, port) if colon and port.isdigit() and not name.endswith(":") else (authority, "")


def _is_anybody(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost") or not name.replace("{}", "").strip("."):
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified

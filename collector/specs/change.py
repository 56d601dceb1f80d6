"""What a changed description would break: calls that consumers make today and that it has no longer. A text in,
endpoints with their consumers out; nothing is put in force.

Compared are the description in force and the new text, each with what was seen. What differs from both was no part of
the change. So reported is what only the new text does not have: operations, parameters, fields, types, status codes,
and what it requires newly and calls do not send.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from collector.inventory.consumers.consumer import EndpointConsumers
from collector.inventory.consumers.consumers import ConsumerInventory
from collector.inventory.query import Span
from collector.specs.assessment import SeenEndpoints
from collector.specs.document import Spec, SpecError, read_spec
from collector.specs.drift import REQUEST, Drift, DriftKind, Seen, find_drift
from collector.specs.matching import Fit, Match, Revision, SeenEndpoint, SpecBook
from collector.specs.table import SpecTable
from collector.storage.base import Store

ENDPOINTS_MAX: Final = 500  # Of one answer, those with most calls.
OPERATION_REMOVED: Final = "operation_removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One thing that current calls need. `kind`: operation_removed, or as of drift."""

    kind: str
    place: str
    name: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenEndpoint:
    """An endpoint that is called, what the new text takes from it, and who calls it."""

    id: str
    service: str
    host: str
    method: str
    template: str
    breaks: tuple[Break, ...]
    consumers: EndpointConsumers


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecChange:
    """`replaced`: the version of the description in force that the text was compared with, None where there was none;
    `endpoints`: called ones that either is about; `total`: broken ones, of which `broken` has those with most calls."""

    name: str
    replaced: str | None
    version: str
    endpoints: int
    total: int
    broken: tuple[BrokenEndpoint, ...]


class SpecChanges:
    """Answers from the store as of now. Raises StoreError."""

    def __init__(
        self,
        *,
        store: Store,
        table: SpecTable,
        read_seen: Callable[[Iterable[str]], Mapping[str, Seen]],
        consumers: ConsumerInventory,
        fits: Callable[[], Mapping[str, Fit]],
    ) -> None:
        """`read_seen`: what is known of endpoints, by id; `fits`: as SpecReporter has it."""
        self._store = store
        self._table = table
        self._read_seen = read_seen
        self._consumers = consumers
        self._fits = fits

    def compare(self, *, document: str, name: str, service: str, span: Span) -> SpecChange:
        """A text with the description of its name. Raises SpecError where it is not a description."""
        spec = read_spec(document)
        name = name or spec.title
        if not name:
            raise SpecError("The document has no title; say by `name` which description it is to replace.")
        before = self._table.list_revisions()
        in_force = next((one for one in before if one.name == name and one.is_current), None)
        after = _replace_revision(before, name, service, spec)
        endpoints, fits = SeenEndpoints(self._store), self._fits()
        pairs = _find_pairs(endpoints, SpecBook(before, endpoints, fits), SpecBook(after, endpoints, fits), name)
        callers = self._consumers.list_callers([one.id for one, _, _ in pairs], span)
        called = [pair for pair in pairs if pair[0].id in callers]
        broken = [
            BrokenEndpoint(
                id=one.id,
                service=one.service,
                host=one.host,
                method=one.method,
                template=one.template,
                breaks=breaks,
                consumers=callers[one.id],
            )
            for one, breaks in self._find_breaks(called, name)
        ]
        broken.sort(key=lambda one: (-one.consumers.calls, one.id))
        return SpecChange(
            name=name,
            replaced=in_force.spec.version if in_force is not None else None,
            version=spec.version,
            endpoints=len(called),
            total=len(broken),
            broken=tuple(broken[:ENDPOINTS_MAX]),
        )

    def _find_breaks(
        self, called: Sequence[tuple[SeenEndpoint, Match | None, Match | None]], name: str
    ) -> Iterable[tuple[SeenEndpoint, tuple[Break, ...]]]:
        seen = self._read_seen([one.id for one, _, new in called if new is not None])
        for one, old, new in called:
            if new is None:
                sentence = f"{name} does not have {one.method} {one.template}, which is called."
                yield one, (Break(kind=OPERATION_REMOVED, place="", name="", sentence=sentence),)
                continue
            if one.id not in seen:
                continue
            known = {_identify(drift) for drift in _find_all(seen[one.id], old)} if old is not None else set()
            breaks = tuple(
                Break(kind=drift.kind.value, place=drift.place, name=drift.name, sentence=drift.sentence)
                for drift in _find_all(seen[one.id], new)
                if _is_breaking(drift) and _identify(drift) not in known
            )
            if breaks:
                yield one, breaks


def _replace_revision(before: Iterable[Revision], name: str, service: str, spec: Spec) -> list[Revision]:
    """The description of this name is the new text; without a service it stays about the one it was about."""
    old = [one for one in before if one.name == name]
    others = [one for one in before if one.name != name]
    known = old[0].service if old else ""
    new = Revision(name=name, service=service or known, spec=spec, is_current=True)
    return [new, *(replace(one, service=service or known, is_current=False, place="") for one in old), *others]


def _find_pairs(
    endpoints: Iterable[SeenEndpoint], before: SpecBook, after: SpecBook, name: str
) -> list[tuple[SeenEndpoint, Match | None, Match | None]]:
    """Served endpoints with their operation before and after: those that the new text has, and those that it has no
    longer, or has not and no description had before."""
    found: list[tuple[SeenEndpoint, Match | None, Match | None]] = []
    for one in endpoints:
        if not one.is_served or one.method == "OPTIONS":
            continue
        new, _, covering = after.find(one)
        old, _, was_covering = before.find(one)
        if new is not None and new.revision.name == name:
            found.append((one, old, new))
        elif new is None and covering and (old is not None or not was_covering):
            found.append((one, old, None))
    return found


def _find_all(seen: Seen, match: Match) -> tuple[Drift, ...]:
    return find_drift(seen, match.operation, match.revision.spec, has_required_requests=True)


def _is_breaking(drift: Drift) -> bool:
    """A described field that is not served breaks nobody's calls, one that requests lack does; of statuses those of
    success count."""
    if drift.kind is DriftKind.MISSING_FIELD:
        return drift.place == REQUEST
    if drift.kind is DriftKind.UNDOCUMENTED_STATUS:
        return drift.name.startswith("2")
    return True


def _identify(drift: Drift) -> tuple[str, str, str]:
    return drift.kind.value, drift.place, drift.name

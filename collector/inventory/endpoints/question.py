"""A validated question to the list of endpoints: filters, sort and page."""

from dataclasses import dataclass
from enum import StrEnum

from collector.core.kinds import Protocol
from collector.inventory.endpoints.endpoint import AuthenticationLevel, Tier
from collector.inventory.endpoints.spec_status import SpecStatus
from collector.inventory.query import Span, digest_question

LIMIT_DEFAULT = 50
LIMIT_MAX = 500  # One page of the API; more is paged.
SEARCH_CHARACTERS_MAX = 200
SEARCH_WORDS_MAX = 8


class EndpointSort(StrEnum):
    """What endpoints may be sorted by."""

    CALLS = "calls"
    LAST_SEEN = "last_seen"
    FIRST_SEEN = "first_seen"
    TEMPLATE = "template"
    P95 = "p95"
    ERRORS = "errors"
    AUTHENTICATION = "authentication"
    CONSUMERS = "consumers"
    RISK = "risk"


class Order(StrEnum):
    """Direction of a sort."""

    ASCENDING = "asc"
    DESCENDING = "desc"


class OperationView(StrEnum):
    """Whether operations that share one path are listed beside their endpoint, which has all of their calls."""

    INCLUDE = "include"
    EXCLUDE = "exclude"
    ONLY = "only"


# The direction a person means when naming only the sort: most, newest and slowest first, but names by alphabet and
# least covered first.
NATURAL_ORDER: dict[EndpointSort, Order] = {
    EndpointSort.CALLS: Order.DESCENDING,
    EndpointSort.LAST_SEEN: Order.DESCENDING,
    EndpointSort.FIRST_SEEN: Order.DESCENDING,
    EndpointSort.TEMPLATE: Order.ASCENDING,
    EndpointSort.P95: Order.DESCENDING,
    EndpointSort.ERRORS: Order.DESCENDING,
    EndpointSort.AUTHENTICATION: Order.ASCENDING,
    EndpointSort.CONSUMERS: Order.DESCENDING,
    EndpointSort.RISK: Order.DESCENDING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointQuestion:
    """Filters (empty or None = any), sort and page. `authentication` is a level or the name of an authentication
    kind."""

    span: Span
    since: str
    search: str = ""
    method: str = ""
    service: str = ""
    host: str = ""
    namespace: str = ""
    label: str = ""  # `key=value` or a key, of the workload.
    tier: Tier | None = None
    authentication: AuthenticationLevel | str = ""
    protocol: Protocol | None = None
    spec: SpecStatus | None = None
    operation: str = ""  # Exactly this name.
    operations: OperationView = OperationView.INCLUDE
    sort: EndpointSort = EndpointSort.CALLS
    order: Order = Order.DESCENDING
    limit: int = LIMIT_DEFAULT
    cursor: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """Search words; every one must occur."""
        return tuple(self.search.split()[:SEARCH_WORDS_MAX])

    @property
    def fingerprint(self) -> str:
        """What a cursor belongs to: everything but the limit and the place. The span's bounds move with the clock
        and stay out."""
        return digest_question(
            "endpoints",
            self.since,
            self.search,
            self.method,
            self.service,
            self.host,
            self.namespace,
            self.label,
            self.tier or "",
            self.authentication,
            self.protocol or "",
            self.spec or "",
            self.operation,
            self.operations,
            self.sort,
            self.order,
        )

"""What may be asked of the list of ports: filters, sorts and page, as one validated value."""

from dataclasses import dataclass
from enum import StrEnum

from collector.inventory.coverage import CoverageRole, PortProtocol, Reading
from collector.inventory.cursor import digest_question
from collector.inventory.question import LIMIT_DEFAULT, SEARCH_WORDS_MAX, Order


class PortSort(StrEnum):
    """What ports may be sorted by."""

    BYTES = "bytes"
    CONNECTIONS = "connections"
    CALLS = "calls"
    ESTIMATED_CALLS = "estimated_calls"
    JOINED_LATE = "joined_late"
    LOST_CALLS = "lost_calls"
    PORT = "port"
    SERVICE = "service"
    NODE = "node"


PORT_NATURAL_ORDER: dict[PortSort, Order] = {
    **dict.fromkeys(PortSort, Order.DESCENDING),
    PortSort.PORT: Order.ASCENDING,
    PortSort.SERVICE: Order.ASCENDING,
    PortSort.NODE: Order.ASCENDING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PortQuestion:
    """Filters (empty or None = any), sort and page."""

    search: str = ""
    node: str = ""
    service: str = ""
    protocol: PortProtocol | None = None
    reading: Reading | None = None
    role: CoverageRole | None = None
    is_http_like: bool | None = None
    sort: PortSort = PortSort.BYTES
    order: Order = Order.DESCENDING
    limit: int = LIMIT_DEFAULT
    cursor: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """Search words; every one must occur."""
        return tuple(self.search.split()[:SEARCH_WORDS_MAX])

    @property
    def fingerprint(self) -> str:
        """What a cursor belongs to: everything but the limit and the place."""
        return digest_question(
            "ports",
            self.search,
            self.node,
            self.service,
            self.protocol or "",
            self.reading or "",
            self.role or "",
            "" if self.is_http_like is None else str(self.is_http_like),
            self.sort,
            self.order,
        )

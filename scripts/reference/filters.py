"""Formats docs/reference/filters.md: what each list of the API can be filtered by, from the lists' own fields."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from collector.api.audit import AuditQuery
from collector.api.lists import AlertQuery, IncidentQuery
from collector.api.views import ViewQuery
from collector.inventory.consumers.consumers import ConsumerQuery
from collector.inventory.coverage.sql import PortQuery
from collector.inventory.endpoints.exposure_list import ExposureQuery
from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.filters import ListQuery, list_members
from collector.inventory.mcp import McpServerQuery, McpToolQuery
from collector.inventory.models.models import ModelQuery
from collector.inventory.sensors import SensorQuery
from collector.inventory.services.services import ServiceQuery
from collector.risk.finding_query import FindingGroupQuery, FindingQuery

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "filters.md"
# By route of the API: the list, and its command.
LISTS: Final[dict[str, tuple[type[ListQuery], str]]] = {
    "/endpoints": (EndpointQuery, "endpoints"),
    "/services": (ServiceQuery, "services"),
    "/mcp/servers": (McpServerQuery, "mcp-servers"),
    "/mcp/tools": (McpToolQuery, "mcp-tools"),
    "/models": (ModelQuery, "models"),
    "/consumers": (ConsumerQuery, "consumers"),
    "/exposure": (ExposureQuery, "exposure"),
    "/coverage/ports": (PortQuery, "coverage"),
    "/sensors": (SensorQuery, "sensors"),
    "/alerts": (AlertQuery, "alerts"),
    "/incidents": (IncidentQuery, "incidents"),
    "/findings": (FindingQuery, "findings"),
    "/views": (ViewQuery, "views"),
    "/audit": (AuditQuery, "audit"),
    "/findings/groups": (FindingGroupQuery, "findings --by-rule"),
}
_HEAD: Final = """# Filters of lists

`scripts/generate` makes this page from the programs.

- A filter is a query parameter of the route: `GET /api/v1/endpoints?method=GET&tier=confirmed`.
- It is also an option of the command, as `apidae get endpoints --method GET`. The option of `q` is `--query` or `-q`.
- Several filters hold together. A filter that is absent or empty excludes nothing.
- How lists are paged and sorted: [the API](api.md#lists).
"""


def format_filters() -> str:
    """The page as it is kept."""
    return "\n".join(
        [_HEAD, *(line for path, (query, command) in LISTS.items() for line in _format(path, query, command))]
    )


def write_filters() -> None:
    """Updates docs/reference/filters.md."""
    PAGE.write_text(format_filters())


def _format(path: str, query: type[ListQuery], command: str) -> Iterator[str]:
    yield f"## `{path}`\n"
    yield f"Command: `apidae get {command}`.\n"
    filters = query.list_filters()
    if filters:
        yield "| Filter | Meaning | Values |"
        yield "|---|---|---|"
    else:
        yield "It has no filters."
    for name, (info, _) in filters.items():
        members = ", ".join(f"`{member}`" for member in list_members(info))
        yield f"| `{name}` | {info.description} | {members} |"
    sort = query.model_fields.get("sort")
    if sort is not None:
        yield f"\nSort by {', '.join(f'`{member}`' for member in list_members(sort))}."
    yield ""

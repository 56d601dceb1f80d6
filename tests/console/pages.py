"""The table of pages: a new page is one row here, and gets every check of tests/console/test_pages.py."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePage:
    """`path` may name `{endpoint}`, `{service}`, `{consumer}`, `{alert}` and `{incident}` of the seeded collector.
    `current`: the navigation's entry that is marked; empty where the page is in none. `has_rows`: a list, whose first
    row is seen without scrolling. `status`: of the response; a browser logs one error line for a page that failed."""

    path: str
    current: str = ""
    has_rows: bool = False
    status: int = 200
    is_signed_in: bool = True


PAGES: Final[tuple[ConsolePage, ...]] = (
    ConsolePage(path="/", current="Overview"),
    ConsolePage(path="/endpoints", current="Endpoints", has_rows=True),
    ConsolePage(path="/endpoints/{endpoint}", current="Endpoints"),
    ConsolePage(path="/alerts?state=open", current="Alerts", has_rows=True),
    ConsolePage(path="/alerts?state=silenced", current="Alerts", has_rows=True),
    ConsolePage(path="/alerts/{alert}", current="Alerts"),
    ConsolePage(path="/incidents", current="Incidents", has_rows=True),
    ConsolePage(path="/incidents/{incident}", current="Incidents"),
    ConsolePage(path="/map", current="Map"),
    ConsolePage(path="/services", current="Services", has_rows=True),
    ConsolePage(path="/services/{service}", current="Services"),
    ConsolePage(path="/mcp", current="MCP servers", has_rows=True),
    ConsolePage(path="/mcp/ep0090", current="MCP servers"),
    ConsolePage(path="/models", current="Models", has_rows=True),
    ConsolePage(path="/specs", current="Descriptions"),
    ConsolePage(path="/changes", current="Changes"),
    ConsolePage(path="/findings", current="Findings", has_rows=True),
    ConsolePage(path="/findings/personal_data_without_authentication", current="Findings", has_rows=True),
    ConsolePage(path="/consumers", current="Consumers", has_rows=True),
    ConsolePage(path="/consumers/{consumer}", current="Consumers"),
    ConsolePage(path="/response", current="Response"),
    ConsolePage(path="/coverage", current="Coverage"),
    ConsolePage(path="/sensors", current="Sensors", has_rows=True),
    ConsolePage(path="/sensors/node-1", current="Sensors"),
    ConsolePage(path="/settings", current="Settings"),
    ConsolePage(path="/audit", current="Audit log"),
    ConsolePage(path="/docs", current="Docs"),
    ConsolePage(path="/docs/alerts/enumeration", current="Docs"),
    ConsolePage(path="/docs/reference/settings", current="Docs"),
    ConsolePage(path="/detection", current="Detection"),
    ConsolePage(path="/views", has_rows=True),
    ConsolePage(path="/endpoints?data=response:personal&auth=none&start=yesterday", current="Endpoints", has_rows=True),
    ConsolePage(path="/me"),
    ConsolePage(path="/components"),
    ConsolePage(path="/nothing", status=404),
    ConsolePage(path="/login", is_signed_in=False),
)

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
    unfinished: str = ""


OLD_STYLE: Final = "links in grey text are not underlined, and regions that scroll cannot be focused"

PAGES: Final[tuple[ConsolePage, ...]] = (
    ConsolePage(path="/", unfinished=OLD_STYLE),
    ConsolePage(path="/alerts?state=open", unfinished=OLD_STYLE),
    ConsolePage(path="/coverage", unfinished=OLD_STYLE),
    ConsolePage(path="/detection", unfinished=OLD_STYLE),
    ConsolePage(path="/response", unfinished=OLD_STYLE),
    ConsolePage(path="/endpoints/{endpoint}", unfinished=OLD_STYLE),
    ConsolePage(path="/incidents/{incident}", unfinished=OLD_STYLE),
    ConsolePage(path="/map"),
    ConsolePage(path="/login", is_signed_in=False),
)

"""Every page at every width and in both themes: it fits, reads, works by keyboard and breaks no rule of its own."""

from collections.abc import Iterable
from typing import Final, Literal

import pytest

from tests.console.browser import HEIGHT, WIDTHS, Chromium, Visit
from tests.console.pages import PAGES, ConsolePage
from tests.console.seeded import SeededCollector

pytestmark = [pytest.mark.store, pytest.mark.full("collector.ui")]

PAGE_BYTES_MAX: Final = 300_000
FIRST_ROW_MAX: Final = 400  # Pixels from the top, at WIDE_WIDTHS, with 20 alerts open.
WIDE_WIDTHS: Final = (1440, 1024)
STOPS: Final = 12  # Presses of Tab that are followed.
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
# Rules of axe-core that a theme can break. A width alone cannot: it changes colours where a media query has it.
COLOUR_RULES: Final = ("color-contrast", "link-in-text-block")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_a_page_fits_reads_and_works_by_keyboard(
    page: ConsolePage, chromium: Chromium, collector: SeededCollector
) -> None:
    wrong: dict[str, list[str]] = {}  # What is wrong, and where.
    coloured = set[tuple[str, ...]]()  # Media in which colours were checked.

    def note(where: str, found: Iterable[str]) -> None:
        for one in found:
            wrong.setdefault(one, []).append(where)

    with chromium.visit(page.path.format_map(collector.names), is_signed_in=page.is_signed_in) as visit:
        note("anywhere", check_once(visit, page))
        for width in WIDTHS:
            visit.page.set_viewport_size({"width": width, "height": HEIGHT})
            note(f"{width} px", check_width(visit, page, width))
            for theme in THEMES:
                visit.page.emulate_media(color_scheme=theme)
                is_known = (media := visit.list_media()) in coloured
                coloured.add(media)
                if theme == "light":
                    note(f"{width} px", visit.list_violations(without=COLOUR_RULES if is_known else ()))
                elif not is_known:
                    note(f"{width} px {theme}", visit.list_violations(only=COLOUR_RULES))
        note("anywhere", (one for one in visit.list_complaints() if page.status < 400 or f"{page.status}" not in one))
    assert not wrong, "\n".join(f"{one} ({', '.join(where)})" for one, where in wrong.items())


def check_once(visit: Visit, page: ConsolePage) -> list[str]:
    """What no width changes."""
    wrong = []
    if (headings := visit.page.locator("h1").count()) != 1:
        wrong.append(f"{headings} h1")
    if (size := visit.measure_bytes()) > PAGE_BYTES_MAX:
        wrong.append(f"{size} bytes, more than {PAGE_BYTES_MAX}")
    marked = visit.page.locator("#navigation [aria-current]").all_text_contents()
    if page.current and [page.current] != [text.strip() for text in marked]:
        wrong.append(f"the navigation marks {marked}, not {page.current}")
    return wrong + [f"the focus is not seen on {one}" for one in visit.list_unseen_stops(STOPS)]


def check_width(visit: Visit, page: ConsolePage, width: int) -> list[str]:
    """What depends on the room that there is."""
    wrong = [f"scrolls sideways: {one}" for one in visit.list_wide()]
    wrong += [f"no keyboard reaches {one}" for one in visit.list_unreachable()]
    if page.has_rows and width in WIDE_WIDTHS:
        first = visit.find_first_row()
        if first is None or first > FIRST_ROW_MAX:
            wrong.append(f"the first row begins at {first} px")
    return wrong


def test_every_page_of_the_navigation_is_in_the_table(chromium: Chromium) -> None:
    with chromium.visit("/") as visit:
        titles = visit.page.locator("#navigation a").all_text_contents()
    assert {title.strip() for title in titles} <= {page.current for page in PAGES}

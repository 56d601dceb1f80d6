"""What every page shares: the services behind it, its templates, the frame around it, and its entry in the navigation.

A page is a folder with `page.py`, which defines `PAGE`, and its templates. `collector.ui.pages` lists them all.
docs/internals/console.md says how to add one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from collector.api.permissions import is_permitted
from collector.api.services import Services
from collector.core.scope import find_scope
from collector.inventory.endpoints.filters import METHODS
from collector.ui.components.rendering import build_templates

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "apidae_theme"
_AGAIN = frozenset({408, 500, 503})  # Statuses after which the same may be tried again.
# Of the navigation, in this order. The first has no heading.
GROUPS = ("", "Inventory", "Security", "Installation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One folder of pages. With a `title` it has an entry in the navigation: a link to `path`, in `group`, which the
    keys `g` and `key` follow. What lies below `path` belongs to the entry too. `add_routes` is not called where the
    page is not available."""

    add_routes: Callable[[APIRouter, "Site"], None]
    path: str = ""
    title: str = ""
    group: str = ""
    key: str = ""
    count: Callable[[Services], int] = lambda services: 0  # Shown beside the entry: what waits for a person.
    is_available: Callable[[Services], bool] = lambda services: True


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the navigation. `current` is the value of `aria-current`: the page itself, or one below it."""

    path: str
    title: str
    key: str
    current: str
    count: int = 0


class Site:
    """The pages of one collector."""

    def __init__(self, services: Services, pages: Sequence[Page]) -> None:
        self.services = services
        self.pages = tuple(page for page in pages if page.is_available(services))
        self.templates = build_templates()
        self.templates.filters["consumer_label"] = services.labels.find_name

    def render(
        self, request: Request, template: str, values: Mapping[str, Any] | None = None, *, status: int = 200
    ) -> HTMLResponse:
        """A page of `template` (folder/name.html) in the frame. `values` may replace those of the frame."""
        text = self.templates.get_template(template).render(**{**self._frame(request), **(values or {})})
        return HTMLResponse(text, status_code=status, headers={"vary": "HX-Request"})

    def render_problem(self, request: Request, status: int, title: str, detail: str) -> HTMLResponse:
        """What a person gets instead of a problem of the API: the sentence, and where to go from here."""
        values = {"status": status, "title": title, "detail": detail, "is_again": status in _AGAIN}
        return self.render(request, "components/problem.html", values, status=status)

    def list_entries(self, path: str) -> list[tuple[str, list[Entry]]]:
        """The navigation as (group, entries), seen from the page at `path`."""
        found = []
        for group in GROUPS:
            entries = [
                Entry(
                    path=page.path,
                    title=page.title,
                    key=page.key,
                    current=_compare(page.path, path),
                    count=page.count(self.services),
                )
                for page in self.pages
                if page.title and page.group == group and is_permitted("GET", page.path)
            ]
            if entries:
                found.append((group, entries))
        return found

    def _frame(self, request: Request) -> dict[str, Any]:
        """What every template needs."""
        services, theme = self.services, request.cookies.get(THEME_COOKIE, "auto")
        theme = theme if theme in THEMES else "auto"
        query = urlencode(list(request.query_params.multi_items()))
        return {
            "version": services.settings.version,
            "now": services.clock(),
            "has_htmx": services.settings.htmx_path.is_file(),
            "is_open": services.authenticator.is_open,
            "storage_trouble": services.storage().trouble if find_scope().is_all else "",
            "methods": METHODS,
            "theme": theme,
            "next_theme": THEMES[(THEMES.index(theme) + 1) % len(THEMES)],
            "navigation": self.list_entries(request.url.path),
            "sensor_commands": services.sensor_setup.list_commands(request.url.hostname or "localhost")
            if services.sensor_setup is not None and is_permitted("GET", "/settings")
            else (),
            # Where a form of the frame comes back to.
            "here": f"{request.url.path}?{query}" if query else request.url.path,
        }


def _compare(entry: str, path: str) -> str:
    if path == entry:
        return "page"
    return "true" if entry != "/" and path.startswith(f"{entry}/") else ""

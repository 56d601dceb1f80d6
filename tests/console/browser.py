"""One Chromium, and what a visit of a page shows: its console, reports of the content security policy, measurements.

The browser is the distribution's; without it the tests skip and say so.
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

HEIGHT: Final = 900
WIDTHS: Final = (1440, 1024, 420, 320)
_DRIVER_FLAGS: Final = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync")
# Before each page's own scripts: what the policy refuses is kept where a test can ask for it.
_KEEP_REPORTS: Final = """
window.apidaeReports = [];
document.addEventListener("securitypolicyviolation", (event) =>
    window.apidaeReports.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
# What scrolls sideways, by name; empty where nothing does.
_LIST_WIDE: Final = """() => {
    const root = document.documentElement;
    if (root.scrollWidth === root.clientWidth) return [];
    const wide = [...document.querySelectorAll("body *")].filter(
        (one) => one.getBoundingClientRect().right > root.clientWidth + 0.5);
    return [`${root.scrollWidth} px in ${root.clientWidth}`,
        ...wide.slice(0, 5).map((one) => `${one.tagName}.${one.className}: ${one.textContent.trim().slice(0, 40)}`)];
}"""
# All that can be used and is seen, but cannot be reached by keyboard.
_LIST_UNREACHABLE: Final = """() => {
    const usable = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]";
    const seen = (one) => one.checkVisibility({checkVisibilityCSS: true}) && one.getClientRects().length > 0;
    const name = (one) => `${one.tagName}: ${(one.textContent || one.name || "").trim().slice(0, 40)}`;
    const skipped = [...document.querySelectorAll(usable)].filter(
        (one) => seen(one) && !one.disabled && one.tabIndex < 0 && !one.hasAttribute("data-roving"));
    const clickable = [...document.querySelectorAll("main *, nav *, header *")].filter(
        (one) => seen(one) && getComputedStyle(one).cursor === "pointer" && !one.closest(`${usable}, label`));
    return [...skipped.map(name), ...clickable.map(name)];
}"""
_LIST_MEDIA: Final = """() => [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules])
    .filter((rule) => rule instanceof CSSMediaRule && matchMedia(rule.conditionText).matches)
    .map((rule) => rule.conditionText)"""
# The focused element's name where neither an outline nor a border or shadow of its own shows it.
_SHOW_FOCUS: Final = """() => {
    const one = document.activeElement;
    if (one === null || one === document.body) return "";
    const style = getComputedStyle(one);
    const isShown = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
    return isShown ? "" : `${one.tagName}: ${one.textContent.trim().slice(0, 40)}`;
}"""
_MEASURE_BYTES: Final = """() => performance.getEntriesByType("navigation").concat(
    performance.getEntriesByType("resource").filter((one) => !one.name.includes("/api/v1/events")))
    .reduce((sum, one) => sum + one.decodedBodySize, 0)"""
_FIND_FIRST_ROW: Final = """() => {
    const row = document.querySelector("main table tbody tr, main [data-row]");
    return row === null ? null : row.getBoundingClientRect().top + scrollY;
}"""


@dataclass(slots=True)
class Visit:
    """One page of a browser, and what it complained of since it was opened."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def list_complaints(self) -> list[str]:
        """Errors of the console, and what the content security policy refused; empty where all is well."""
        return [*self.complaints, *self.page.evaluate("() => window.apidaeReports")]

    def list_wide(self) -> list[str]:
        """What makes the page scroll sideways."""
        return list(self.page.evaluate(_LIST_WIDE))

    def list_unreachable(self) -> list[str]:
        """What a mouse can use and a keyboard cannot."""
        return list(self.page.evaluate(_LIST_UNREACHABLE))

    def list_unseen_stops(self, presses: int) -> list[str]:
        """Where the focus goes with Tab and nothing shows it."""
        unseen = []
        for _ in range(presses):
            self.page.keyboard.press("Tab")
            stop = self.page.evaluate(_SHOW_FOCUS)
            unseen += [stop] if stop else []
        return unseen

    def list_media(self) -> tuple[str, ...]:
        """The conditions of style sheets that hold for the window and the theme as they are."""
        return tuple(self.page.evaluate(_LIST_MEDIA))

    def list_violations(self, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> list[str]:
        """What axe-core finds against people who see, hear or move differently; by some of its rules, else by all."""
        chosen = {"runOnly": {"type": "rule", "values": list(only)}} if only else {}
        disabled = {rule: {"enabled": False} for rule in without}
        found = Axe().run(self.page, options={"resultTypes": ["violations"], "rules": disabled, **chosen})
        return [
            f"{one['id']}: {node['target']} {node['failureSummary'].splitlines()[1:2]}"
            for one in found.response["violations"]
            for node in one["nodes"][:3]
        ]

    def measure_bytes(self) -> int:
        """Of the page with all that it loads, decoded."""
        return int(self.page.evaluate(_MEASURE_BYTES))

    def find_first_row(self) -> float | None:
        """Where the first row of a list begins, from the page's top; None without one."""
        found: float | None = self.page.evaluate(_FIND_FIRST_ROW)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Chromium:
    """A running browser, signed in at a collector."""

    browser: Browser
    context: BrowserContext
    address: str

    @contextlib.contextmanager
    def visit(self, path: str, *, is_signed_in: bool = True, **options: Any) -> Iterator[Visit]:
        """A page of its own; `options` are those of a context of its own, else it is the signed-in one."""
        own = self.browser.new_context(base_url=self.address, **options) if options or not is_signed_in else None
        if own is not None and is_signed_in:
            own.add_cookies(self.context.cookies())  # type: ignore[arg-type]
        page = (own or self.context).new_page()
        visit = Visit(page)
        page.add_init_script(_KEEP_REPORTS)
        page.on("pageerror", lambda error: visit.complaints.append(f"{error}"))
        page.on("console", lambda message: _note(visit, message))
        page.set_viewport_size({"width": WIDTHS[0], "height": HEIGHT})
        try:
            page.goto(path)
            yield visit
        finally:
            page.close()
            if own is not None:
                own.close()


def _note(visit: Visit, message: ConsoleMessage) -> None:
    if message.type in ("error", "warning"):
        visit.complaints.append(f"{message.type}: {message.text}")


@contextlib.contextmanager
def open_chromium(address: str, token: str) -> Iterator[Chromium]:
    """The distribution's browser, signed in. Skips where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium here; scripts/setup test installs it where the distribution has it")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=_DRIVER_FLAGS)
        try:
            context = browser.new_context(base_url=address)
            page = context.new_page()
            page.goto("/login")
            page.get_by_label("API token").fill(token)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(f"{address}/")
            page.close()
            yield Chromium(browser=browser, context=context, address=address)
        finally:
            browser.close()

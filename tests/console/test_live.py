"""What the script adds: news without a reload, nothing lost of what somebody does, and a bar for a lost collector."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from collector.alerting.alert import AlertKind
from tests.console.browser import Chromium
from tests.console.seeded import SeededCollector

pytestmark = [pytest.mark.store, pytest.mark.full("collector.ui", "collector.api")]

NEWS_MS = 60_000  # As tests/waiting.py: nobody waits longer than it takes.


@pytest.fixture
def report(collector: SeededCollector, request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Opens an alert `node-news loses` about a node of this test; it is closed at the end, for others count theirs."""
    node = request.node.name

    def open_alert() -> None:
        collector.report(
            500, kind=AlertKind.SENSOR_LOSS, node=node, consumer="", endpoint_id="", title="node-news loses"
        )

    yield open_alert
    collector.services.alerts.settle(AlertKind.SENSOR_LOSS, node)  # type: ignore[attr-defined]


def wait_for_stream(page: Page) -> None:
    """The first look was taken, so what happens from now on is news."""
    page.locator("html.following").wait_for(state="attached", timeout=NEWS_MS)


def test_news_comes_without_a_reload_and_waits_for_a_selection(chromium: Chromium, report: Callable[[], None]) -> None:
    with chromium.visit("/") as visit:
        page = visit.page
        wait_for_stream(page)
        page.evaluate(
            "() => { window.isSamePage = true; getSelection().selectAllChildren(document.getElementById('live')); }"
        )
        report()
        page.locator("#live[data-due]").wait_for(timeout=NEWS_MS)
        page.wait_for_timeout(3_000)  # Longer than the script waits for a load of alerts.
        expect(page.get_by_text("node-news loses")).to_have_count(0)
        assert page.evaluate("() => getSelection().toString().length") > 100
        page.evaluate("() => getSelection().removeAllRanges()")
        expect(page.get_by_text("node-news loses").first).to_be_visible(timeout=NEWS_MS)
        assert page.evaluate("() => window.isSamePage")
        assert visit.list_complaints() == []


def test_news_leaves_focus_scroll_and_what_is_open_as_they_are(chromium: Chromium, report: Callable[[], None]) -> None:
    with chromium.visit("/alerts?state=open") as visit:
        page = visit.page
        wait_for_stream(page)
        page.evaluate("() => { scrollTo(0, 600); [...document.querySelectorAll('#live a[id]')].at(5).focus(); }")
        before = page.evaluate("() => [document.activeElement.id, scrollY]")
        assert before[0]
        report()
        expect(page.get_by_text("node-news loses").first).to_be_attached(timeout=NEWS_MS)
        assert page.evaluate("() => [document.activeElement.id, scrollY]") == before


def test_a_page_of_one_thing_follows_what_others_decide(chromium: Chromium, collector: SeededCollector) -> None:
    with chromium.visit(f"/alerts/{collector.alert_id}") as visit:
        page = visit.page
        wait_for_stream(page)
        page.locator("#live [tabindex]:not([id])").first.focus()
        before = page.evaluate("() => document.activeElement.ariaLabel")
        assert before
        collector.services.alerts.acknowledge(collector.alert_id, by="ada-elsewhere")  # type: ignore[attr-defined]
        expect(page.locator("#live").get_by_text("ada-elsewhere")).to_be_visible(timeout=NEWS_MS)
        assert page.evaluate("() => document.activeElement.ariaLabel") == before
        assert visit.list_complaints() == []


@pytest.mark.parametrize("kind", ["endpoints/{endpoint}", "consumers/{consumer}", "incidents/{incident}"])
def test_pages_of_one_thing_are_live(chromium: Chromium, collector: SeededCollector, kind: str) -> None:
    with chromium.visit(f"/{kind}".format_map(collector.names)) as visit:
        wait_for_stream(visit.page)
        assert visit.page.locator("#live[data-live] :is(table, ul.alerts)").count() > 0


def test_a_lost_collector_is_said_and_found_again(chromium: Chromium) -> None:
    with chromium.visit("/", locale="en-GB") as visit:
        page, bar = visit.page, visit.page.get_by_role("status").and_(visit.page.locator("#connection"))
        wait_for_stream(page)
        expect(bar).to_be_empty()
        page.context.set_offline(True)
        page.route("**/*", lambda route: route.abort())
        page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")  # Loads what is due at once.
        expect(bar).to_have_text(re.compile(r"The collector has not answered since \d\d:\d\d:\d\d\."), timeout=NEWS_MS)
        expect(page.locator("html")).to_have_class(re.compile("stale"))
        page.unroute("**/*")
        page.context.set_offline(False)
        expect(bar).to_be_empty(timeout=NEWS_MS + 10_000)
        expect(page.locator("html")).not_to_have_class(re.compile("stale"))


def test_the_keyboard_goes_everywhere(chromium: Chromium) -> None:
    with chromium.visit("/endpoints") as visit:
        page, keys = visit.page, visit.page.keyboard
        keys.press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        keys.press("Escape")
        keys.press("/")
        expect(page.locator("main [type=search]")).to_be_focused()
        keys.type("g")  # In a field a letter is a letter.
        keys.press("Escape")
        keys.press("j")
        keys.press("j")
        focused = page.evaluate("() => document.activeElement.getAttribute('href')")
        assert focused and focused.startswith("/endpoints/")
        keys.press("Enter")
        page.wait_for_url(re.compile("/endpoints/"))
        keys.press("g")
        keys.press("a")
        page.wait_for_url(re.compile("/alerts"))
        assert visit.list_complaints() == []


def test_back_restores_the_filters(chromium: Chromium) -> None:
    with chromium.visit("/endpoints") as visit:
        page = visit.page
        page.locator("main [type=search]").fill("orders")
        page.locator("main [type=search]").press("Enter")
        page.wait_for_url(re.compile("q=orders"))
        page.locator("main tbody a").first.click()
        page.wait_for_url(re.compile("/endpoints/ep"))
        page.go_back()
        expect(page.locator("main [type=search]")).to_have_value("orders")
        expect(page.locator("main tbody tr")).to_have_count(2)


def test_a_session_that_is_over_leads_to_the_sign_in_and_back(chromium: Chromium, collector: SeededCollector) -> None:
    own = chromium.browser.new_context(base_url=chromium.address)
    page = own.new_page()
    page.goto("/login?next=/%3Ffrom%3Dhere")
    page.get_by_label("API token").fill(collector.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile("from=here"))
    wait_for_stream(page)
    own.request.post("/logout")
    own.clear_cookies()
    page.wait_for_url(re.compile("/login"), timeout=NEWS_MS)
    page.get_by_label("API token").fill(collector.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile("/[?]from=here"))
    own.close()


def test_an_incident_prints_without_what_only_a_screen_can_use(chromium: Chromium, collector: SeededCollector) -> None:
    with chromium.visit("/incidents/{incident}".format_map(collector.names)) as visit:
        page = visit.page
        page.emulate_media(media="print")
        for one in page.locator("header, #navigation, footer, main button, main form").all():
            expect(one).not_to_be_visible()
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator("main table").first).to_be_visible()
        assert len(page.pdf()) > 5_000

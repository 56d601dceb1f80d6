"""An incident on paper: all of it, and nothing that only a screen needs."""

import pytest

from tests.console.browser import Chromium
from tests.console.seeded import SeededCollector

pytestmark = [pytest.mark.store, pytest.mark.full("collector.ui")]


def test_an_incident_prints_whole_without_navigation(chromium: Chromium, collector: SeededCollector) -> None:
    with chromium.visit("/incidents/{incident}".format_map(collector.names)) as visit:
        page = visit.page
        page.emulate_media(media="print", color_scheme="light")
        for shown in ("h1", "#timeline", ".tiles", ".alerts"):
            assert page.locator(shown).first.is_visible(), shown
        for hidden in ("#navigation", "header.bar", ".crumbs", ".alerts .actions", "footer"):
            assert not page.locator(hidden).first.is_visible(), hidden
        page.set_viewport_size({"width": 794, "height": 1123})  # A4 at 96 dots an inch.
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

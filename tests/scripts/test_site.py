"""The documentation as a site: it has every page, a dead link fails it, it loads nothing from elsewhere, and what the
collector shows of a page it shows too."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from mkdocs.exceptions import Abort

from collector.ui.documentation.markdown import find_page, list_names
from scripts.site.__main__ import DOCS, build_site

# What a page is made of; both programs read Markdown by a library of their own.
_PARTS = re.compile(r"<(table|tr|li|pre|h2|h3|h4)(?![a-z])")
_LOADED = re.compile(r"<(?:script|link|img|iframe|source)[^>]+(?:src|href)=[\"']?((?:https?:)?//[^\"'> ]+)")

_IMPORTED = re.compile(r"url\([\"']?(?:https?:)?//[^)]*")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds it, which fails at a dead link or anchor, and at a page that the navigation lacks."""
    return build_site(tmp_path_factory.mktemp("site"), "0.2.0")


def read_article(site: Path, name: str) -> str:
    """What a page of the site says, without its frame."""
    folder = (DOCS / name / "README.md").exists()
    text = (site / name / "index.html" if folder else site / f"{name}.html").read_text()
    return text[text.index("<article") : text.index("</article>")]


def test_pages_have_the_parts_that_the_collector_shows(site: Path) -> None:
    wrong = {}
    for name in list_names():
        page = find_page(name)
        assert page is not None
        ours, theirs = (Counter(_PARTS.findall(text)) for text in (page.html, read_article(site, name)))
        if ours != theirs:
            wrong[name] = {part: (ours[part], theirs[part]) for part in ours | theirs if ours[part] != theirs[part]}
    assert len(list_names()) > 100 and not wrong


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    loaded = {
        page.name: [*_LOADED.findall(text), *_IMPORTED.findall(text)] for page in pages for text in [page.read_text()]
    }
    assert len(pages) > 100
    assert not {name: urls for name, urls in loaded.items() if urls}


def test_versions_are_kept_and_the_newest_is_first(site: Path) -> None:
    older = site.parent / "0.1.9"
    older.mkdir()
    (older / "index.html").write_text("")
    tiny = site.parent.parent / "docs"
    tiny.mkdir()
    write_tiny(tiny, "[one](one.md#here)")
    build_site(site.parent, "0.1.10", tiny)
    versions = json.loads((site.parent / "versions.json").read_text())
    assert [one["version"] for one in versions] == ["0.2.0", "0.1.10", "0.1.9"]
    assert [one["aliases"] for one in versions] == [["latest"], [], []]
    assert "url=0.2.0/index.html" in (site.parent / "index.html").read_text()


def write_tiny(docs: Path, link: str) -> None:
    """Documentation of two pages."""
    top = "[a](../UPGRADING.md), [b](../CHANGELOG.md)"
    (docs / "README.md").write_text(f"# Tiny\n\n## Start\n\n[One](one.md), {top}\n\n{link}\n")
    (docs / "one.md").write_text("# One\n\n## Here\n\n[code](../scripts/run)\n")


@pytest.mark.parametrize("link", ["[gone](gone.md)", "[gone](one.md#gone)", "[gone](../gone.py)"])
def test_a_dead_link_fails_the_build(link: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    write_tiny(docs, link)
    with pytest.raises(Abort, match="warnings in strict mode"):
        build_site(tmp_path / "site", "1", docs)


@pytest.mark.full
def test_the_search_works_without_a_server(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium")
    if browser_path is None:
        pytest.skip("there is no chromium here")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.keyboard.press("/")
        page.keyboard.type("unsigned jwt")
        page.wait_for_selector(".md-search-result__item")
        found = page.locator(".md-search-result__item a").first.get_attribute("href")
        browser.close()
    assert found is not None and "findings/jwt_unsigned.html" in found
    assert asked and all(url.startswith("file:") for url in asked)

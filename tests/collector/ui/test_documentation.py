"""The documentation in the console: every link leads to a page and a heading that are there, and a page that was made
to harm does nothing."""

import re
from pathlib import Path

import pytest

from collector.ui.documentation import markdown
from collector.ui.documentation.markdown import PAGES, PATH, find_page, list_names, make_anchor

NAMES = list_names()


def test_all_pages_are_shipped_under_their_paths() -> None:
    assert {"", "alerts", "alerts/bola", "findings/jwt_unsigned", "use/response", "reference/cli"} <= NAMES
    assert len(NAMES) == len(list(PAGES.rglob("*.md")))


def test_wheels_and_images_have_the_pages() -> None:
    """By a link, which the package's build follows. Builders copy what is named."""
    root = PAGES.resolve().parent
    assert PAGES.is_symlink() and PAGES.resolve() == root / "docs"
    for side in ("sensor", "collector"):
        assert "\nCOPY docs docs\n" in (root / f"images/{side}.Containerfile").read_text()
    assert "\n!docs\n" in (root / ".dockerignore").read_text()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_links_of_a_page_lead_to_pages_and_headings(name: str) -> None:
    page = find_page(name)
    assert page is not None and page.title and "<th></th>" not in page.html
    for target in re.findall(r'href="([^"]+)"', page.html):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        other = find_page(path.removeprefix(PATH).strip("/")) if path else page
        assert other is not None, target
        assert not anchor or f'id="{anchor}"' in other.html or anchor == make_anchor(other.title), target


def test_links_to_files_that_are_not_shipped_and_pictures_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.md").write_text(
        "# One `<b>`\n\n![picture](images/a.png) [code](../x.py) [two](two.md#a-b) <script>alert(1)</script>\n\n"
        "## Same\n\n## Same\n\n[bad](javascript:alert(1))\n"
    )
    (tmp_path / "two.md").write_text("# Two\n\n## A b\n")
    monkeypatch.setattr(markdown, "PAGES", tmp_path)
    markdown._list_files.cache_clear()
    markdown._render.cache_clear()
    try:
        page = find_page("one")
    finally:
        monkeypatch.undo()
        markdown._list_files.cache_clear()
        markdown._render.cache_clear()
    assert page is not None and page.title == "One <b>"
    assert re.findall(r'href="([^"]+)"', page.html) == ["/docs/two#a-b"]
    assert re.findall(r'id="([^"]+)"', page.html) == ["same", "same-1"]
    assert "code" in page.html and "<img" not in page.html and "<script" not in page.html

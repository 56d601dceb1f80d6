"""The navigation of the console."""

from collections import Counter

from collector.ui.pages import PAGES


def test_each_entry_has_a_key_of_its_own() -> None:
    """`g` and the key go to the page; of two with the same key the second one is out of reach."""
    entries = [page for page in PAGES if page.title]
    assert all(len(page.key) == 1 for page in entries)
    assert [key for key, count in Counter(page.key for page in entries).items() if count > 1] == []

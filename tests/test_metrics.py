"""docs/reference/metrics.md lists every metric that sensor and collector export, and no other.

The list comes from the exporters themselves (tests/exporters.py), which also find the expressions of the product that
make figures no exporter asks for. `python -m tests.test_metrics` writes the page.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scripts.reference.metrics import PAGE, format_metrics
from sensor.core.config import CaptureWay
from tests.exporters import collect_collector, collect_sensor, watch_figures
from tests.product import Product

ROW = re.compile(r"^\| `(apidae_\w+)` \| (counter|gauge|histogram) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


def format_page(directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page of the exporters as they are."""
    sensor = [
        family
        for way in (CaptureWay.CGROUP_SKB, CaptureWay.SYSCALLS)
        for family in collect_sensor(way, directory / way.value, monkeypatch)
    ]
    return format_metrics(sensor, collect_collector(directory / "data"))


@pytest.mark.store
def test_every_metric_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch_figures(monkeypatch)
    page = format_page(tmp_path, monkeypatch)
    assert watched.find_unasked(Product(), "sensor") == [], "figures that no exporter asks for"
    assert watched.find_unasked(Product(), "collector") == [], "figures that no exporter asks for"
    assert page == PAGE.read_text(), "run scripts/generate"


def list_mentions(text: str) -> list[str]:
    """Metrics that a page names: whole, as `.._end` of one, or with `*` for a group."""
    return re.findall(r"`((?:apidae_(?:sensor|collector)_|\.\._)[a-z0-9_*]*)", text)


def is_mention(mention: str, name: str) -> bool:
    if mention.startswith(".._"):
        return name.endswith(mention[2:])
    return name == mention or (mention.endswith("*") and name.startswith(mention[:-1]))


def test_what_other_pages_name_is_exported() -> None:
    names = {name for name, _, _, _ in ROW.findall(PAGE.read_text())}
    root = PAGE.parents[2]
    pages = [page for page in (root / "README.md", *sorted((root / "docs").rglob("*.md"))) if page != PAGE]
    mentions = {(page.name, mention) for page in pages for mention in list_mentions(page.read_text())}
    assert len(mentions) > 40
    assert [one for one in sorted(mentions) if not any(is_mention(one[1], name) for name in names)] == []


def test_a_meaning_is_a_sentence_that_says_more_than_the_name() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert len(rows) > 200
    for name, _, _, meaning in rows:
        words = set(re.findall(r"[a-z0-9]+", meaning.lower()))
        assert re.fullmatch(r"[A-Z0-9].*\.", meaning) and len(words) >= 4, f"{name}: {meaning}"
        assert not words <= set(name.split("_")) | {"total", "now"}, f"{name}: {meaning}"


if __name__ == "__main__":
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        PAGE.write_text(format_page(Path(directory), patch))

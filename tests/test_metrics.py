"""docs/reference/metrics.md lists every metric that sensor and collector export, and no other.

Each has its type, labels and meaning there. The list comes from the exporters themselves (tests/exporters.py), which
also find the expressions of the product that make figures no exporter asks for.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from sensor.core.config import CaptureWay
from tests.exporters import collect_collector, collect_sensor, watch_figures
from tests.product import Product

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "metrics.md"
UNITS = {"_bytes": "bytes", "_seconds": "s", "_ratio": "ratio"}

Row = tuple[str, str, str]  # Type, labels, meaning.


def read_page(title: str) -> dict[str, Row]:
    """The rows below one heading, by the name that is exported."""
    text = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    prefix = re.search(r"Each name begins with `(\w+)`", text)
    assert prefix is not None
    rows = re.findall(r"^\| `(\w+)(?:\{([\w,]+)\})?` \| (\w+) \| [^|]+ \| ([^|]+) \|[^|]*\|$", text, re.MULTILINE)
    found = {
        prefix[1] + name: (type_, sort_labels(labels.split(",")), meaning) for name, labels, type_, meaning in rows
    }
    assert len(found) == len(rows), "a metric has two rows"
    return found


def sort_labels(labels: Iterable[str]) -> str:
    return ",".join(sorted(labels))


def list_families(families: list[Metric]) -> dict[str, Row]:
    """The same of what is exported."""
    found = {}
    for family in families:
        labels = {tuple(sample.labels) for sample in family.samples}
        assert len(labels) == 1, f"{family.name} has samples with other labels: {labels}"
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, sort_labels(labels.pop()), family.documentation)
    return found


def check_page(title: str, exported: dict[str, Row]) -> None:
    described = read_page(title)
    assert sorted(exported.keys() - described.keys()) == [], "not in docs/reference/metrics.md"
    assert sorted(described.keys() - exported.keys()) == [], "in docs/reference/metrics.md, and exported by nobody"
    assert described == exported


def test_every_metric_of_the_sensor_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch_figures(monkeypatch)
    exported: dict[str, Row] = {}
    for way in (CaptureWay.CGROUP_SKB, CaptureWay.SYSCALLS):
        exported |= list_families(collect_sensor(way, tmp_path / way.value, monkeypatch))
    assert watched.find_unasked(Product(), "sensor") == [], "figures that no exporter asks for"
    check_page("Sensor", exported)


@pytest.mark.store
def test_every_metric_of_the_collector_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch_figures(monkeypatch)
    exported = list_families(collect_collector(tmp_path / "data"))
    assert watched.find_unasked(Product(), "collector") == [], "figures that no exporter asks for"
    check_page("Collector", exported)


def list_mentions(text: str) -> list[str]:
    """Metrics that a page names: whole, as `.._end` of one, or with `*` for a group."""
    return re.findall(r"`((?:apidae_(?:sensor|collector)_|\.\._)[a-z0-9_*]*)", text)


def is_mention(mention: str, name: str) -> bool:
    if mention.startswith(".._"):
        return name.endswith(mention[2:])
    return name == mention or (mention.endswith("*") and name.startswith(mention[:-1]))


def test_what_other_pages_name_is_exported() -> None:
    names = read_page("Sensor").keys() | read_page("Collector").keys()
    root = PAGE.parents[2]
    pages = [page for page in (root / "README.md", *sorted((root / "docs").rglob("*.md"))) if page != PAGE]
    mentions = {(page.name, mention) for page in pages for mention in list_mentions(page.read_text())}
    assert len(mentions) > 40
    assert [one for one in sorted(mentions) if not any(is_mention(one[1], name) for name in names)] == []


@pytest.mark.parametrize("title", ["Sensor", "Collector"])
def test_a_meaning_is_a_sentence_that_says_more_than_the_name(title: str) -> None:
    for name, (_, _, meaning) in read_page(title).items():
        words = set(re.findall(r"[a-z0-9]+", meaning.lower()))
        assert re.fullmatch(r"[A-Z0-9].*\.", meaning) and len(words) >= 4, f"{name}: {meaning}"
        assert not words <= set(name.split("_")) | {"total", "now"}, f"{name}: {meaning}"


def test_a_name_ends_with_its_unit_where_it_has_one() -> None:
    rows = re.findall(r"^\| `(\w+?)(?:_total)?(?:\{[\w,]+\})?` \| \w+ \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    assert len(rows) > 200
    wrong = [
        (name, unit) for name, unit in rows for end, wanted in UNITS.items() if name.endswith(end) and unit != wanted
    ]
    assert wrong == []

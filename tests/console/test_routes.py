"""Each command of docs/reference/routes is answered as documented, on a collector of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.reference.routes import FOLDER, is_up_to_date
from tests.console.routes import run_commands
from tests.console.seeded import SeededCollector, open_seeded

pytestmark = [pytest.mark.store, pytest.mark.full("docs", "collector.api", "collector.cli")]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SeededCollector, Path]]:
    """A collector that the commands may change, and its directory."""
    directory = tmp_path_factory.mktemp("routes")
    with open_seeded(directory) as collector:
        yield collector, directory


def test_every_route_is_answered_as_documented(changed: tuple[SeededCollector, Path]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    collector, directory = changed
    pages = run_commands(collector, str(directory))
    kept = {path: path.read_text() for path in FOLDER.glob("*.md")}
    assert kept.keys() == pages.keys(), "run scripts/generate and commit"
    wrong = [path.name for path, text in pages.items() if not is_up_to_date(kept[path], text)]
    assert not wrong, "run scripts/generate and commit"


def test_a_page_is_not_up_to_date_with_another_field_or_text() -> None:
    page = '# One\n\n```json\n{"a": [{"b": 1}], "c": null}\n```\n'
    assert is_up_to_date(page, page.replace("1", "2").replace("null", '{"d": 1}'))
    assert not is_up_to_date(page, page.replace('"b"', '"e"'))
    assert not is_up_to_date(page, page.replace("One", "Two"))
    assert not is_up_to_date(page, page.replace("1", "[1]"))

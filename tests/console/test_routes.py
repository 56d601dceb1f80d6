"""docs/reference/routes is what the collector answers: each command of it runs, and each answer has the documented
shape."""

from pathlib import Path

import pytest

from scripts.reference.routes import FOLDER, is_up_to_date
from tests.console.routes import run_commands
from tests.console.seeded import open_seeded

pytestmark = [pytest.mark.store, pytest.mark.full("collector.api")]


def test_every_command_runs_and_is_answered_as_documented(tmp_path: Path) -> None:
    with open_seeded(tmp_path) as collector:
        pages = run_commands(collector, str(tmp_path))
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

"""Generated pages are as the programs say; `scripts/generate` writes them. Each kind of alert and each rule of findings
has a page with four hand-written parts, which the collector serves where alerts and findings link to."""

import re
from pathlib import Path

import pytest

from collector.alerting.alert import AlertKind
from collector.risk.rules import load_rules
from collector.ui.documentation.markdown import PATH, find_page
from scripts.helm.settings_schema import SIDES
from scripts.reference import commands, kinds, settings
from scripts.reference.settings import list_undescribed


def test_the_page_of_settings_is_up_to_date() -> None:
    assert settings.PAGE.read_text() == settings.format_settings(), "run scripts/generate and commit"


def test_the_page_of_commands_is_up_to_date() -> None:
    assert commands.PAGE.read_text() == commands.format_commands(), "run scripts/generate and commit"


PAGES = kinds.list_pages()
WORDS_MIN, WORDS_MAX = 80, 450  # Of what is written by hand.


def test_the_pages_of_kinds_and_rules_are_up_to_date_and_there_are_no_others() -> None:
    kept = {path: path.read_text() for folder in (kinds.ALERTS, kinds.FINDINGS) for path in folder.glob("*.md")}
    assert [path.name for path in PAGES if kept.get(path) != PAGES[path]] == [], "run scripts/generate and commit"
    assert kept.keys() == PAGES.keys()


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "README.md"], ids=lambda path: path.stem)
def test_a_page_has_the_four_parts(path: Path) -> None:
    written = kinds.read_written(path)
    assert tuple(re.findall(r"^- \*\*(.+)\*\*:", written, re.MULTILINE)) == kinds.PARTS
    assert WORDS_MIN <= len(written.split()) <= WORDS_MAX


def test_alerts_and_findings_link_to_their_pages() -> None:
    for one in (*AlertKind, *(rule for rule, _ in load_rules())):
        page = find_page(one.runbook.removeprefix(f"{PATH}/"))
        assert page is not None and "<strong>Not shown</strong>" in page.html, one.runbook


@pytest.mark.parametrize("side", SIDES)
def test_every_setting_has_a_sentence(side: str) -> None:
    assert list_undescribed(SIDES[side]) == []

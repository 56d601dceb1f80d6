"""docs/reference/settings.md and docs/reference/cli.md are as the programs say; `scripts/generate` writes both."""

import pytest

from scripts.helm.settings_schema import SIDES
from scripts.reference import commands, settings
from scripts.reference.settings import list_undescribed


def test_the_page_of_settings_is_up_to_date() -> None:
    assert settings.PAGE.read_text() == settings.format_settings(), "run scripts/generate and commit"


def test_the_page_of_commands_is_up_to_date() -> None:
    assert commands.PAGE.read_text() == commands.format_commands(), "run scripts/generate and commit"


@pytest.mark.parametrize("side", SIDES)
def test_every_setting_has_a_sentence(side: str) -> None:
    assert list_undescribed(SIDES[side]) == []

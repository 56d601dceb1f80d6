"""What holds for all settings of both programs. docs/internals/development.md says how one is added."""

import ast
from pathlib import Path

import pytest

from common.settings import list_settings, name_variable
from scripts.helm.settings_schema import SIDES

ROOT = Path(__file__).parents[1]
# A page that a person can read, for each side. Whoever adds one removes one, or writes a constant.
SETTINGS_MAX = {"sensor": 36, "collector": 36}


def list_attributes(side: str) -> set[str]:
    """Names that the code of one side reads from objects, its models of settings excluded."""
    found = set()
    for path in (ROOT / side).rglob("*.py"):
        if path.parts[-2:] not in (("core", "config.py"), ("core", "destinations.py")):
            found |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    return found


@pytest.mark.parametrize("side", SIDES)
def test_every_setting_is_read(side: str) -> None:
    attributes = list_attributes(side) | list_attributes("common")
    # Methods of the settings read these.
    attributes |= {"sensor": {"token_file"}, "collector": {"sensor_auth"}}[side]
    unread = {name for name in list_settings(SIDES[side]) if not {*name.split(".")} <= attributes}
    assert unread == set(), f"settings that no code of the {side} reads"


@pytest.mark.parametrize("side", SIDES)
def test_there_are_few(side: str) -> None:
    assert len(SIDES[side].model_fields) <= SETTINGS_MAX[side]


@pytest.mark.parametrize("side", SIDES)
def test_no_name_means_two_settings(side: str) -> None:
    model = SIDES[side]
    names = list_settings(model)
    assert len({name_variable(model, name) for name in names}) == len(names)
    assert not set(model.removed) & set(names)

"""The tables of alert kinds and of notifiers: an entry that lacks a place fails (docs/internals/development.md)."""

import re
import string
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from collector.alerting.alert import AlertKind, KindGroup, Severity
from collector.alerting.notifiers.build import NOTIFIERS
from collector.alerting.notifiers.selection import QuietHours, Selection
from collector.core.config import CollectorSettings
from collector.core.rates import LocalTime
from common.settings import Section, find_sections

ROOT = Path(__file__).parents[3]
BODIES = ROOT / "collector/alerting/notifiers/bodies"
NOTIFIERS_PAGE = (ROOT / "docs/use/notifiers.md").read_text()
SOURCES = [path.read_text() for path in (ROOT / "collector").rglob("*.py") if path.name != "alert.py"]


@pytest.mark.parametrize("kind", AlertKind)
def test_every_kind_is_raised_by_somebody(kind: AlertKind) -> None:
    assert any(f"AlertKind.{kind.name}" in source for source in SOURCES), f"nothing raises {kind}"


@pytest.mark.parametrize("kind", [kind for kind in AlertKind if kind.row.group is KindGroup.ABUSE])
def test_every_kind_of_abuse_has_its_words(kind: AlertKind) -> None:
    row = kind.row
    assert row.title and row.unit and row.advice.endswith(".") and row.specificity and row.can_block
    assert {name for _, name, _, _ in string.Formatter().parse(row.title)} <= {"count", "where", "detail", None}


SHARED_KEYS = set.intersection(*(set(model.model_fields) for model in NOTIFIERS))


def test_every_kind_of_notifier_is_built() -> None:
    assert list(NOTIFIERS) == find_sections(CollectorSettings.model_fields["notifiers"])


@pytest.mark.parametrize("model", NOTIFIERS, ids=lambda model: model.__name__)
def test_every_notifier_is_documented_with_its_keys(model: type[Section]) -> None:
    (kind,) = get_args(model.model_fields["kind"].annotation)
    lines = [line for line in NOTIFIERS_PAGE.splitlines() if f"| `{kind}` |" in line]
    assert lines and all(f"`{key}`" in lines[0] for key in model.model_fields.keys() - SHARED_KEYS)


def test_keys_of_every_notifier_are_documented_once() -> None:
    assert {"kind", "name", "severity", "quiet_hours"} < SHARED_KEYS
    assert all(f"`{key}`" in NOTIFIERS_PAGE or f"\n{key} = " in NOTIFIERS_PAGE for key in SHARED_KEYS)


def test_the_documented_entries_are_taken() -> None:
    for block in re.findall(r"```toml\n(.*?)```", NOTIFIERS_PAGE, re.DOTALL):
        for entry in tomllib.loads(block)["notifiers"]:
            chosen = {key: tuple(entry.get(key, ())) for key in ("kinds", "services", "namespaces")}
            hours = QuietHours(entry.get("quiet_hours", ()), LocalTime())
            Selection(severity=Severity(entry.get("severity", "low")), quiet_hours=hours, **chosen)


def test_every_body_is_of_a_notifier() -> None:
    kinds = {get_args(model.model_fields["kind"].annotation)[0] for model in NOTIFIERS}
    assert {path.stem for path in BODIES.rglob("*.json")} <= kinds

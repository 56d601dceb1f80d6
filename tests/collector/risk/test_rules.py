"""Rules: each row of rules.json has a function, and the page for users lists it."""

from pathlib import Path

from collector.risk.rules import _FINDERS, load_rules

PAGE = Path(__file__).parents[3] / "docs" / "use" / "risk.md"


def test_every_rule_has_a_function_and_every_function_a_rule() -> None:
    ids = [rule.id for rule, _ in load_rules()]
    assert sorted(ids) == sorted(_FINDERS)


def test_every_rule_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert [rule.id for rule, _ in load_rules() if f"`{rule.id}`" not in text] == []

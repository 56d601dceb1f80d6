"""Rules: each row of rules.json has a function."""

from collector.risk.rules import _FINDERS, load_rules


def test_every_rule_has_a_function_and_every_function_a_rule() -> None:
    ids = [rule.id for rule, _ in load_rules()]
    assert sorted(ids) == sorted(_FINDERS)

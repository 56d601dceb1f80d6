"""Services of our own, vulnerable and sound, through a running collector: every flaw is found, no decoy is flagged."""

from collections import Counter

import pytest

from tests.collector.risk.judging import judge_cases
from tests.collector.risk.traffic import load_cases

pytestmark = pytest.mark.store

FLAWS_MIN, DECOYS_MIN = 30, 60


def test_the_list_is_long_enough() -> None:
    cases = load_cases()
    assert len({case["id"] for case in cases}) == len(cases)
    assert sum("expect" in case for case in cases) >= FLAWS_MIN
    assert sum("expect" not in case for case in cases) >= DECOYS_MIN


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counter[str]]:
    """Findings of each rule by case."""
    return judge_cases(tmp_path_factory.mktemp("cases"))


@pytest.mark.parametrize("case", [case for case in load_cases() if "expect" in case], ids=lambda case: case["id"])
def test_every_flaw_is_found(case: dict[str, object], found: dict[str, Counter[str]]) -> None:
    assert set(case["expect"]) <= found.get(str(case["id"]), Counter()).keys()  # type: ignore[call-overload]


def test_no_decoy_is_flagged(found: dict[str, Counter[str]]) -> None:
    decoys = {str(case["id"]) for case in load_cases() if "expect" not in case}
    assert {name: rules for name, rules in found.items() if name in decoys} == {}


@pytest.mark.parametrize("case", ["f56-graphql-customer", "f57-mcp-customer"])
def test_an_operation_has_the_finding_beside_its_path(case: str, found: dict[str, Counter[str]]) -> None:
    assert found[case]["personal_data_without_authentication"] == 2

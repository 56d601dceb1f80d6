"""Services of our own, vulnerable and sound, through a running collector: every flaw is found, no decoy is flagged."""

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
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Rules by case."""
    return judge_cases(tmp_path_factory.mktemp("cases"))


@pytest.mark.parametrize("case", [case for case in load_cases() if "expect" in case], ids=lambda case: case["id"])
def test_every_flaw_is_found(case: dict[str, object], found: dict[str, set[str]]) -> None:
    assert set(case["expect"]) <= found.get(str(case["id"]), set())  # type: ignore[call-overload]


def test_no_decoy_is_flagged(found: dict[str, set[str]]) -> None:
    decoys = {str(case["id"]) for case in load_cases() if "expect" not in case}
    assert {name: rules for name, rules in found.items() if name in decoys} == {}

"""The pages of findings without JavaScript: groups, check boxes, one decision on all of a rule, and the way back."""

import re

import pytest

from tests.collector.api.test_findings import Console, console

pytestmark = pytest.mark.store
__all__ = ["console"]
RULE = "/findings/credentials_in_clear"


def show(console: Console, path: str, status: int = 200) -> str:
    answer = console.client.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


def decide(console: Console, status: int = 200, **fields: object) -> str:
    form = {"decision": "accepted", "days": "0", "note": "inside the mesh", "scope": "chosen", **fields}
    answer = console.client.post(RULE, data=form)
    assert answer.status_code == status, answer.text
    return answer.text


def test_61_alike_are_one_line_and_the_critical_rule_is_first(console: Console) -> None:
    text = show(console, "/findings")
    rules = re.findall(r'id="rule-([a-z_]+)"', text)
    assert rules[:2] == ["personal_data_without_authentication", "credentials_in_clear"] and len(rules) == 5
    assert "117 findings of 5 rules" in text and text.count("<h1>") == 1
    assert show(console, "/findings?severity=low").count('id="rule-') == 1
    assert "Nothing is open." not in show(console, "/findings?state=accepted&q=nowhere")


def test_a_rule_is_accepted_as_a_whole_and_undone(console: Console) -> None:
    text = show(console, RULE)
    assert text.count('type="checkbox"') == 61 and "all 61 of this list" in text
    fields = dict(re.findall(r'name="(filter-[a-z_]+|expected)" value="([^"]*)"', text))
    assert fields["expected"] == "61" and fields["filter-state"] == "open"
    after = decide(console, scope="all", days="90", **fields)
    assert "61 findings decided: accepted." in after and "No finding of this rule is here." in after
    assert console.count_states("credentials_in_clear") == {"accepted": 61}
    accepted = show(console, f"{RULE}?state=accepted")
    assert "no-auth: inside the mesh, for 90 d" in accepted
    undo = re.search(r'action="(/findings/decisions/[0-9a-f]+/undo)"', after)
    assert undo is not None
    console.now[0] += 1
    assert console.client.post(undo[1], data={"next": RULE}).status_code == 200
    assert console.count_states("credentials_in_clear") == {"open": 61}


def test_those_that_are_ticked_are_decided_on(console: Console) -> None:
    ids = re.findall(r'name="id" value="([0-9a-f]+)"', show(console, RULE))[:3]
    assert "3 findings decided: false positive." in decide(console, decision="false_positive", id=ids)
    assert console.count_states("credentials_in_clear") == {"open": 58, "false_positive": 3}
    assert "Open again" in show(console, f"{RULE}?state=false_positive")


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"note": " "}, 422, "Say why"),
        ({"decision": ""}, 422, "Choose what the findings are"),
        ({"id": []}, 422, "Choose at least one finding"),
        ({"scope": "all", "expected": "60", "filter-state": "open"}, 409, "61 findings match, not 60"),
        ({"scope": "all", "filter-state": "nowhere"}, 422, "not those of the page"),
        ({"days": "7"}, 422, "how long"),
    ],
)
def test_an_unclear_form_says_so_and_changes_nothing(
    console: Console, fields: dict[str, object], status: int, words: str
) -> None:
    text = decide(console, status, **fields)
    assert words in text and 'type="checkbox"' in text
    assert console.count_states("credentials_in_clear") == {"open": 61}


def test_an_unknown_rule_is_not_found(console: Console) -> None:
    show(console, "/findings/nowhere", 404)

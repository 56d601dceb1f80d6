"""Signs: what a form finds shows its sign, wherever it stands; texts are told apart; what shows none is nothing."""

import re

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sensor.sensitive import values
from sensor.sensitive.kinds import DataKind
from sensor.sensitive.values import LEAKS, Signs

_PATTERNS = [(form.kind, form.pattern) for form in values._FORMS] + [(leak.kind, leak.pattern) for leak in LEAKS]
# Of these the check asks for more than the pattern, and the sign counts on it.
_CHECKED = (DataKind.IP_ADDRESS, DataKind.PHONE)
_MACHINES = {DataKind.IP_ADDRESS: st.ip_addresses().map(str)}
_AROUND = st.sampled_from(["", " ", "x: ", "\u00e9 ", "(", "\n", "\u2028"])


@pytest.mark.parametrize("index", range(len(_PATTERNS)), ids=[f"{i}-{kind}" for i, (kind, _) in enumerate(_PATTERNS)])
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_what_a_form_takes_shows_its_sign(index: int, data: st.DataObject) -> None:
    """Digits and blanks are those of ASCII: others pass no check of any form."""
    kind, pattern = _PATTERNS[index]
    # Drawn without what looks around, which a drawn text may or may not have.
    bare = re.sub(r"\(\?<?!(?:\[[^\]]*\]|\\.|[^()])*\)", "", pattern.pattern)
    drawn = data.draw(st.from_regex(re.compile(bare, re.ASCII), fullmatch=True) | _MACHINES.get(kind, st.nothing()))
    text = data.draw(_AROUND) + drawn + data.draw(_AROUND)
    matches = [match.group() for match in pattern.finditer(text)]
    if kind in _CHECKED:
        matches = [match for match in matches if values._FORMS[index].check(match)]
    assume(matches)
    assert index in values._SIGNS.find_signs(text)
    assert values._SIGNS.find_texts(["of others", text, "7"]) == [1]


@given(
    st.lists(st.text(max_size=40) | st.sampled_from(["ada@example.org", "+49 30 7391 4482", "DE89370400440532013000"]))
)
def test_a_text_without_sign_holds_nothing(texts: list[str]) -> None:
    suspects = set(values.find_suspects(texts))
    for index, text in enumerate(texts):
        if values.find_kinds(text):
            assert index in suspects


@given(st.lists(st.sampled_from(["", "one", "no", "on", "\n", "x\none", "\u00e9one", "o", "ne"])))
def test_a_text_is_found_by_itself(texts: list[str]) -> None:
    signs = Signs(["one", "[^a-z]no"])
    assert signs.find_texts(texts) == [i for i, text in enumerate(texts) if "one" in text or text == "no"]


def test_signs_are_told_apart() -> None:
    signs = Signs(["one", "two", "[^a-z]no"])
    assert signs.find_signs("two of one") == [0, 1]
    assert signs.find_signs("no") == [2]
    assert signs.find_signs("") == []

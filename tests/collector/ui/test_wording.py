"""Numbers in words, at their edges; and text in which every character shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ui.components.wording import (
    show_text,
    word_age,
    word_count,
    word_distinct,
    word_kind_shares,
    word_left_days,
    word_main_kind,
    word_milliseconds,
    word_percent,
    word_size,
)


@pytest.mark.parametrize(
    ("word", "value", "text"),
    [
        (word_count, 0, "0"),
        (word_count, 999, "999"),
        (word_count, 999.6, "1.0k"),
        (word_count, 1_234, "1.2k"),
        (word_count, 34_000_000, "34M"),
        (word_distinct, 128, "128"),
        (word_distinct, 1_234, "≈ 1.2k"),
        (word_size, 1_023, "1023 B"),
        (word_size, 1_536, "1.5 KiB"),
        (word_milliseconds, None, "–"),
        (word_milliseconds, 0.44, "0.4 ms"),
        (word_milliseconds, 1_500, "1.5 s"),
        (word_age, -5, "now"),
        (word_age, 59, "59 s ago"),
        (word_age, 90_000, "1 d ago"),
        (word_left_days, 29.6, "30 d left"),
        (word_left_days, 0.4, "0.4 d left"),
        (word_left_days, -0.1, "expired"),
        (word_left_days, None, "–"),
        (word_percent, None, "–"),
        (word_percent, 0, "0 %"),
        (word_percent, 0.0001, "< 0.1 %"),
        (word_percent, 0.9999, "> 99.9 %"),
        (word_percent, 0.995, "99.5 %"),
        (word_percent, 1, "100 %"),
    ],
)
def test_words(word, value, text):
    assert word(value) == text


@given(st.floats(0, 1))
def test_only_nothing_is_0_and_only_all_is_100_percent(ratio):
    assert (word_percent(ratio) == "0 %") == (ratio == 0)
    assert (word_percent(ratio) == "100 %") == (ratio == 1)


def test_kinds_say_what_they_count():
    calls = {"bearer_jwt": 91, "api_key_header": 9, "none": 10}
    assert word_main_kind(calls) == "JWT +1"
    assert word_kind_shares(calls, 100) == "JWT 91 %, API key 9 %"
    assert word_kind_shares({"basic": 3, "none": 1}, 4) == "Basic"
    assert word_main_kind({"none": 1}) == "Credentials"
    assert word_main_kind({"kind_30": 1}) == "kind_30"


@given(st.text())
def test_no_text_hides_or_turns_what_follows(text):
    shown = show_text(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert text.isprintable() == (shown == text)

"""Rates in words."""

import pytest

from collector.core.rates import CALLS_A_SECOND, compute_rate, word_measure, word_rate


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0 calls/s"),
        (1_234, "1,234 calls/s"),
        (10.04, "10.0 calls/s"),
        (0.26, "15.6 calls/min"),
        (0.001, "3.6 calls/h"),
    ],
)
def test_a_rate_has_a_unit(rate: float, text: str) -> None:
    assert word_rate(rate) == word_measure(rate, CALLS_A_SECOND) == text
    assert word_rate(rate, unit="") == text.replace(" calls", "")
    assert word_measure(rate, "refused logins").endswith(" refused logins")


def test_less_than_a_second_is_one() -> None:
    assert (compute_rate(50, 0), compute_rate(50, 0.1), compute_rate(50, 2)) == (50, 50, 25)

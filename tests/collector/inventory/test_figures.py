"""Histogram quantiles, cursors and CSV cells: what must hold for any input."""

from math import ceil, floor, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.api.columns import FORMULA_STARTS, write_cell
from collector.cli.client import say
from collector.inventory.endpoints.endpoint import compute_percentiles, compute_quantiles
from collector.inventory.query import Cursor, CursorError, read_cursor, write_cursor


@given(st.lists(st.integers(2, 10**9), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_half_a_bucket(values: list[int], quantile: float) -> None:
    counts: dict[int, int] = {}
    for value in values:
        bucket = ceil(log2(value) * 8) - 1
        counts[bucket] = counts.get(bucket, 0) + 1
    buckets = sorted(counts)
    found = compute_quantiles(buckets, [counts[bucket] for bucket in buckets], [quantile])
    true = sorted(values)[max(0, ceil(quantile * len(values)) - 1)]
    assert found is not None
    assert abs(found[0] / true - 1) <= 0.0445
    assert floor(found[0]) >= 1


def test_nothing_counted_has_no_percentiles() -> None:
    assert compute_percentiles([], []) is None


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.text()), st.text())
def test_a_cursor_comes_back_for_its_question_only(value: float | str, identity: str) -> None:
    word = write_cursor(Cursor(value=value, id=identity), "asked")
    if len(word) <= 2_048:
        assert read_cursor(word, "asked", type(value)) == Cursor(value=value, id=identity)
        with pytest.raises(CursorError):
            read_cursor(word, "other", type(value))


@given(st.text(max_size=3_000))
def test_a_word_that_is_no_cursor_is_refused(word: str) -> None:
    with pytest.raises(CursorError):
        read_cursor(word, "asked", float)


@given(st.text() | st.text("=\uff1d+- \u3000\t\x1b\ufeff\n1"))
def test_no_cell_starts_a_formula_or_steers_a_terminal(text: str) -> None:
    cell = str(write_cell(text))
    assert not cell.lstrip().startswith(FORMULA_STARTS)
    assert cell.isprintable()


@pytest.mark.parametrize("text", [" =1+1", "\u3000=1", "\uff1d1", "\t=1", "@x", "-1+1|cmd"])
def test_formulas_behind_spaces_and_in_full_width_are_texts(text: str) -> None:
    assert str(write_cell(text)).startswith(("'", "\ufffd"))


def test_a_sentence_that_quotes_others_is_one_line_that_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("Node n: no\n\x1b[2KAll is well\r\u202e\x9b1m", err=True)
    say("Zürich: 3 Zeilen")
    printed = capsys.readouterr()
    assert printed.err == "Node n: no\\n\\x1b[2KAll is well\\r\\u202e\\x9b1m\n"
    assert printed.out == "Zürich: 3 Zeilen\n"

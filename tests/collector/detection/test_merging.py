"""Batches as one: every row with its strings and routes, and groups that make no row late."""

from collections.abc import Iterable
from dataclasses import fields

import numpy as np
import pytest

from collector.core.rows import Ragged
from collector.detection.engine import Engine
from collector.detection.read_boundaries import ROWS_MAX, Group, split_group
from collector.storage.columns import COLUMNS, RowBatch
from collector.storage.row_group import join_groups, make_group
from tests.collector.detection.mixture import make_mixture
from tests.collector.detection.stream import START, Row, make_batch


def read_rows(batch: RowBatch) -> list[tuple[object, ...]]:
    """Rows with what their indexes point at."""
    rows = []
    for row in range(len(batch)):
        values: list[object] = [batch.routes[batch.route[row]]]
        for column in fields(RowBatch):
            value = getattr(batch, column.name)
            if column.name in COLUMNS and COLUMNS[column.name].is_text:
                values.append(batch.strings[value[row]])
            elif isinstance(value, Ragged):
                values.append(value.values[value.offsets[row] : value.offsets[row + 1]].tolist())
            elif isinstance(value, np.ndarray) and column.name != "route":
                values.append(value[row].item())
        rows.append(tuple(values))
    return rows


def group_batches(stream: Iterable[tuple[RowBatch, int]]) -> list[Group]:
    batches = [*stream]
    if not batches:
        return []
    rows = join_groups([make_group(batch) for batch, _ in batches])
    return [*split_group(rows, [received_at for _, received_at in batches])]


def test_merged_batch_has_the_rows_of_all_in_order() -> None:
    batches = [batch for batch, _ in make_mixture(3, 40)]
    group = join_groups([make_group(batch) for batch in batches])
    merged = group.rows
    assert read_rows(merged) == [row for batch in batches for row in read_rows(batch)]
    parts = [group.select(first, first + 2) for first in range(0, len(batches), 2)]
    assert read_rows(merged) == [row for part in parts for row in read_rows(part.rows)]
    assert read_rows(join_groups(parts).rows) == read_rows(merged)
    assert len({route.route_id for route in merged.routes}) == len(merged.routes)
    assert len(set(merged.strings)) == len(merged.strings)


def test_a_batch_alone_is_itself() -> None:
    group = make_group(make_batch([Row(route=1)]))
    assert join_groups([group]) is group and group.select(0, 1) is group


def make_rows(window: int, count: int = 1) -> tuple[RowBatch, int]:
    return make_batch([Row(route=1, window=window)] * count), window + 11


@pytest.mark.parametrize(
    ("windows", "groups"),
    [
        ([0, 0, 0], [3]),
        ([10, 0, 10, -30], [4]),  # Older rows change nothing for the others.
        ([0, 10, 0, 20], [1, 2, 1]),  # A newer row may close windows: it comes after what was there.
        ([], []),
    ],
)
def test_a_group_ends_before_a_newer_row(windows: list[int], groups: list[int]) -> None:
    made = group_batches(make_rows(START + window) for window in windows)
    assert [len(group.rows.heads) for group in made] == groups


def test_a_group_is_bounded() -> None:
    half = ROWS_MAX // 2
    batches = [make_rows(START, half), make_rows(START, half), make_rows(START, 1), make_rows(START, ROWS_MAX + 1)]
    assert [len(group.rows.rows) for group in group_batches(batches)] == [2 * half, 1, ROWS_MAX + 1]


def test_rows_of_a_merged_batch_are_ahead_by_their_own_clocks() -> None:
    engine = Engine()
    own, other = make_batch([Row(route=1, window=START)]), make_batch([Row(route=1, window=START, calls=5)])
    (group,) = group_batches([(own, START + 11), (other, START - 600)])
    engine.feed(group.rows, group.received_of_rows)
    assert (engine.used_calls, engine.dropped_calls["ahead"]) == (1, 5)


def test_merging_makes_no_row_late() -> None:
    alone, together = Engine(), Engine()
    stream = [*make_mixture(2, 200), make_rows(START)]  # The last is late whatever it comes with.
    for batch, received_at in stream:
        alone.feed(batch, received_at)
    for group in group_batches(stream):
        together.feed(group.rows, group.received_of_rows)
    assert (together.used_calls, together.dropped_calls) == (alone.used_calls, alone.dropped_calls)
    assert alone.dropped_calls["late"] == 1

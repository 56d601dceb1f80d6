"""Numbering values, against numpy's own way."""

import numpy as np
import pytest

from sensor.core.arrays import number_values


@pytest.mark.parametrize(
    "values",
    [
        np.empty(0, np.uint64),
        np.array([7], np.uint32),
        np.full(100, 9, np.uint64),
        np.array([3, 1, 3, 2, 1, 0], np.int64),
        np.random.default_rng(1).integers(0, 50, 3_000, np.uint16),
        np.random.default_rng(2).integers(0, 1 << 64, 300, np.uint64)[np.random.default_rng(3).integers(0, 300, 5_000)],
    ],
)
def test_values_are_numbered_as_numpy_does(values: np.ndarray) -> None:
    distinct, places, inverse = number_values(values)
    expected, expected_inverse = np.unique(values, return_inverse=True)
    assert distinct.tolist() == expected.tolist()
    assert values[places].tolist() == distinct.tolist()
    assert inverse.tolist() == expected_inverse.tolist()


def test_large_values_that_differ_in_low_bits_only_are_kept_apart() -> None:
    source = np.random.default_rng(4)
    values = np.uint64(1 << 63) + source.integers(0, 4, 5_000, np.uint64)
    distinct, places, inverse = number_values(values)
    assert distinct.tolist() == [(1 << 63) + low for low in range(4)]
    assert (distinct[inverse] == values).all() and (values[places] == distinct).all()

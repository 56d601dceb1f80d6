"""Figures of the tables are asked for now and then, however often the metrics are."""

import pytest

from collector.core.feature import KEPT_SECONDS, KeptFigures
from common.figures import Figure, make_gauges
from tests.figures import read_values


def test_figures_of_the_tables_are_kept_for_a_minute() -> None:
    now, asked = [1_000.0], list[float]()

    def read() -> tuple[Figure, ...]:
        asked.append(now[0])
        if len(asked) == 2:
            raise OSError("away")
        return make_gauges([("rows", "Rows.", len(asked))])

    kept = KeptFigures(read, clock=lambda: now[0])
    assert read_values(kept()) == {"rows": 1}
    now[0] += KEPT_SECONDS - 1
    assert read_values(kept()) == {"rows": 1}
    now[0] += 1
    with pytest.raises(OSError, match="away"):
        kept()
    assert read_values(kept()) == {"rows": 3}
    assert asked == [1_000.0, now[0], now[0]]

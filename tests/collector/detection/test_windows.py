"""Open windows: which rows they take."""

import numpy as np
import pytest

from collector.detection.framework.rows import join_amounts
from collector.detection.framework.windows import LATENESS_SECONDS, OpenWindows


@pytest.mark.parametrize("seconds", [10, 60, 300, 3_600])
def test_whatever_is_not_late_has_an_open_window(seconds: int) -> None:
    windows = OpenWindows(seconds)
    windows.begin(0)
    for watermark in range(0, 4 * seconds + 100, 7):
        for window in windows.due(watermark):
            windows.close(window)
        windows.skip(watermark)
        for start in range(max(0, watermark - LATENESS_SECONDS), watermark + 1):
            assert windows.accepts(start // seconds)


def test_closing_clears_for_the_window_that_takes_its_place() -> None:
    windows = OpenWindows(60)
    windows.grow(4)
    windows.begin(7)
    windows.add(7, np.array([1, 1, 3]), join_amounts(np.array([2.0, 3.0, 1.0]), np.array([0.0, 1.0, 0.0])))
    assert [part.tolist() for part in windows.read(7, np.array([1, 3]))] == [[5, 1], [1, 0]]
    assert windows.touched(7).tolist() == [1, 3]
    windows.close(7)
    assert windows.next_window == 8
    assert not windows.calls.any() and not windows.novel.any()

"""Versions of rows: more than any that is there, whatever the clock says."""

from collections.abc import Mapping
from typing import Any

from collector.inventory.query import MICROSECONDS, Versions


class Tables:
    """Newest versions by table."""

    def __init__(self, **newest: int) -> None:
        self.newest = newest
        self.asked: list[str] = []

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        self.asked.append(sql.rpartition(" ")[2])
        return {"newest": [self.newest[self.asked[-1]]]}


def test_each_is_more_than_the_last_and_than_what_is_there() -> None:
    tables, now = Tables(one=5 * MICROSECONDS, other=7), [4.0]
    versions = Versions(tables, "one", "other", clock=lambda: now[0])
    assert [versions.take(), versions.take()] == [5 * MICROSECONDS + 1, 5 * MICROSECONDS + 2]
    now[0] = 9.5
    assert versions.take() == 9_500_000
    now[0] = 2.0
    assert versions.take() == 9_500_001
    assert tables.asked == ["one", "other"]

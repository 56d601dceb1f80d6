"""The table of an acceptance: one row for each thing that was shown, that did not hold, or that was not tried."""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

_WIDTHS: Final = (30, 46, 62)


class Verdict(StrEnum):
    """How a row ended."""

    HOLDS = "holds"
    FAILS = "FAILS"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing: what should be, what is; `details` are for `--json` alone."""

    subject: str
    expected: str
    observed: str
    verdict: Verdict
    details: Any = None


@dataclass(slots=True)
class Table:
    """All rows in order. Each is printed when it is added."""

    is_json: bool
    rows: list[Row] = field(default_factory=list)

    def add(self, subject: str, expected: str, observed: Any, *, holds: bool, details: Any = None) -> None:
        """One that was tried."""
        verdict = Verdict.HOLDS if holds else Verdict.FAILS
        self._append(Row(subject=subject, expected=expected, observed=str(observed), verdict=verdict, details=details))

    def skip(self, subject: str, expected: str, reason: str) -> None:
        """One that was not tried, and why."""
        self._append(Row(subject=subject, expected=expected, observed=reason, verdict=Verdict.NOT_TRIED))

    def _append(self, row: Row) -> None:
        self.rows.append(row)
        print(json.dumps(asdict(row)) if self.is_json else format_row(row), flush=True)

    @property
    def has_held(self) -> bool:
        """Whether all that was tried held."""
        return not any(row.verdict is Verdict.FAILS for row in self.rows)

    def summarise(self) -> str:
        """The closing line."""
        counts = {verdict: sum(row.verdict is verdict for row in self.rows) for verdict in Verdict}
        return ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items())


def format_row(row: Row) -> str:
    """One line, columns aligned; a long text stands whole and moves the rest."""
    cells = (row.subject, row.expected, row.observed)
    line = "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return f"{row.verdict.value:<9}  {line}".rstrip()


def count_differences(expected: dict[str, int], found: dict[str, int]) -> dict[str, tuple[int, int]]:
    """(expected, found) of each key where they differ."""
    keys = {*expected, *found}
    return {
        key: (expected.get(key, 0), found.get(key, 0))
        for key in sorted(keys)
        if expected.get(key, 0) != found.get(key, 0)
    }

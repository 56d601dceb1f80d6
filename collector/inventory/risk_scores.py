"""The risk of some endpoints as last computed (collector/risk): ids in, score and level out."""

from collections.abc import Iterable
from dataclasses import dataclass

from collector.inventory.reader import Reader, select

_SCORES = """
SELECT endpoint_id, score, level, open_findings FROM endpoint_risks FINAL
WHERE endpoint_id IN {ids:Array(String)}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskScore:
    """0 to 100, and what that is called."""

    score: int
    level: str
    open_findings: int


class RiskScores:
    """Reads them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def read(self, ids: Iterable[str]) -> dict[str, RiskScore]:
        """By endpoint id; one statement, none without ids. Raises StoreError."""
        asked = list(ids)
        if not asked:
            return {}
        return {
            row["endpoint_id"]: RiskScore(
                score=int(row["score"]), level=row["level"], open_findings=int(row["open_findings"])
            )
            for row in select(self._reader, _SCORES, {"ids": asked})
        }

"""Where reports, known-good rules and decisions about detection are kept. Methods raise StoreError."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from collector.alerts.alert import AlertKind, Severity
from collector.alerts.known_good import RULES_MAX, KnownGood
from collector.alerts.past import PastReport
from collector.alerts.repository import Database
from collector.alerts.sieve import Outcome
from collector.sensitivity import Sensitivity

REPORTS_READ_MAX: Final = 100_000  # The newest, of which a preview is made.
DECISIONS_READ_MAX: Final = 500
_REPORT_COLUMNS: Final = ", ".join(field.name for field in fields(PastReport))
_RULE_COLUMNS: Final = ", ".join(field.name for field in fields(KnownGood))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A row of `detection_decisions`: who changed what of the detection, and when (unix seconds)."""

    time: float
    actor: str
    action: str  # sensitivity, known_good or end_known_good.
    subject: str  # The level, or a rule's id.
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleHits:
    """What a rule kept from being told, within the retention of reports."""

    rule_id: str
    reports: int
    subjects: int
    last_at: float


class DetectionTable:
    """Reads and writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write_reports(self, reports: Sequence[PastReport]) -> None:
        """Append."""
        self._database.insert_records("detector_reports", reports)

    def list_reports(self, since: float) -> tuple[PastReport, ...]:
        """Those from `since` (unix seconds) on, oldest first; of many the newest."""
        columns = self._database.query_columns(
            f"SELECT {_REPORT_COLUMNS} FROM detector_reports WHERE time >= {{since:Float64}} "
            "ORDER BY time DESC LIMIT {limit:UInt32}",
            {"since": since, "limit": REPORTS_READ_MAX},
        )
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return tuple(
            PastReport(
                **row
                | {
                    "kind": AlertKind(row["kind"]),
                    "severity": Severity(row["severity"]),
                    "quietest": Sensitivity(row["quietest"]),
                    "outcome": Outcome(row["outcome"]),
                    "is_above": bool(row["is_above"]),
                }
            )
            for row in reversed(rows)
        )

    def count_hits(self) -> dict[str, RuleHits]:
        """By rule."""
        columns = self._database.query_columns(
            "SELECT rule_id, count() AS reports, uniqExact(kind, endpoint_id, consumer) AS subjects, "
            "max(time) AS last_at FROM detector_reports WHERE rule_id != '' GROUP BY rule_id"
        )
        rows = zip(*(columns[name] for name in ("rule_id", "reports", "subjects", "last_at")), strict=True)
        return {
            str(rule_id): RuleHits(
                rule_id=str(rule_id), reports=int(reports), subjects=int(subjects), last_at=float(last_at)
            )
            for rule_id, reports, subjects, last_at in rows
        }

    def save_rule(self, rule: KnownGood) -> None:
        """Append a version."""
        self._database.insert_records("known_good", [rule])

    def list_rules(self) -> tuple[KnownGood, ...]:
        """The newest version of each, newest rule first; of many the newest."""
        return self._list_rules("1", {"limit": 2 * RULES_MAX})

    def list_rules_in_force(self, now: float) -> tuple[KnownGood, ...]:
        """Those that hold at `now` (unix seconds), however many ended since they were made."""
        return self._list_rules("ended_at IS NULL AND expires_at > {now:Float64}", {"limit": RULES_MAX, "now": now})

    def _list_rules(self, condition: str, parameters: dict[str, Any]) -> tuple[KnownGood, ...]:
        columns = self._database.query_columns(
            f"SELECT {_RULE_COLUMNS} FROM known_good FINAL WHERE {condition} "
            "ORDER BY created_at DESC, id LIMIT {limit:UInt32}",
            parameters,
        )
        return tuple(KnownGood(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))

    def write_decision(self, decision: Decision) -> None:
        """Append."""
        self._database.insert_records("detection_decisions", [decision])

    def list_decisions(self) -> tuple[Decision, ...]:
        """The newest first."""
        columns = self._database.query_columns(
            "SELECT time, actor, action, subject, note FROM detection_decisions "
            "ORDER BY time DESC, subject LIMIT {limit:UInt32}",
            {"limit": DECISIONS_READ_MAX},
        )
        return tuple(Decision(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))

"""Findings, who decided them, and what an endpoint was when its risk was computed last."""

from typing import Final

from sqlalchemy import JSON, Boolean, Column, Index, Integer, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, PROSE, ROW_NUMBER
from collector.storage.state.types import BoundedText, Number

# collector.risk.finding.Finding. `gravity` sorts by severity, and of one severity by `changed_at`; `searched` is what a
# search looks in, without upper case.
FINDINGS: Final = Table(
    "findings",
    METADATA,
    Column("id", BoundedText(ID), primary_key=True),
    Column("endpoint_id", BoundedText(NAME), nullable=False),
    Column("rule", BoundedText(ID), nullable=False),
    Column("severity", BoundedText(ID), nullable=False),
    Column("owasp", BoundedText(ID), nullable=False),
    Column("state", BoundedText(ID), nullable=False),
    Column("service", BoundedText(NAME), nullable=False),
    Column("method", BoundedText(ID), nullable=False),
    Column("first_seen", Number, nullable=False),
    Column("last_seen", Number, nullable=False),
    Column("updated_at", Number, nullable=False),
    Column("changed_at", Number, nullable=False),
    Column("gravity", Number, nullable=False),
    Column("decided_until", Number, nullable=False),
    Column("is_reopened", Boolean, nullable=False),
    Column("changed_by", BoundedText(NAME), nullable=False),
    Column("title", BoundedText(PROSE), nullable=False),
    Column("why", BoundedText(PROSE), nullable=False),
    Column("advice", BoundedText(PROSE), nullable=False),
    Column("signs", JSON, nullable=False),
    Column("note", BoundedText(PROSE), nullable=False),
    Column("host", BoundedText(NAME), nullable=False),
    Column("url_template", BoundedText(PROSE), nullable=False),
    Column("searched", BoundedText(2 * PROSE), nullable=False),
    Index("ix_findings_endpoint_id", "endpoint_id"),
    Index("ix_findings_gravity", "gravity", "id"),
    # All that findings by rule are made of: reading the table for it takes ten times as long.
    Index("ix_findings_rule", "rule", "state", "severity", "service", "first_seen", "last_seen", "endpoint_id"),
    Index("ix_findings_decided_until", "decided_until"),
)

# collector.risk.finding.FindingChange: who changed a finding's state and why.
FINDING_CHANGES: Final = Table(
    "finding_changes",
    METADATA,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("finding_id", BoundedText(ID), nullable=False),
    Column("time", Number, nullable=False),
    Column("state", BoundedText(ID), nullable=False),
    Column("actor", BoundedText(NAME), nullable=False),
    Column("note", BoundedText(PROSE), nullable=False),
    Column("decision_id", BoundedText(ID), nullable=False),
    Index("ix_finding_changes_finding_id", "finding_id"),
    Index("ix_finding_changes_decision_id", "decision_id"),
    Index("ix_finding_changes_time", "time"),
)

# collector.risk.finding.Past of an endpoint, written where it changed. `computed_at` is when it was written.
ENDPOINT_PASTS: Final = Table(
    "endpoint_pasts",
    METADATA,
    Column("endpoint_id", BoundedText(NAME), primary_key=True),
    Column("exposure", BoundedText(ID), nullable=False),
    Column("exposure_before", BoundedText(ID), nullable=False),
    Column("exposure_since", Number, nullable=False),
    Column("authenticated_at", Number, nullable=False),
    Column("score", Integer, nullable=False),
    Column("computed_at", Number, nullable=False),
)

"""The lists of alerts and incidents, which the repository of alerts filters itself."""

from typing import Annotated

from pydantic import Field

from collector.alerting.alert import AlertKind, AlertState, Confidence, Severity
from collector.alerting.repository import AlertFilters, AlertPlace, AlertSort
from collector.core.moments import MOMENT_CHARACTERS_MAX, MOMENT_EXAMPLES, MOMENT_FORMS, read_moment
from collector.inventory.consumers.consumer import CONSUMER_VALUE_CHARACTERS_MAX
from collector.inventory.filters import Filter, ListQuery, Moment, Parameters, Text
from collector.inventory.query import Cursor, CursorError

State = Annotated[AlertState | None, Filter(None, title="State")]
_STATES = "Default: all."


class AlertSelection(Parameters):
    """Which alerts, whatever their state and severity."""

    kind: Annotated[AlertKind | None, Filter(None, title="Kind")] = Field(
        default=None, description="Exactly this kind."
    )
    confidence: Annotated[Confidence | None, Filter(None, title="Confidence")] = Field(
        default=None, description="How sure it is; `low` is a notice."
    )
    service: Annotated[Text, Filter(None, title="Service")] = Field(
        default="", max_length=300, description="A service as listed, or the name of a workload."
    )
    namespace: Annotated[Text, Filter(None, title="Namespace", is_folded=True)] = Field(
        default="", max_length=63, description="Exactly this namespace of Kubernetes."
    )
    endpoint: Annotated[Text, Filter(None, title="Endpoint id", is_folded=True)] = Field(
        default="", max_length=80, description="Id of an endpoint: alerts about any of its routes."
    )
    consumer: Annotated[Text, Filter(None, title="Consumer", is_folded=True)] = Field(
        default="",
        max_length=CONSUMER_VALUE_CHARACTERS_MAX + 20,
        description="Exactly this consumer, `kind:value`.",
        examples=["address:192.0.2.1"],
    )
    start: Annotated[Moment, Filter(None, title="Open since", is_moment=True, is_folded=True)] = Field(
        default="",
        max_length=MOMENT_CHARACTERS_MAX,
        description=f"Open at this time or later: {MOMENT_FORMS}.",
        examples=list(MOMENT_EXAMPLES),
    )
    end: Annotated[Moment, Filter(None, title="Opened before", is_moment=True, is_folded=True)] = Field(
        default="",
        max_length=MOMENT_CHARACTERS_MAX,
        description="Opened before this time, as in `start`.",
        examples=["1h", "today", "2026-11-29T15:00:00Z"],
    )

    def list_asked(self, now: float) -> AlertFilters:
        """As the repository takes it; `now` is what relative times are before, in unix seconds."""
        return AlertFilters(
            kind=self.kind,
            confidence=self.confidence,
            service=self.service,
            namespace=self.namespace,
            endpoint=self.endpoint,
            consumer=self.consumer,
            start=float(read_moment(self.start, now)) if self.start else None,
            end=float(read_moment(self.end, now)) if self.end else None,
        )


class AlertQuery(ListQuery, AlertSelection):
    """Filters, sort and page of the list of alerts."""

    state: State = Field(default=None, description=_STATES)
    severity: Annotated[Severity | None, Filter(None, title="Severity")] = Field(
        default=None, description="Exactly this severity."
    )
    sort: AlertSort = Field(
        default=AlertSort.NEWEST, description="Newest first, or the gravest first and of these the newest."
    )

    def list_asked(self, now: float) -> AlertFilters:
        return {**super().list_asked(now), "state": self.state, "severity": self.severity, "sort": self.sort}

    def read_place(self) -> AlertPlace | None:
        """Where the page starts; None on the first. Raises CursorError."""
        after = self.read_cursor(str)
        if after is None:
            return None
        severity, _, opened_at = str(after.value).partition(" ")
        try:
            return AlertPlace(opened_at=float(opened_at), id=after.id, severity=Severity(severity))
        except ValueError:
            raise CursorError("it is not a cursor this collector gave") from None

    @staticmethod
    def write_place(last: AlertPlace) -> Cursor:
        """The inverse, of the last alert of a page."""
        return Cursor(value=f"{last.severity} {last.opened_at!r}", id=last.id)


class IncidentQuery(ListQuery):
    """Filter and page of the list of incidents."""

    state: State = Field(default=None, description=_STATES)

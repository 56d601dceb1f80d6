"""The lists of alerts and incidents, which the repository of alerts filters itself."""

from typing import Annotated

from pydantic import Field

from collector.alerting.alert import AlertKind, AlertState, Confidence, Severity
from collector.alerting.repository import AlertFilters, AlertPlace, AlertSort
from collector.api.parameters import AskedTime
from collector.inventory.consumers.consumer import CONSUMER_VALUE_CHARACTERS_MAX
from collector.inventory.filters import Filter, ListQuery, Parameters, Text
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
    service: Annotated[Text, Filter(None)] = Field(
        default="", max_length=300, description="A service as listed, or the name of a workload."
    )
    namespace: Annotated[Text, Filter(None)] = Field(
        default="", max_length=63, description="Exactly this namespace of Kubernetes."
    )
    endpoint: Annotated[Text, Filter(None)] = Field(
        default="", max_length=80, description="Id of an endpoint: alerts about any of its routes."
    )
    consumer: Annotated[Text, Filter(None)] = Field(
        default="",
        max_length=CONSUMER_VALUE_CHARACTERS_MAX + 20,
        description="Exactly this consumer, `kind:value`.",
        examples=["address:192.0.2.1"],
    )
    start: Annotated[AskedTime | None, Filter(None)] = Field(
        default=None, description="Open at this time or later.", examples=["2026-11-26T15:00:00Z"]
    )
    end: Annotated[AskedTime | None, Filter(None)] = Field(
        default=None, description="Opened before this time.", examples=["2026-11-26T16:00:00Z"]
    )

    def list_asked(self) -> AlertFilters:
        """As the repository takes it."""
        return AlertFilters(
            kind=self.kind,
            confidence=self.confidence,
            service=self.service,
            namespace=self.namespace,
            endpoint=self.endpoint,
            consumer=self.consumer,
            start=self.start.timestamp() if self.start is not None else None,
            end=self.end.timestamp() if self.end is not None else None,
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

    def list_asked(self) -> AlertFilters:
        return {**super().list_asked(), "state": self.state, "severity": self.severity, "sort": self.sort}

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

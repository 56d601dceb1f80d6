"""The lists of alerts and incidents, which the repository of alerts filters itself."""

from typing import Annotated

from pydantic import Field

from collector.alerting.alert import AlertKind, AlertState
from collector.inventory.filters import Filter, ListQuery

State = Annotated[AlertState | None, Filter(None)]
_STATES = "Default: all."


class AlertQuery(ListQuery):
    """Filters and page of the list of alerts."""

    state: State = Field(default=None, description=_STATES)
    kind: Annotated[AlertKind | None, Filter(None)] = Field(default=None, description="Exactly this kind.")


class IncidentQuery(ListQuery):
    """Filter and page of the list of incidents."""

    state: State = Field(default=None, description=_STATES)

"""What the API answers about what came and went, as pydantic models."""

from datetime import date

from pydantic import Field

from collector.api.base_model import Model, Ratio, Time
from collector.api.parameters import AskedDay, Parameters
from collector.inventory.endpoint import AuthenticationLevel


class DiffParameters(Parameters):
    """Two dates (UTC)."""

    start: AskedDay = Field(description="The earlier date.", examples=["2026-10-01"])
    end: AskedDay = Field(description="The later date.")


class NamedOperationModel(Model):
    """A GraphQL operation, JSON-RPC method, MCP tool or SOAP action."""

    parent_id: str = Field(description="The endpoint whose path it shares.")
    protocol: str
    kind: str
    name: str


class EndpointStateModel(Model):
    """An endpoint in the week up to a date."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    authentication: AuthenticationLevel
    first_seen: Time
    last_seen: Time
    operation: NamedOperationModel | None = Field(description="Where it is one; then `calls` is an estimate.")


class ChangedEndpointModel(Model):
    """There at both dates, with other credentials."""

    before: EndpointStateModel
    after: EndpointStateModel


class InventoryDiffModel(Model):
    """Which endpoints came, went, and changed."""

    start: date
    end: date
    appeared: tuple[EndpointStateModel, ...]
    gone: tuple[EndpointStateModel, ...]
    changed: tuple[ChangedEndpointModel, ...]
    is_cut: bool = Field(description="A list had more than is shown.")


class TombstoneModel(Model):
    """An endpoint that nobody called for 30 days."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    authentication_coverage: Ratio | None
    first_seen: Time
    last_seen: Time
    days: dict[int, int] = Field(description="Calls by start of day, unix seconds.")
    operation: NamedOperationModel | None = Field(description="Where it was one; then calls are estimates.")


class TombstonePageModel(Model):
    """Those that went last first."""

    items: tuple[TombstoneModel, ...]

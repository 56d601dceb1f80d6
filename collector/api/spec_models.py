"""What the API answers about API descriptions, as pydantic models."""

from pydantic import Field

from collector.api.base_model import Model, Time
from collector.api.endpoint_spec_model import EndpointSpecModel
from collector.api.parameters import ActionBody, Text
from collector.specs.document import TEXT_BYTES_MAX
from collector.specs.kinds import DriftKind


class UploadBody(ActionBody):
    """A description."""

    document: str = Field(max_length=TEXT_BYTES_MAX, description="OpenAPI 2.0, 3.0 or 3.1, as JSON or YAML.")
    name: Text = Field(default="", max_length=200, description="Default: its title. The same name is a newer version.")
    service: Text = Field(
        default="", max_length=300, description="As listed, or the name of a workload; default: its hosts."
    )


class SpecModel(Model):
    """A description. One that was seen in traffic is in force only where it fits its service's calls."""

    name: str
    is_in_force: bool = Field(description="Whether endpoints are compared with it.")
    fit: str = Field(
        description="Of one seen in traffic: how it fits the calls of its service, and what follows; else empty."
    )
    title: str
    version: str = Field(description="As the document says.")
    service: str
    source: str = Field(description="`api`, the file, or `traffic` and where it is served.")
    uploaded_by: str
    time: Time
    bytes: int
    versions: int = Field(description="Texts of this name, the one in force included.")
    operations: int
    deprecated: int


class ServedDescriptionModel(Model):
    """An endpoint that looks like a service's own description."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    last_seen: Time


class SpecPageModel(Model):
    """All of them, what could not be read, and where services serve descriptions."""

    items: tuple[SpecModel, ...]
    file_errors: dict[str, str] = Field(description="Watched files that are not taken, and why.")
    traffic_errors: dict[str, str] = Field(description="Served descriptions that are not taken, and why.")
    seen_in_traffic: tuple[ServedDescriptionModel, ...]


class DriftModel(Model):
    """One difference between an endpoint and its description."""

    kind: DriftKind
    place: str
    name: str
    sentence: str


class ReportedEndpointModel(Model):
    """An endpoint, what is said of it, and how it differs."""

    id: str
    service: str
    host: str
    method: str
    template: str
    spec: EndpointSpecModel
    drift: tuple[DriftModel, ...]


class OrphanModel(Model):
    """An operation that was never called."""

    method: str
    http_route: str
    operation_id: str
    is_deprecated: bool


class SpecReportModel(Model):
    """One description beside what is seen."""

    name: str
    documented: tuple[ReportedEndpointModel, ...]
    shadow: tuple[ReportedEndpointModel, ...]
    zombie: tuple[ReportedEndpointModel, ...]
    orphan: tuple[OrphanModel, ...]


class RemovedModel(Model):
    """What was taken out."""

    name: str

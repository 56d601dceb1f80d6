"""/specs: API descriptions, and how endpoints differ from them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, Time
from collector.api.parameters import ActionBody, Body, NoParameters, Word, name_actor
from collector.api.problem import Problem, show
from collector.core.budget import OverTimeError, use_budget
from collector.core.errors import ConflictError
from collector.core.scope import find_scope
from collector.inventory.endpoints.spec_status import SpecStatus
from collector.inventory.filters import Text
from collector.inventory.query import Since, span_since
from collector.specs.assessment import SpecAssessor
from collector.specs.change import ENDPOINTS_MAX, SpecChanges
from collector.specs.document import TEXT_BYTES_MAX, SpecError
from collector.specs.drift import DriftKind
from collector.specs.fit import FitResult
from collector.specs.report import SpecReporter
from collector.specs.table import ListedSpec, SpecTable


class DescriptionBody(Body):
    """A description."""

    document: str = Field(max_length=TEXT_BYTES_MAX, description="OpenAPI 2.0, 3.0 or 3.1, as JSON or YAML.")
    name: Text = Field(default="", max_length=200, description="Default: its title. The same name is a newer version.")
    service: Text = Field(
        default="", max_length=300, description="As listed, or the name of a workload; default: its hosts."
    )


class UploadBody(DescriptionBody, ActionBody):
    """One to be put in force."""


class ComparisonBody(DescriptionBody):
    """One to be compared with the calls of a span."""

    since: Word[Since] = Field(default=Since.MONTH, description="How far back calls count.")


class SpecModel(Model):
    """A description. One that was seen in traffic is in force only where it fits its service's calls."""

    name: str
    is_in_force: bool = Field(description="Whether endpoints are compared with it.")
    fit: str = Field(
        description="Of one seen in traffic: how it fits the calls of its service, and what follows. Of any: why it is "
        "not compared. Else empty."
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


class EndpointSpecModel(Model):
    """The operation of a description that an endpoint is."""

    status: SpecStatus = Field(
        description="`documented`; `shadow`: its service is described, it is not; `zombie`: deprecated, or only an "
        "older version has it; `none`: no description covers its service, or it was never served."
    )
    spec: str = Field(description="Name of the description; empty where none covers its service.")
    http_route: str = Field(description="OpenTelemetry's http.route: the path as described.", examples=["/orders/{id}"])
    operation_id: str
    is_deprecated: bool
    requires_authentication: bool | None = Field(description="Null: the description says nothing of it.")
    reason: str


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


class BreakModel(Model):
    """One thing that current calls need and the new description does not have."""

    kind: str = Field(description="`operation_removed`, or the kind of drift that it would be.")
    place: str
    name: str
    sentence: str


class EndpointConsumerModel(Model):
    """Who calls an endpoint."""

    id: str = Field(description="`kind:value`.")
    label: str = Field(description="What people call it; empty where they do not.")
    calls: int
    last_seen: Time


class EndpointConsumersModel(Model):
    """All who call an endpoint; `items` are the busiest."""

    items: tuple[EndpointConsumerModel, ...]
    calls: int
    total: int


class BrokenEndpointModel(Model):
    """An endpoint whose consumers the change would break."""

    id: str
    service: str
    host: str
    method: str
    template: str
    breaks: tuple[BreakModel, ...]
    consumers: EndpointConsumersModel


class SpecChangeModel(Model):
    """What a description would break if it were put in force."""

    name: str
    replaced: str | None = Field(description="Version in force that it was compared with; null: there is none.")
    version: str
    endpoints: int = Field(description="Called ones that were compared.")
    total: int = Field(description="Broken ones.")
    broken: tuple[BrokenEndpointModel, ...] = Field(description=f"At most {ENDPOINTS_MAX}, those with most calls.")


class RemovedModel(Model):
    """What was taken out."""

    name: str


def build_spec_routes(
    *,
    table: SpecTable,
    assessor: SpecAssessor,
    reporter: SpecReporter,
    changes: SpecChanges,
    clock: Callable[[], float],
) -> APIRouter:
    """Routes of descriptions."""
    router = APIRouter(tags=["specs"])

    @router.get("/specs", summary="List API descriptions")
    def list_specs(_: Annotated[NoParameters, Query()]) -> SpecPageModel:
        """Those that were given and those seen in traffic, watched files that are not taken, and endpoints that look
        like a service's own description."""
        return SpecPageModel(
            items=tuple(_make_model(one, assessor.results) for one in reporter.list_specs()),
            file_errors=assessor.file_errors if find_scope().is_all else {},
            traffic_errors=assessor.traffic_errors if find_scope().is_all else {},
            seen_in_traffic=tuple(ServedDescriptionModel.model_validate(one) for one in reporter.list_served()),
        )

    @router.post("/specs", summary="Upload an API description")
    def upload_spec(body: UploadBody) -> SpecModel:
        """Put a description in force. The same name is a newer version: what only older ones have is a zombie."""
        try:
            spec = table.upload(name=body.name, document=body.document, service=body.service, source="api", by=body.by)
        except SpecError as error:
            raise Problem(422, str(error)) from error
        except OverTimeError as error:
            sentence = "The document took too long to read; send it as JSON, or split it."
            raise Problem(422, sentence) from error
        with suppress(OverTimeError):  # It is stored, and housekeeping goes on with it.
            assessor.look()
        name = body.name or spec.title
        with use_budget(None):
            found = [one for one in table.list_specs() if one.name == name]
        if found:
            return _make_model(found[0], assessor.results)
        raise ConflictError(f"The description {show(name)} was taken out again meanwhile.")

    @router.post("/specs/compare", summary="Find what a changed description would break")
    def compare_spec(body: ComparisonBody) -> SpecChangeModel:
        """Compares a text with the description in force of its name and with what was seen, and puts nothing in force:
        which endpoints are called in a way that only the new text does not have, and by whom."""
        span = span_since(body.since, clock())
        try:
            found = changes.compare(document=body.document, name=body.name, service=body.service, span=span)
        except SpecError as error:
            raise Problem(422, str(error)) from error
        return SpecChangeModel.model_validate(found)

    @router.delete("/specs/{name:path}", summary="Take an API description out")
    def delete_spec(name: str) -> RemovedModel:
        """With all its versions."""
        if not table.delete(name, by=name_actor()):
            raise Problem(404, f"There is no description {show(name)}; look it up in /api/v1/specs.")
        with suppress(OverTimeError):  # It is out, and housekeeping goes on with the rest.
            assessor.look()
        return RemovedModel(name=name)

    @router.get("/specs/{name:path}/report", summary="Compare a description with what is seen")
    def report_spec(name: str, _: Annotated[NoParameters, Query()]) -> SpecReportModel:
        """Documented endpoints with their drift, shadows, zombies and orphans."""
        found = reporter.report(name)
        if found is None:
            raise Problem(404, f"There is no description {show(name)}; look it up in /api/v1/specs.")
        return SpecReportModel.model_validate(found)

    @router.get("/endpoints/{endpoint_id}/spec", summary="Compare one endpoint with its description")
    def report_endpoint(endpoint_id: str, _: Annotated[NoParameters, Query()]) -> ReportedEndpointModel:
        """What its description says of it, and how it differs."""
        found = reporter.report_endpoint(endpoint_id)
        if found is None:
            raise Problem(404, f"There is no endpoint {show(endpoint_id)}; look it up in /api/v1/endpoints.")
        return ReportedEndpointModel.model_validate(found)

    return router


def _make_model(spec: ListedSpec, results: Mapping[str, FitResult]) -> SpecModel:
    result = results.get(spec.name)
    return SpecModel(
        **asdict(spec),
        is_in_force=bool(result.fit.heads) if result is not None else not spec.is_from_traffic,
        fit=result.reason if result is not None else "",
    )

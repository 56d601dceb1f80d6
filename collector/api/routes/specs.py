"""/specs: API descriptions, and how what is seen differs from them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.parameters import NoParameters
from collector.api.problem import Problem, show
from collector.api.spec_models import (
    RemovedModel,
    ReportedEndpointModel,
    ServedDescriptionModel,
    SpecModel,
    SpecPageModel,
    SpecReportModel,
    UploadBody,
)
from collector.errors import ConflictError
from collector.specs.document import SpecError
from collector.specs.fit import Judgement
from collector.specs.keeper import SpecKeeper
from collector.specs.report import SpecReporter
from collector.specs.table import ListedSpec, SpecTable


def build_spec_routes(*, table: SpecTable, keeper: SpecKeeper, reporter: SpecReporter) -> APIRouter:
    """Routes of descriptions."""
    router = APIRouter(tags=["specs"])

    @router.get("/specs", summary="List API descriptions")
    def list_specs(_: Annotated[NoParameters, Query()]) -> SpecPageModel:
        """Those that were given and those seen in traffic, watched files that are not taken, and endpoints that look
        like a service's own description."""
        return SpecPageModel(
            items=tuple(_make_model(one, keeper.judgements) for one in table.list_specs()),
            file_errors=keeper.file_errors,
            traffic_errors=keeper.traffic_errors,
            seen_in_traffic=tuple(ServedDescriptionModel.model_validate(one) for one in reporter.list_served()),
        )

    @router.post("/specs", summary="Upload an API description")
    def upload_spec(body: UploadBody) -> SpecModel:
        """Put a description in force. The same name is a newer version: what only older ones have is a zombie."""
        try:
            spec = table.upload(name=body.name, document=body.document, service=body.service, source="api", by=body.by)
        except SpecError as error:
            raise Problem(422, str(error)) from error
        keeper.look()
        name = body.name or spec.title
        for one in table.list_specs():
            if one.name == name:
                return _make_model(one, keeper.judgements)
        raise ConflictError(f"The description {show(name)} was taken out again meanwhile.")

    @router.delete("/specs/{name}", summary="Take an API description out")
    def delete_spec(name: str) -> RemovedModel:
        """With all its versions."""
        if not table.delete(name):
            raise Problem(404, f"There is no description {show(name)}; look it up in /api/v1/specs.")
        keeper.look()
        return RemovedModel(name=name)

    @router.get("/specs/{name}/report", summary="Compare a description with what is seen")
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


def _make_model(spec: ListedSpec, judgements: Mapping[str, Judgement]) -> SpecModel:
    judgement = judgements.get(spec.name)
    return SpecModel(
        **asdict(spec),
        is_in_force=not spec.is_from_traffic or (judgement is not None and bool(judgement.fit.heads)),
        fit=judgement.reason if judgement is not None else "",
    )

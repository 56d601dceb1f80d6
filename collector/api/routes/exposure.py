"""/exposure: what leads to workloads from outside, by what Kubernetes says."""

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.exposure_models import (
    ClusterStatusModel,
    EndpointExposureModel,
    ExposureChangeModel,
    ExposureModel,
    ExposurePageModel,
    ServiceExposureModel,
)
from collector.api.parameters import ExposureParameters, SpanParameters, find_endpoint
from collector.api.problem import refuse_cursor
from collector.inventory.cursor import CursorError
from collector.inventory.endpoints import EndpointInventory
from collector.inventory.exposures import ExposureInventory
from collector.kubernetes.watcher import ClusterStatus

Clusters = Callable[[], Sequence[ClusterStatus]]


def build_exposure_routes(
    *, endpoints: EndpointInventory, exposures: ExposureInventory, clusters: Clusters, clock: Callable[[], float]
) -> APIRouter:
    """Routes that read exposures."""
    router = APIRouter(tags=["exposure"])

    @router.get("/exposure", summary="List exposures")
    def list_exposures(parameters: Annotated[ExposureParameters, Query()]) -> ExposurePageModel:
        """Every workload of the watched clusters by port: what leads to it, and whether from outside. Whether an
        endpoint was called from public addresses is in /endpoints."""
        try:
            page = exposures.list_exposures(parameters.question())
        except CursorError as error:
            raise refuse_cursor(parameters.cursor, error) from error
        return ExposurePageModel(
            items=tuple(ServiceExposureModel.model_validate(item) for item in page.items),
            next_cursor=page.next_cursor or None,
            total=page.total,
            clusters=tuple(ClusterStatusModel.model_validate(status) for status in clusters()),
        )

    @router.get("/endpoints/{endpoint_id}/exposure", summary="Show the exposure of one endpoint")
    def get_exposure(endpoint_id: str, parameters: Annotated[SpanParameters, Query()]) -> EndpointExposureModel:
        """What leads to one endpoint, who called it from where, and how what leads to its port changed."""
        endpoint = find_endpoint(endpoints, endpoint_id, parameters, clock()).endpoint
        changes = exposures.list_changes(endpoint.service)
        return EndpointExposureModel(
            endpoint_id=endpoint.id,
            exposure=ExposureModel.model_validate(endpoint.exposure),
            history=tuple(ExposureChangeModel.model_validate(change) for change in changes),
        )

    return router

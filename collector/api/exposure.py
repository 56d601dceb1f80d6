"""/exposure: what leads to workloads from outside, by what Kubernetes says, and who holds an address."""

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, OptionalTime, Time
from collector.core.scope import find_scope
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.exposure_list import ExposureInventory, ExposureQuery
from collector.inventory.filters import SpanParameters
from collector.kubernetes.rows import FactKind
from collector.kubernetes.watcher import ClusterStatus


class FactModel(Model):
    """One thing that leads to a workload's port, or holds back who comes."""

    kind: FactKind
    source: str = Field(description="The object that says so, namespace/name.", examples=["shop/web"])
    host: str = Field(description="`*` is any.", examples=["shop.example"])
    path: str = Field(examples=["/api"])
    path_type: str = Field(description="Exact, Prefix or Pattern.")
    method: str
    port: int = Field(description="Of the Service, node or load balancer.")
    addresses: tuple[str, ...]
    is_external: bool = Field(description="It leads in from outside the cluster.")
    is_tls: bool
    is_rewritten: bool = Field(description="The workload sees another path.")
    note: str


class ExposureModel(Model):
    """From where something is reached, and why we say so."""

    level: ExposureLevel
    reasons: tuple[str, ...] = Field(examples=[["Ingress shop/web: shop.example/api*"]])
    facts: tuple[FactModel, ...]
    since: OptionalTime = Field(description="When the facts became so; null where none are known.")


class ServiceExposureModel(Model):
    """One port of a workload, by what Kubernetes says alone; port 0: none is known."""

    cluster: str
    namespace: str
    workload: str
    port: int
    exposure: ExposureModel


class ClusterStatusModel(Model):
    """The watch of one cluster."""

    cluster: str
    is_current: bool
    reason: str = Field(description="What does not work; empty where all does.")
    pods: int
    services: int


class ExposurePageModel(Model):
    """One page of workload ports, and the clusters that are watched."""

    items: tuple[ServiceExposureModel, ...]
    next_cursor: str | None
    total: int
    clusters: tuple[ClusterStatusModel, ...]


class ExposureChangeModel(Model):
    """From `time` on these facts held; port 0: of all ports of the workload."""

    time: Time
    port: int
    facts: tuple[FactModel, ...]


class EndpointExposureModel(Model):
    """The exposure of one endpoint now, and how what leads to its port changed, newest first."""

    endpoint_id: str
    exposure: ExposureModel
    history: tuple[ExposureChangeModel, ...]


def build_exposure_routes(
    *,
    endpoints: EndpointInventory,
    exposures: ExposureInventory,
    clusters: Callable[[], Sequence[ClusterStatus]],
    clock: Callable[[], float],
) -> APIRouter:
    """Routes that read exposures."""
    router = APIRouter(tags=["exposure"])

    @router.get("/exposure", summary="List exposures")
    def list_exposures(query: Annotated[ExposureQuery, Query()]) -> ExposurePageModel:
        """Every workload of the watched clusters by port: what leads to it, and whether from outside. Whether an
        endpoint was called from public addresses is in /endpoints."""
        page = exposures.list_exposures(query)
        return ExposurePageModel(
            items=tuple(ServiceExposureModel.model_validate(item) for item in page.items),
            next_cursor=page.next_cursor,
            total=page.total,
            clusters=tuple(ClusterStatusModel.model_validate(status) for status in clusters() if find_scope().is_all),
        )

    @router.get("/endpoints/{endpoint_id}/exposure", summary="Show the exposure of one endpoint")
    def get_exposure(endpoint_id: str, parameters: Annotated[SpanParameters, Query()]) -> EndpointExposureModel:
        """What leads to one endpoint, who called it from where, and how what leads to its port changed."""
        endpoint = endpoints.find_endpoint(endpoint_id, parameters, clock()).endpoint
        changes = exposures.list_changes(endpoint.service)
        return EndpointExposureModel(
            endpoint_id=endpoint.id,
            exposure=ExposureModel.model_validate(endpoint.exposure),
            history=tuple(ExposureChangeModel.model_validate(change) for change in changes),
        )

    return router

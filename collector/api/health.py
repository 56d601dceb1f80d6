"""/healthz, /readyz and /metrics, for operators. The first two need no token, because orchestrators have none."""

from typing import Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from pydantic import Field

from collector.alerting.self_monitoring import StorageStatus
from collector.api.base_model import Model
from collector.api.problem import Problem
from collector.api.services import Metrics, Readiness, Storage

READINESS_THREADS: Final = 2  # A probe for each port that serves it.


class HealthModel(Model):
    """Whether the collector can do its work."""

    status: str = Field(examples=["ok"])
    version: str


class ReadinessModel(HealthModel):
    """The same, and what becomes of what sensors send."""

    storage: StorageStatus = Field(
        description="Whether rows of sensors are stored, and the state answers: ok, behind, failing, state_failing, "
        "disk_full or clock_wrong. Alerts say why, and of the state the collector's log."
    )


def build_health_routes(*, version: str, readiness: Readiness, storage: Storage) -> APIRouter:
    """Liveness and readiness. Neither waits for a thread that other requests use: a collector with much to do is not
    restarted for it."""
    router = APIRouter(tags=["operation"])
    threads = CapacityLimiter(READINESS_THREADS)

    @router.get("/healthz", summary="Liveness")
    async def get_health() -> HealthModel:
        """200 while the process answers."""
        return HealthModel(status="ok", version=version)

    @router.get("/readyz", summary="Readiness")
    async def get_readiness() -> ReadinessModel:
        """200 while sensors are answered, if only that they are to come again; 503 with the reason while the collector
        stops."""
        reason = await run_sync(readiness, limiter=threads)
        if reason:
            raise Problem(503, reason)
        state = await run_sync(storage, limiter=threads)
        return ReadinessModel(status="ready", version=version, storage=state.status)

    return router


def build_metrics_routes(*, metrics: Metrics) -> APIRouter:
    """The collector's own figures."""
    router = APIRouter(tags=["operation"])

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    def get_metrics(request: Request) -> Response:
        """The collector's own figures, and those of services, as OpenMetrics or in the Prometheus text format."""
        text, media_type = metrics(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    return router

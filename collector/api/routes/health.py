"""/healthz, /readyz and /metrics: for whoever runs the collector. The first two need no token: orchestrators have
none."""

from collections.abc import Callable
from typing import Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from collector.api.base_model import Model
from collector.api.problem import Problem

Metrics = Callable[[], bytes]
Readiness = Callable[[], str]  # Empty when ready, else one sentence why not.
READINESS_THREADS: Final = 2  # A probe for each port that serves it.


class HealthModel(Model):
    """Whether the collector can do its work."""

    status: str = Field(examples=["ok"])
    version: str


def build_health_routes(*, version: str, readiness: Readiness) -> APIRouter:
    """Liveness and readiness. Neither waits for a thread that other requests use: a collector with much to do is not
    restarted for it."""
    router = APIRouter(tags=["operation"])
    threads = CapacityLimiter(READINESS_THREADS)

    @router.get("/healthz", summary="Liveness")
    async def get_health() -> HealthModel:
        """200 while the process answers."""
        return HealthModel(status="ok", version=version)

    @router.get("/readyz", summary="Readiness")
    async def get_readiness() -> HealthModel:
        """200 when the store answers and batches are taken; else 503 with the reason."""
        reason = await run_sync(readiness, limiter=threads)
        if reason:
            raise Problem(503, reason)
        return HealthModel(status="ready", version=version)

    return router


def build_metrics_routes(*, metrics: Metrics) -> APIRouter:
    """The collector's own figures."""
    router = APIRouter(tags=["operation"])

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    def get_metrics() -> Response:
        """The collector's own figures in the Prometheus text format."""
        return Response(metrics(), media_type=CONTENT_TYPE_LATEST)

    return router

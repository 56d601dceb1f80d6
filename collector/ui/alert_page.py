"""The page of one alert: its words, and the rows behind it."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from jinja2 import Environment

from collector.api.alerts import AlertRepository
from collector.api.call_models import view_evidence
from collector.api.problem import Problem
from collector.inventory.evidence import EvidenceReader
from collector.inventory.question import LIMIT_MAX
from collector.ui.rendering import render


def add_alert(
    router: APIRouter,
    alerts: AlertRepository,
    evidence: EvidenceReader,
    *,
    values: Callable[[Request], dict[str, Any]],
    templates: Environment,
) -> None:
    """The route of the page; `values` gives what every template needs."""

    @router.get("/alerts/{alert_id}")
    def show_alert(request: Request, alert_id: str) -> Response:
        alert = alerts.get_alert(alert_id)
        if alert is None:
            raise Problem(404, f"There is no alert {alert_id!r}; go back and reload.")
        found = view_evidence(alert_id, evidence.read(alert, limit=LIMIT_MAX))
        asked = f"{found.request.path}?{urlencode(found.request.parameters)}" if found.request is not None else ""
        shown = {"alert": alert, "found": found, "rows": found.items, "asked": asked}
        return render(templates, "alert.html", {**values(request), **shown})

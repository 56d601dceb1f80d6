"""Risk on the page of an endpoint: its terms and findings, and the buttons that decide on a finding."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from collector.api.parameters import NOTE_CHARACTERS_MAX
from collector.api.problem import Problem
from collector.risk.finding import Finding, FindingState
from collector.risk.keeper import RiskKeeper
from collector.risk.services import NO_ENDPOINT
from collector.ui.forms import own_path, read_form

FINDINGS_SHOWN = 100


def read_risk(risks: RiskKeeper | None, endpoint_id: str) -> dict[str, Any]:
    """The values that the page of an endpoint shows; nothing where its risk was not computed."""
    record = risks.table.read_risks([endpoint_id]).get(endpoint_id) if risks is not None else None
    if risks is None or record is None:
        return {"risk": None, "findings": ()}
    return {"risk": record.risk, "findings": _list_findings(risks, endpoint_id)}


def read_service_findings(risks: RiskKeeper | None) -> dict[str, Any]:
    """What the coverage shows: findings on services that nobody can read."""
    return {"findings": _list_findings(risks, NO_ENDPOINT)[:FINDINGS_SHOWN] if risks is not None else ()}


def _list_findings(risks: RiskKeeper, endpoint_id: str) -> list[Finding]:
    found = risks.table.read_findings([endpoint_id]).get(endpoint_id, [])
    order = list(FindingState)
    return sorted(found, key=lambda one: (order.index(one.state), one.title, one.service))


def add_finding_actions(router: APIRouter, risks: RiskKeeper, actor: str) -> None:
    """What the buttons of a finding do."""

    @router.post("/findings/{finding_id}/{state}")
    async def decide(request: Request, finding_id: str, state: str) -> Response:
        if state not in {one.value for one in FindingState}:
            raise Problem(404, f"There is no state {state!r}; use one of {', '.join(FindingState)}.")
        form = await read_form(request)
        note = form.get("note", "")[:NOTE_CHARACTERS_MAX] or "On the page, without a note."
        done = await run_in_threadpool(risks.decide, finding_id, FindingState(state), by=actor, note=note)
        if done is None:
            raise Problem(404, f"There is no finding {finding_id!r}; go back and reload.")
        return RedirectResponse(own_path(form.get("next", "/")), status_code=303)

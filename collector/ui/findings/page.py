"""Findings: what the buttons of one do."""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from collector.api.parameters import NOTE_CHARACTERS_MAX, name_actor
from collector.api.problem import Problem
from collector.risk.finding import FindingState
from collector.ui.components.rendering import own_path, read_form
from collector.ui.site import Page, Site


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    risks = site.services.risks
    assert risks is not None, "the page is not available"

    @router.post("/findings/{finding_id}/{state}")
    async def decide(request: Request, finding_id: str, state: str) -> Response:
        if state not in {one.value for one in FindingState}:
            raise Problem(404, f"There is no state {state!r}; use one of {', '.join(FindingState)}.")
        form = await read_form(request)
        note = form.get("note", "")[:NOTE_CHARACTERS_MAX] or "On the page, without a note."
        done = await run_in_threadpool(risks.decide, finding_id, FindingState(state), by=name_actor(), note=note)
        if done is None:
            raise Problem(404, f"There is no finding {finding_id!r}; go back and reload.")
        return RedirectResponse(own_path(form.get("next", "/")), status_code=303)


PAGE = Page(add_routes=add_routes, is_available=lambda services: services.risks is not None)

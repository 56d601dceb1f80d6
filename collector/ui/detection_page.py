"""The page of detection: the level with what each would have told, and what is known to be good."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from jinja2 import Environment

from collector.alerts.detection import Detection
from collector.api.authenticate import Gate
from collector.api.problem import Problem
from collector.sensitivity import LEVELS, Sensitivity
from collector.ui.forms import read_form, to_login
from collector.ui.rendering import render

ACTOR = "page"


def add_detection(
    router: APIRouter,
    detection: Detection,
    *,
    gate: Gate,
    values: Callable[[Request], dict[str, Any]],
    templates: Environment,
) -> None:
    """Routes of the page and of its buttons. `values` gives what every template needs."""

    @router.get("/detection")
    def show_detection(request: Request) -> Response:
        if gate.refusal(request):
            return to_login(request)
        shown = {"standing": detection.describe(), "rules": detection.list_rules()}
        return render(templates, "detection.html", {**values(request), **shown})

    @router.post("/detection/sensitivity")
    async def choose_level(request: Request) -> Response:
        await gate.require(request)
        level = (await read_form(request)).get("level", "")
        if level not in set(LEVELS):
            raise Problem(422, f"There is no level {level!r}; use one of {', '.join(LEVELS)}.")
        await run_in_threadpool(lambda: detection.choose(Sensitivity(level), by=ACTOR))
        return RedirectResponse("/detection", status_code=303)

    @router.post("/detection/known-good/{rule_id}/end")
    async def end_rule(request: Request, rule_id: str) -> Response:
        await gate.require(request)
        if await run_in_threadpool(lambda: detection.end_rule(rule_id, by=ACTOR)) is None:
            raise Problem(404, f"There is no rule {rule_id!r} in force; go back and reload.")
        return RedirectResponse("/detection", status_code=303)

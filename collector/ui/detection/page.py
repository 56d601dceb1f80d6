"""The page of detection: the level with a preview of each, known-good rules, and where alerts are sent."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from collector.alerting.notifiers.delivery import MEANINGS, try_notifier
from collector.api.parameters import name_actor
from collector.api.problem import Problem
from collector.core.kinds import LEVELS, Sensitivity
from collector.ui.components.rendering import read_form
from collector.ui.site import Page, Site


def add_routes(router: APIRouter, site: Site) -> None:
    """Routes of the page and of its buttons."""
    assert site.services.detection is not None, "the page is not available"
    detection, _ = site.services.detection
    notifiers, clock = site.services.notifiers, site.services.clock

    def show(request: Request, tried: dict[str, str]) -> Response:
        """The page; `tried`: what became of the test of a notifier, by its name."""
        shown = {"standing": detection.describe(), "rules": detection.list_rules()}
        return site.render(request, "detection/detection.html", {**shown, "notifiers": notifiers, "tried": tried})

    @router.get("/detection")
    def show_detection(request: Request) -> Response:
        return show(request, {})

    @router.post("/detection/notifiers/{name}/test")
    async def test_notifier(request: Request, name: str) -> Response:
        outcome = await run_in_threadpool(lambda: try_notifier(notifiers, name, by=name_actor(), now=clock()))
        if outcome is None:
            raise Problem(404, f"There is no notifier {name!r}; go back and reload.")
        return await run_in_threadpool(lambda: show(request, {name: MEANINGS[outcome]}))

    @router.post("/detection/sensitivity")
    async def choose_level(request: Request) -> Response:
        level = (await read_form(request)).get("level", "")
        if level not in set(LEVELS):
            raise Problem(422, f"There is no level {level!r}; use one of {', '.join(LEVELS)}.")
        await run_in_threadpool(lambda: detection.choose(Sensitivity(level), by=name_actor()))
        return RedirectResponse("/detection", status_code=303)

    @router.post("/detection/known-good/{rule_id}/end")
    async def end_rule(request: Request, rule_id: str) -> Response:
        await run_in_threadpool(lambda: detection.end_rule(rule_id, by=name_actor()))
        return RedirectResponse("/detection", status_code=303)


PAGE = Page(
    add_routes=add_routes,
    path="/detection",
    title="Detection",
    group="Installation",
    key="d",
    is_available=lambda services: services.detection is not None,
)

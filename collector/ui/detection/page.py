"""The page of detection: the level with a preview of each, and known-good rules."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from collector.alerting.alert import AlertKind
from collector.api.detection import KnownGoodBody
from collector.api.parameters import NOTE_CHARACTERS_MAX, name_actor
from collector.api.problem import Problem, describe_validation
from collector.core.kinds import LEVELS, Sensitivity
from collector.inventory.query import DAY_SECONDS
from collector.ui.components.rendering import read_form
from collector.ui.site import Page, Site

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
RULE_DAYS: Final = ((1, "1 day"), (7, "7 days"), (30, "30 days"), (90, "90 days"), (400, "400 days"))


def add_routes(router: APIRouter, site: Site) -> None:
    """Routes of the page and of its buttons."""
    assert site.services.detection is not None, "the page is not available"
    detection, _ = site.services.detection

    def show(request: Request, asked: Mapping[str, str] = _NOTHING, complaint: str = "") -> Response:
        """The page; `asked`: a rule that was refused, and why it was."""
        shown = {
            "standing": detection.describe(),
            "rules": detection.list_rules(),
            "asked": {**dict.fromkeys(KnownGoodBody.model_fields, ""), **asked},
            "complaint": complaint,
            "kinds": [kind for kind in AlertKind if kind.row.is_detected],
            "spans": RULE_DAYS,
            "note_max": NOTE_CHARACTERS_MAX,
        }
        return site.render(request, "detection/detection.html", shown, status=422 if complaint else 200)

    @router.get("/detection")
    def show_detection(request: Request) -> Response:
        return show(request)

    @router.post("/detection/sensitivity")
    async def choose_level(request: Request) -> Response:
        level = (await read_form(request)).get("level", "")
        if level not in set(LEVELS):
            raise Problem(422, f"There is no level {level!r}; use one of {', '.join(LEVELS)}.")
        await run_in_threadpool(lambda: detection.choose(Sensitivity(level), by=name_actor()))
        return RedirectResponse("/detection", status_code=303)

    @router.post("/detection/known-good")
    async def add_rule(request: Request) -> Response:
        given = {name: value.strip() for name, value in (await read_form(request)).items() if value.strip()}
        days = given.pop("days", "")

        def add() -> None:
            seconds = int(days) * DAY_SECONDS if days.isascii() and days.isdigit() and len(days) < 4 else 0
            body = KnownGoodBody.model_validate({**given, "seconds": seconds})
            names = {**body.model_dump(exclude={"asked_by"}), "kind": body.kind or ""}
            detection.add_rule(by=name_actor(), **names)

        try:
            await run_in_threadpool(add)
        except ValidationError as error:
            located = [{**detail, "loc": ("body", *detail["loc"])} for detail in error.errors()]
            complaint = describe_validation(located, list(KnownGoodBody.model_fields))
        except ValueError as error:
            complaint = f"{str(error)[:1].upper()}{str(error)[1:]}."
        else:
            return RedirectResponse("/detection#rules", status_code=303)
        return await run_in_threadpool(lambda: show(request, asked={**given, "days": days}, complaint=complaint))

    @router.post("/detection/known-good/{rule_id}/end")
    async def end_rule(request: Request, rule_id: str) -> Response:
        await run_in_threadpool(lambda: detection.end_rule(rule_id, by=name_actor()))
        return RedirectResponse("/detection#rules", status_code=303)


PAGE = Page(
    add_routes=add_routes,
    path="/detection",
    title="Detection",
    group="Installation",
    key="d",
    is_available=lambda services: services.detection is not None,
)

"""The page of all views, and what forms of views do."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from collector.api.parameters import name_actor
from collector.api.problem import Problem
from collector.api.views import VIEWED_LISTS, save_view
from collector.core.errors import ConflictError
from collector.inventory.views import NAME_CHARACTERS_MAX
from collector.ui.components.rendering import read_form
from collector.ui.components.tables import word_refusal
from collector.ui.site import Page, Site

PATH: Final = "/views"


def add_routes(router: APIRouter, site: Site) -> None:
    """The page, and what its forms do."""
    views = site.services.views

    def show(request: Request, complaint: str = "", form: Mapping[str, str] | None = None) -> Response:
        values: dict[str, Any] = {
            "views": views.list_views(),
            "complaint": complaint,
            "form": {"list": "", "name": "", "query": "", **(form or {})},
            "name_max": NAME_CHARACTERS_MAX,
        }
        return site.render(request, "views/list.html", values, status=422 if complaint else 200)

    @router.get(PATH)
    def show_views(request: Request) -> Response:
        return show(request)

    def save(request: Request, form: Mapping[str, str]) -> Response:
        list_name, name = form.get("list", ""), form.get("name", "").strip()
        complaint = ""
        if list_name not in VIEWED_LISTS:
            complaint = "There is no such list."
        elif not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
            complaint = f"Give the view a name of 1 to {NAME_CHARACTERS_MAX} characters."
        else:
            try:
                saved = save_view(views, list_name, name, form.get("query", ""), by=name_actor())
                return RedirectResponse(saved.path, status_code=303)
            except ValidationError as error:
                complaint = word_refusal(error, VIEWED_LISTS[list_name])
            except ConflictError as error:
                complaint = str(error)
        return show(request, complaint, form)

    @router.post(PATH)
    async def save_form(request: Request) -> Response:
        return await run_in_threadpool(save, request, await read_form(request))

    @router.post("/views/{view_id}/delete")
    def delete_view(view_id: str) -> Response:
        if views.delete(view_id, by=name_actor()) is None:
            raise Problem(404, "There is no such view any more; go back and reload.")
        return RedirectResponse(PATH, status_code=303)


PAGE = Page(add_routes=add_routes)

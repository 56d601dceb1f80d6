"""Template edits on the page of an endpoint: what may be split, merged, renamed and pinned, and the buttons that do."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from collector.api.problem import Problem
from collector.errors import ConflictError, UnknownError
from collector.inventory.editor import TemplateEditor
from collector.inventory.edits import EditError, split_template
from collector.inventory.endpoint import Endpoint
from collector.ui.forms import read_form

# Offered in a list; others by `apidae templates`.
VALUES_SHOWN: Final = 100
SIBLINGS_SHOWN: Final = 100
EDITS_SHOWN: Final = 20


def read_edits(editor: TemplateEditor | None, endpoint: Endpoint, complaint: str = "") -> dict[str, Any]:
    """The template's values; nothing may be edited where there is no editor, nor of an operation, whose path is its
    parent's. Raises StoreError."""
    if editor is None or endpoint.operation is not None:
        return {"can_edit": False}
    edits = editor.list_edits_of(endpoint.service, endpoint.host, endpoint.method)
    return {
        "can_edit": True,
        "edit_complaint": complaint,
        "edit_places": [
            (place, part, editor.list_values(endpoint.id, place=place)[:VALUES_SHOWN])
            for place, part in enumerate(split_template(endpoint.template))
            if "{" in part
        ],
        "edit_hosts": editor.list_hosts(endpoint.service, endpoint.host)[:VALUES_SHOWN],
        "edit_siblings": editor.list_siblings(endpoint.id)[:SIBLINGS_SHOWN],
        "edits": edits[:EDITS_SHOWN],
    }


def add_edit_actions(
    router: APIRouter,
    editor: TemplateEditor,
    actor: str,
    show: Callable[[Request, str, str], Response],
) -> None:
    """What the buttons do. `show` gives the endpoint's page with what was wrong."""

    def undo(_: str, form: Mapping[str, str]) -> object:
        return editor.undo(form.get("edit", ""), by=actor)

    actions: dict[str, Callable[[str, Mapping[str, str]], object]] = {
        "rename": lambda name, form: editor.rename(
            name, place=_read_place(form), name=form.get("name", "").strip(), by=actor
        ),
        "split": lambda name, form: editor.split(name, place=_read_place(form), value=form.get("value", ""), by=actor),
        "merge": lambda name, form: editor.merge(
            [name, form.get("other", "")], name=form.get("name", "").strip(), by=actor
        ),
        "keep-host": lambda name, form: editor.keep_host(name, host=form.get("host", ""), by=actor),
        "pin": lambda name, form: editor.pin(name, by=actor),
        "undo": undo,
    }

    @router.post("/endpoints/{endpoint_id}/{action}")
    async def edit(request: Request, endpoint_id: str, action: str) -> Response:
        if action not in actions:
            raise Problem(404, f"There is no action {action!r}; use one of {', '.join(actions)}.")
        form = await read_form(request)
        try:
            await run_in_threadpool(actions[action], endpoint_id, form)
        except (EditError, ConflictError, UnknownError) as error:
            return await run_in_threadpool(show, request, endpoint_id, str(error))
        # An id that an endpoint had before stays good, so the way back needs no new one.
        return RedirectResponse(f"/endpoints/{quote(endpoint_id, safe='')}#edits-title", status_code=303)


def _read_place(form: Mapping[str, str]) -> int:
    text = form.get("place", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1

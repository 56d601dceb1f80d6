"""The audit log: who decided and exported what, with filters and as a file. For an admin."""

import json
from collections.abc import Iterator
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from collector.api.audit import AuditQuery, read_audit
from collector.inventory.query import CursorError
from collector.ui.components.tables import build_controls, link_to, word_refusal
from collector.ui.site import Page, Site

PATH = "/audit"
FORMS = ("csv", "json", "jsonl")
# Times of the last decade and later, as seconds: no other number of an entry is that large.
_LEAST_TIME: Final = 1_500_000_000.0


def list_facts(text: str) -> Iterator[tuple[str, str, float | None]]:
    """The `before` or `after` of an entry: its names, each with its value as a text, or as a time. What is empty is
    left out."""
    try:
        told = json.loads(text)
    except ValueError:
        told = text
    for name, value in told.items() if isinstance(told, dict) else [("", told)] if told else ():
        if value in (None, "", []):
            continue
        is_time = isinstance(value, float) and value >= _LEAST_TIME
        yield name.replace("_", " "), "" if is_time else _word(value), value if is_time else None


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_word(one) for one in value)
    if isinstance(value, dict):
        return "; ".join(f"{name} {_word(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    services = site.services

    @router.get(PATH)
    def show_audit(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        query, complaint = AuditQuery(), ""
        try:
            query = AuditQuery.model_validate(asked)
            found, next_cursor = read_audit(query, services.audit, services.clock())
        except (ValidationError, CursorError) as error:
            complaint, found, next_cursor = word_refusal(error, AuditQuery), (), None
        narrowed = {} if complaint else {name: asked[name] for name in query.list_filters() if name in asked}
        values = {
            "entries": found,
            "list_facts": list_facts,
            "complaint": complaint,
            "controls": build_controls(query, PATH, asked),
            "next_link": link_to(PATH, asked, cursor=next_cursor) if next_cursor else "",
            "first_link": link_to(PATH, narrowed) if query.cursor else "",
            "clear_link": PATH if narrowed else "",
            "files": [(form, link_to(f"/api/v1/exports/audit.{form}", narrowed)) for form in FORMS],
        }
        return site.render(request, "audit/list.html", values, status=422 if complaint else 200)


PAGE = Page(add_routes=add_routes, path=PATH, title="Audit log", group="Installation", key="l")

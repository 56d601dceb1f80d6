"""The audit log: who decided and exported what, with filters and as a file. For an admin."""

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from collector.api.audit import AuditQuery, read_audit
from collector.inventory.query import CursorError
from collector.ui.components.tables import build_controls, link_to, word_refusal
from collector.ui.site import Page, Site

PATH = "/audit"
FORMS = ("csv", "json", "jsonl")


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
            "complaint": complaint,
            "controls": build_controls(query, PATH, asked),
            "next_link": link_to(PATH, asked, cursor=next_cursor) if next_cursor else "",
            "first_link": link_to(PATH, narrowed) if query.cursor else "",
            "clear_link": PATH if narrowed else "",
            "files": [(form, link_to(f"/api/v1/exports/audit.{form}", narrowed)) for form in FORMS],
        }
        return site.render(request, "audit/list.html", values, status=422 if complaint else 200)


PAGE = Page(add_routes=add_routes, path=PATH, title="Audit log", group="Installation", key="l")

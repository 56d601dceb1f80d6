"""What changed between two dates; without any, since yesterday."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from collector.api.changes import DiffParameters
from collector.api.problem import Problem, describe_validation
from collector.inventory.changes import compare_dates
from collector.ui.components.tables import link_to
from collector.ui.site import Page, Site

PATH = "/changes"
SHOWN = 200  # Of each list; all are in the API.
_SPANS = (("since yesterday", 1), ("in a week", 7), ("in 30 days", 30))


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    services = site.services

    @router.get(PATH)
    def show_changes(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        complaint, now = "", services.clock()
        start, end = DiffParameters().find_days(now)
        try:
            start, end = DiffParameters.model_validate(asked).find_days(now)
        except ValidationError as error:
            located = [{**detail, "loc": ("query", *detail["loc"])} for detail in error.errors()]
            complaint = describe_validation(located, list(DiffParameters.model_fields))
        except Problem as problem:
            complaint = problem.detail
        found = compare_dates(services.reader, start, end)
        today = datetime.fromtimestamp(now, UTC).date()
        values = {
            "found": found,
            "complaint": complaint,
            "shown": SHOWN,
            "span_links": [
                (
                    words,
                    link_to(PATH, {}, start=(today - timedelta(days=days)).isoformat(), end=today.isoformat()),
                    (start, end) == (today - timedelta(days=days), today),
                )
                for words, days in _SPANS
            ],
            "counts": [
                ("Appeared", "appeared", len(found.appeared)),
                ("Gone", "gone", len(found.gone)),
                ("Credentials", "credentials", len(found.changed)),
                ("Exposure", "exposed", len(found.exposed)),
                ("Data", "data", len(found.data)),
            ],
            "command": f"apidae get changes {start} {end}",
        }
        return site.render(request, "changes/changes.html", values, status=422 if complaint else 200)


PAGE = Page(add_routes=add_routes, path=PATH, title="Changes", group="Inventory", key="h")

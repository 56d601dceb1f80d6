"""Consumers: the list, one consumer with all that is known of it and its label, and the form that finds one by a token
or name.

What is pasted into that form is answered in the response of the POST. It is in no address, no cookie and no redirect.
"""

from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from collector.api.parameters import NOTE_CHARACTERS_MAX, name_actor
from collector.core.kinds import ConsumerKind
from collector.core.scope import find_scope
from collector.inventory.consumers.consumer import parse_consumer
from collector.inventory.consumers.consumers import ConsumerQuery, ConsumerSort
from collector.inventory.consumers.identify import ISSUERS_MAX, PASTE_CHARACTERS_MAX
from collector.inventory.consumers.labels import LABEL_CHARACTERS_MAX
from collector.inventory.filters import SpanParameters
from collector.inventory.query import QuestionError, Since, span_since
from collector.inventory.traffic.series import SeriesQuery
from collector.ui.components.rendering import read_form
from collector.ui.components.series import draw_traffic
from collector.ui.components.tables import Column, build_list_values, read_list
from collector.ui.components.tools import build_tools
from collector.ui.site import Page, Site

PATH: Final = "/consumers"
ALERTS_SHOWN: Final = 20
CANDIDATES_SHOWN: Final = 12
COLUMNS: Final = (
    Column(ConsumerSort.CALLS, "Calls", "Sort by calls"),
    Column(ConsumerSort.ERRORS, "Errors", "Sort by server errors and aborted calls"),
    Column(ConsumerSort.ENDPOINTS, "Endpoints", "Sort by endpoints called"),
    Column(ConsumerSort.OBJECTS, "Objects", "Sort by distinct objects", "number optional"),
    Column(ConsumerSort.FIRST_SEEN, "First seen", "Sort by first seen", "number optional"),
    Column(ConsumerSort.LAST_SEEN, "Last seen", "Sort by last seen", "number optional"),
)
_BLOCKED_KINDS: Final = frozenset(ConsumerKind) - {ConsumerKind.OTHER}
_NO_STORE: Final = {"cache-control": "no-store"}


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    services = site.services

    @router.get(PATH)
    def show_consumers(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        query, page, complaint = read_list(
            ConsumerQuery,
            asked,
            lambda query: services.consumers.list_consumers(query, query.find_span(services.clock())),
        )
        values = {
            **build_list_values(query, page, COLUMNS, PATH, asked),
            "rows": page.items,
            "tools": build_tools(services.views, "consumers", {} if complaint else asked, page.total),
            "spans": tuple(Since),
            "complaint": complaint,
        }
        return site.render(request, "consumers/list.html", values, status=422 if complaint else 200)

    @router.get(PATH + "/identify")
    def start_again() -> Response:
        return RedirectResponse(PATH, status_code=303)  # A reload of the answer, which nothing kept.

    @router.post(PATH + "/identify")
    async def identify(request: Request) -> Response:
        form = await read_form(request)
        value, issuers = form.get("value", ""), form.get("issuers", "").split()
        complaint = ""
        if not value.strip():
            complaint = "Paste a token, key, user or subject."
        elif len(value) > PASTE_CHARACTERS_MAX or len(issuers) > ISSUERS_MAX:
            complaint = f"Paste at most {PASTE_CHARACTERS_MAX:,} characters and {ISSUERS_MAX} issuers."
        values: dict[str, Any] = {"complaint": complaint, "found": (), "candidates": ()}
        if not complaint:
            span = span_since(Since.QUARTER, services.clock())
            found = await run_in_threadpool(services.finder.identify, value, issuers, span)
            values |= {"found": found.found, "candidates": found.candidates[:CANDIDATES_SHOWN]}
        # Of the frame: where its theme button comes back to.
        values["here"] = PATH
        response = await run_in_threadpool(
            site.render, request, "consumers/identified.html", values, status=422 if complaint else 200
        )
        response.headers.update(_NO_STORE)
        return response

    @router.post(PATH + "/labels")
    async def set_label(request: Request) -> Response:
        form = await read_form(request)
        name = parse_consumer(form.get("consumer", ""))
        text = _clean(form.get("name", ""))[:LABEL_CHARACTERS_MAX]
        note = _clean(form.get("note", ""))[:NOTE_CHARACTERS_MAX]
        await run_in_threadpool(services.labels.put, name, name=text, note=note, by=name_actor())
        return RedirectResponse(f"{PATH}/{quote(name.id)}", status_code=303)

    @router.get(PATH + "/{consumer_id:path}")
    def show_consumer(request: Request, consumer_id: str) -> Response:
        name, now = parse_consumer(consumer_id), services.clock()
        query = {one: value for one, value in request.query_params.items() if value}
        try:
            asked = SpanParameters.model_validate(query)
            span = asked.find_span(now)
        except (ValidationError, QuestionError):
            asked, span = SpanParameters(), span_since(Since.DAY, now)
        detail = services.consumers.get_consumer(name, span)
        alerts = services.alerts.list_alerts(limit=ALERTS_SHOWN, consumer=name.id)
        values: dict[str, Any] = {
            "name": name,
            # Whoever sees no call of it does not learn that it is known.
            "label": services.labels.find(name.id) if detail or alerts or find_scope().is_all else None,
            "since": asked.since,
            "spans": tuple(Since),
            "detail": detail,
            "alerts": alerts,
            "incidents": tuple(dict.fromkeys(one.incident_id for one in alerts if one.incident_id)),
            "can_block": services.responder is not None and name.kind in _BLOCKED_KINDS,
            "charts": (),
        }
        if detail is not None:
            asked_series = SeriesQuery(consumer=name.id, **asked.model_dump())
            values["charts"] = draw_traffic(services.traffic.read_series(asked_series, now))
        return site.render(request, "consumers/consumer.html", values, status=200 if _is_known(values) else 404)


def _is_known(values: dict[str, Any]) -> bool:
    return bool(values["detail"] or values["label"] or values["alerts"])


def _clean(text: str) -> str:
    """As the API takes it: printable, on one line."""
    return "".join(one for one in text if one.isprintable()).strip()


PAGE = Page(add_routes=add_routes, path=PATH, title="Consumers", group="Inventory", key="u")

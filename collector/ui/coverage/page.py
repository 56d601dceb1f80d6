"""The values of the coverage page: the share on top, its history, every port, and what was lost."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from collector.api.parameters import name_actor
from collector.api.problem import Problem
from collector.core.scope import find_scope
from collector.inventory.coverage.reader import CoverageHistory, CoverageInventory
from collector.inventory.coverage.sql import PortQuery
from collector.inventory.coverage.targets import SECONDS_MAX
from collector.inventory.query import Rollup, Since, span_since
from collector.ui.components.chart import Chart, Look, Series, Shape, draw
from collector.ui.components.rendering import read_form
from collector.ui.components.tables import PORT_COLUMNS, build_list_values, link_to, read_list
from collector.ui.components.tools import build_tools
from collector.ui.endpoint.sections import read_service_findings
from collector.ui.site import Page, Site

PATH = "/coverage"
LOSSES_SHOWN = 100
NODES_SHOWN = 200
PLACE_CHARACTERS_MAX = 300


def build_coverage_values(
    coverage: CoverageInventory, asked: Mapping[str, str], now: float
) -> tuple[dict[str, Any], bool]:
    """The template's values, and whether the query was refused: then a sentence says why, above an empty table."""
    since = Since(asked["since"]) if asked.get("since") in set(Since) else Since.DAY
    filters = {name: value for name, value in asked.items() if name != "since"}
    query, page, complaint = read_list(PortQuery, filters, coverage.list_ports)
    span = replace(span_since(since, now), rollup=Rollup.HOUR)
    found = coverage.read_coverage()
    values = {
        **build_list_values(query, page, PORT_COLUMNS, PATH, asked),
        "covered": found.cluster,
        "nodes": found.nodes[:NODES_SHOWN],
        "blind_spots": [(spot, link_to(PATH, {}, protocol=spot.protocol.value)) for spot in found.blind_spots],
        "losses": found.losses[:LOSSES_SHOWN],
        "chart_of_share": _draw_share(coverage.read_history(span)),
        "since": since,
        "span_links": [(span.value, link_to(PATH, asked, since=span.value)) for span in list(Since)[1:]],
        "here": link_to(PATH, asked),
        "complaint": complaint,
    }
    return values, bool(complaint)


def _draw_share(history: CoverageHistory) -> Chart:
    """Connections like HTTP, read and not read."""
    times = range(history.points[0].time, history.points[-1].time + 1, history.step_seconds) if history.points else ()
    known = {point.time: point.share for point in history.points}
    read = [known[time].read_connections if time in known else 0 for time in times]
    every = [known[time].connections if time in known else 0 for time in times]
    return draw(
        "HTTP connections",
        [
            Series(name="read", values=read, look=Look.CALLS),
            Series(name="not read", values=[a - b for a, b in zip(every, read, strict=True)], look=Look.ERRORS),
        ],
        start=times[0] if times else 0,
        step=history.step_seconds,
        unit="connections",
        shape=Shape.STACKED,
    )


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    services = site.services

    @router.get(PATH)
    def show_coverage(request: Request) -> Response:
        query = {name: value for name, value in request.query_params.items() if value}
        values, is_refused = build_coverage_values(services.coverage, query, services.clock())
        values |= {**read_service_findings(services.risks), "limits": services.limits() if find_scope().is_all else ()}
        values["targets"] = services.coverage_targets.measure()
        asked = {} if is_refused else {name: value for name, value in query.items() if name != "since"}
        values["tools"] = build_tools(services.views, "coverage", asked, values["page"].total, "coverage/ports")
        return site.render(request, "coverage/coverage.html", values, status=422 if is_refused else 200)

    def set_target(form: Mapping[str, str]) -> Response:
        place = {name: form.get(name, "").strip()[:PLACE_CHARACTERS_MAX] for name in ("cluster", "namespace")}
        if "percent" not in form:
            services.coverage_targets.remove(**place, by=name_actor())
            return RedirectResponse(PATH, status_code=303)
        try:
            ratio, seconds = float(form["percent"]) / 100, int(form.get("minutes", "")) * 60
        except ValueError:
            ratio, seconds = 0.0, 0
        if not (0 < ratio <= 1 and 60 <= seconds <= SECONDS_MAX and all(one.isprintable() for one in place.values())):
            raise Problem(
                422,
                f"The target is {form['percent'][:20]!r} % within {form.get('minutes', '')[:20]!r} minutes; use up "
                f"to 100 %, and 1 to {SECONDS_MAX // 60:,} minutes.",
            )
        services.coverage_targets.put(**place, ratio=ratio, seconds=seconds, by=name_actor())
        return RedirectResponse(PATH, status_code=303)

    @router.post(PATH + "/targets")
    async def change_target(request: Request) -> Response:
        return await run_in_threadpool(set_target, await read_form(request))


PAGE = Page(add_routes=add_routes, path=PATH, title="Coverage", group="Installation", key="c")

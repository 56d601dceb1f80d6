"""The pages of alerts: the list by state, one alert with why it was raised, and their buttons.

To silence an alert of high severity needs a confirmation. Every silence shows who made it, why, until when, and how to
undo it.
"""

import shlex
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from collector.alerting.alert import Alert, AlertState, Severity, Verdict
from collector.alerting.repository import AlertSort
from collector.api.alerts import read_alerts
from collector.api.calls import AlertSeriesModel, EvidenceRequestModel, view_evidence
from collector.api.lists import AlertQuery
from collector.api.parameters import MUTE_SECONDS_MAX, NOTE_CHARACTERS_MAX, name_actor
from collector.api.problem import Problem
from collector.core.rates import CALLS_A_SECOND
from collector.inventory.evidence.explanation import FAILED_SHARE
from collector.inventory.filters import LIMIT_MAX
from collector.inventory.query import CursorError
from collector.ui.components.chart import Chart, Look, Series, draw
from collector.ui.components.rendering import own_path, read_form
from collector.ui.components.tables import build_controls, link_to, word_refusal
from collector.ui.components.tools import build_tools
from collector.ui.components.wording import word_milliseconds, word_percent
from collector.ui.site import Page, Site

PATH: Final = "/alerts"
MUTE_SECONDS: Final = 24 * 3_600
EXPECTED: Final = "expected"
# How long the page offers to silence an alert; the API takes any time.
EXPIRIES: Final = (
    ("3600", "1 hour"),
    (str(MUTE_SECONDS), "24 hours"),
    (str(7 * MUTE_SECONDS), "7 days"),
    (str(30 * MUTE_SECONDS), "30 days"),
    (EXPECTED, "it is expected: until undone"),
)
_ASKED_FIRST: Final = frozenset({Severity.HIGH})
# What these actions silence for; `silence` says it in its form.
_SILENCING: Final = {"mute": str(MUTE_SECONDS), EXPECTED: EXPECTED, "silence": ""}


def add_routes(router: APIRouter, site: Site) -> None:
    """Routes of the pages and of their buttons."""
    services = site.services
    alerts, clock = services.alerts, services.clock

    def find(alert_id: str) -> Alert:
        alert = alerts.get_alert(alert_id)
        if alert is None:
            raise Problem(404, f"There is no alert {alert_id!r}; go back and reload.")
        return alert

    @router.get(PATH)
    def show_alerts(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        query, complaint = AlertQuery(state=AlertState.OPEN, sort=AlertSort.SEVERITY), ""
        try:
            query = AlertQuery.model_validate({"state": AlertState.OPEN, "sort": AlertSort.SEVERITY, **asked})
            found, next_cursor = read_alerts(query, alerts, clock())
        except (ValidationError, CursorError) as error:
            complaint, found, next_cursor = word_refusal(error, AlertQuery), (), None
        selection = query.list_asked(clock()) | {"state": None}
        counts = alerts.count_alerts(**selection)
        totals = {state: sum(count for (one, _), count in counts.items() if one is state) for state in AlertState}
        narrowed = [name for name in query.list_filters() if name != "state"]
        # Without a state the page shows open alerts, and the API all.
        shown = {} if complaint else {"state": str(query.state or ""), "sort": query.sort.value, **asked}
        values = {
            "query": query,
            "asked": asked,
            "alerts": found,
            "complaint": complaint,
            "controls": sorted(
                (one for one in build_controls(query, PATH, asked) if one.name != "state"),
                key=lambda one: one.name != "severity",
            ),
            "tabs": [
                (
                    f"{state.value.capitalize()} {totals[state]:,}",
                    link_to(PATH, asked, state=state),
                    state is query.state,
                )
                for state in AlertState
            ],
            "sorts": tuple(AlertSort),
            "tools": build_tools(services.views, "alerts", shown, 0),
            "total": totals[query.state] if query.state is not None else None,
            "next_link": link_to(PATH, asked, cursor=next_cursor) if next_cursor else "",
            "first_link": link_to(PATH, asked) if query.cursor else "",
            "clear_link": link_to(PATH, asked, **dict.fromkeys(narrowed, "")),
            "is_filtered": any(asked.get(name) for name in narrowed),
        }
        return site.render(request, "alerts/list.html", values, status=422 if complaint else 200)

    def show(request: Request, alert: Alert, complaint: str = "") -> Response:
        read = services.evidence.read(alert, limit=LIMIT_MAX)
        found = view_evidence(alert.id, read, lambda: services.schemas.read(alert.endpoint_id))
        explanation = found.explanation
        values = {
            "alert": alert,
            "found": found,
            "explanation": explanation,
            "drawn": draw_series(explanation.series) if explanation is not None else None,
            "complaint": complaint,
            "has_verdicts": services.detection is not None,
            "expiries": EXPIRIES,
            "reason_max": NOTE_CHARACTERS_MAX,
            **(_write_query(found.request) if found.request is not None else {"query": "", "command": ""}),
        }
        values["back"] = own_path(request.query_params["next"]) if "next" in request.query_params else ""
        return site.render(request, "alerts/alert.html", values, status=422 if complaint else 200)

    @router.get(PATH + "/{alert_id}")
    def show_alert(request: Request, alert_id: str) -> Response:
        return show(request, find(alert_id))

    def silence(alert_id: str, expiry: str, reason: str) -> object:
        if expiry == EXPECTED:
            return alerts.mark_expected(alert_id, by=name_actor(), reason=reason)
        return alerts.mute(alert_id, by=name_actor(), until=clock() + _read_seconds(expiry), reason=reason)

    def give_verdict(alert_id: str, form: dict[str, str], note: str) -> object:
        given = form.get("verdict", "")
        if given not in tuple(Verdict):
            raise Problem(422, f"There is no verdict {given[:80]!r}; use confirmed or false_alarm.")
        return alerts.give_verdict(alert_id, by=name_actor(), verdict=Verdict(given), note=note)

    actions: dict[str, Callable[[str, dict[str, str], str], object]] = {
        "acknowledge": lambda alert_id, form, reason: alerts.acknowledge(alert_id, by=name_actor()),
        "unsilence": lambda alert_id, form, reason: alerts.unsilence(alert_id, by=name_actor()),
    }
    if services.detection is not None:
        actions["verdict"] = give_verdict

    @router.post(PATH + "/{alert_id}/{action}")
    async def act_on_alert(request: Request, alert_id: str, action: str) -> Response:
        if action not in actions and action not in _SILENCING:
            raise Problem(404, f"There is no action {action!r}; use one of {', '.join((*actions, *_SILENCING))}.")
        form = await read_form(request)
        alert = await run_in_threadpool(find, alert_id)
        own = f"{PATH}/{quote(alert_id, safe='')}"
        back = own_path(form.get("next", own))
        reason = (form.get("reason") or form.get("note", ""))[:NOTE_CHARACTERS_MAX].strip()
        if action in actions:
            await run_in_threadpool(actions[action], alert_id, form, reason)
            return RedirectResponse(back, status_code=303)
        expiry = _SILENCING[action] or form.get("expiry", "")
        seconds = 0 if expiry == EXPECTED else _read_seconds(expiry)
        if alert.severity in _ASKED_FIRST and form.get("confirmed") != "yes":
            asked = {"alert": alert, "action": action, "back": back, "seconds": seconds, "reason": reason}
            return site.render(request, "alerts/silence.html", {**asked, "reason_max": NOTE_CHARACTERS_MAX})
        await run_in_threadpool(silence, alert_id, expiry, reason)
        # What was silenced leaves the list that it was in: its own page says so, with the way back.
        return RedirectResponse(f"{own}?{urlencode({'next': back})}", status_code=303)


def draw_series(series: AlertSeriesModel) -> Chart:
    """What was observed, beside what was expected and the limit as far as they are known."""
    points = series.points
    known = (
        ("observed", Look.OBSERVED, [point.observed for point in points]),
        ("expected", Look.EXPECTED, [point.expected for point in points]),
        ("limit", Look.THRESHOLD, [point.limit for point in points]),
    )
    lines = [
        Series(name=name, values=values, look=look)
        for name, look, values in known
        if look is Look.OBSERVED or any(value is not None for value in values)
    ]
    start = int(points[0].start.timestamp()) if points else 0
    words: dict[str, Callable[[float], str]] = {CALLS_A_SECOND: _word_rate, FAILED_SHARE: word_percent}
    word = words.get(series.unit, word_milliseconds)
    return draw("Observed and expected", lines, start=start, step=series.step_seconds, unit=series.unit, word=word)


def _word_rate(rate: float) -> str:
    """In one unit along an axis."""
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def _write_query(request: EvidenceRequestModel) -> dict[str, Any]:
    """The question that gives the same rows: as an address of the API and as a command."""
    options = " ".join(
        f"--{name.replace('_', '-')}" if value == "true" else f"--{name.replace('_', '-')} {shlex.quote(value)}"
        for name, value in request.parameters.items()
    )
    return {"query": f"{request.path}?{urlencode(request.parameters)}", "command": f"apidae get calls {options}"}


def _read_seconds(text: str) -> int:
    """Raises Problem."""
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    if not 60 <= seconds <= MUTE_SECONDS_MAX:
        raise Problem(422, f"An alert is silenced for 60 to {MUTE_SECONDS_MAX} s, not {text[:20]!r}.")
    return seconds


PAGE = Page(
    add_routes=add_routes,
    path=PATH,
    title="Alerts",
    group="Security",
    key="a",
    count=lambda services: sum(services.alerts.count_open().values()),
)

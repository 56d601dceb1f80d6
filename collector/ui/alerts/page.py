"""The pages of alerts: the list by state, one alert with the rows behind it, and their buttons.

To silence an alert of high severity needs a confirmation. Every silence shows who made it, why, until when, and how to
undo it.
"""

from collections.abc import Callable
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from collector.alerting.alert import Alert, AlertState, Severity
from collector.api.alerts import read_alerts
from collector.api.calls import view_evidence
from collector.api.lists import AlertQuery
from collector.api.parameters import NOTE_CHARACTERS_MAX, name_actor
from collector.api.problem import Problem, describe_validation
from collector.inventory.filters import LIMIT_MAX
from collector.ui.components.rendering import own_path, read_form
from collector.ui.site import Page, Site

MUTE_SECONDS = 24 * 3_600  # What the page's button does; the API takes any expiry.
PATH = "/alerts"
_ASKED_FIRST = frozenset({Severity.HIGH})
_SILENCING = frozenset({"mute", "expected"})


def add_routes(router: APIRouter, site: Site) -> None:
    """Routes of the pages and of their buttons."""
    alerts, evidence, clock = site.services.alerts, site.services.evidence, site.services.clock

    def find(alert_id: str) -> Alert:
        alert = alerts.get_alert(alert_id)
        if alert is None:
            raise Problem(404, f"There is no alert {alert_id!r}; go back and reload.")
        return alert

    @router.get(PATH)
    def show_alerts(request: Request) -> Response:
        try:
            asked = AlertQuery.model_validate({"state": AlertState.OPEN, **request.query_params})
        except ValidationError as error:
            located = [{**detail, "loc": ("query", *detail["loc"])} for detail in error.errors()]
            raise Problem(422, describe_validation(located, list(AlertQuery.model_fields))) from None
        found, next_cursor = read_alerts(asked, alerts)
        here = f"{PATH}?{urlencode(dict(request.query_params))}" if request.query_params else PATH
        next_link = f"{PATH}?{urlencode({**request.query_params, 'cursor': next_cursor})}" if next_cursor else ""
        shown = {"alerts": found, "state": asked.state, "states": tuple(AlertState), "here": here}
        return site.render(request, "alerts/list.html", {**shown, "next_link": next_link})

    @router.get(PATH + "/{alert_id}")
    def show_alert(request: Request, alert_id: str) -> Response:
        alert = find(alert_id)
        found = view_evidence(alert_id, evidence.read(alert, limit=LIMIT_MAX))
        asked = f"{found.request.path}?{urlencode(found.request.parameters)}" if found.request is not None else ""
        shown = {"alert": alert, "found": found, "rows": found.items, "asked": asked}
        shown["back"] = own_path(request.query_params["next"]) if "next" in request.query_params else ""
        return site.render(request, "alerts/alert.html", shown)

    actions: dict[str, Callable[[str, str], object]] = {
        "acknowledge": lambda alert_id, reason: alerts.acknowledge(alert_id, by=name_actor()),
        "mute": lambda alert_id, reason: alerts.mute(
            alert_id, by=name_actor(), until=clock() + MUTE_SECONDS, reason=reason
        ),
        "expected": lambda alert_id, reason: alerts.mark_expected(alert_id, by=name_actor(), reason=reason),
        "unsilence": lambda alert_id, reason: alerts.unsilence(alert_id, by=name_actor()),
    }

    @router.post(PATH + "/{alert_id}/{action}")
    async def act_on_alert(request: Request, alert_id: str, action: str) -> Response:
        if action not in actions:
            raise Problem(404, f"There is no action {action!r}; use one of {', '.join(actions)}.")
        form = await read_form(request)
        alert, back = await run_in_threadpool(find, alert_id), own_path(form.get("next", "/"))
        is_silencing = action in _SILENCING
        if is_silencing and alert.severity in _ASKED_FIRST and form.get("confirmed") != "yes":
            shown = {"alert": alert, "action": action, "back": back, "reason_max": NOTE_CHARACTERS_MAX}
            return site.render(request, "alerts/silence.html", shown)
        await run_in_threadpool(actions[action], alert_id, form.get("reason", "")[:NOTE_CHARACTERS_MAX].strip())
        # What was silenced leaves the list that it was in: its own page says so, with the way back.
        silenced_at = f"{PATH}/{quote(alert_id, safe='')}?{urlencode({'next': back})}"
        return RedirectResponse(silenced_at if is_silencing else back, status_code=303)


PAGE = Page(add_routes=add_routes, path=PATH, title="Alerts", group="Security", key="a")

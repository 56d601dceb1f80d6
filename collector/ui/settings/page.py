"""The settings in force with their sources, notifiers and their tests, who may enter, and what is stored. No secret is
shown."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from collector.alerting.notifiers.delivery import MEANINGS, try_notifier
from collector.alerting.repository import measure_alerts
from collector.api.authenticator import SESSION_SECONDS
from collector.api.parameters import name_actor
from collector.api.problem import Problem
from collector.storage.disk import list_stored
from collector.ui.site import Page, Site

PATH = "/settings"


def add_routes(router: APIRouter, site: Site) -> None:
    """Routes of the page and of its buttons."""
    services = site.services
    notifiers, clock = services.notifiers, services.clock

    def show(request: Request, tried: dict[str, str]) -> Response:
        """The page; `tried`: what became of the test of a notifier, by its name."""
        stored = list_stored(services.store, services.settings.retention, clock())
        stored.append(measure_alerts(services.state, services.settings.retention.alert_days, clock()))
        values = {
            "settings": services.configuration,
            "stored": stored,
            "notifiers": notifiers,
            "tried": tried,
            "has_approval": services.approval_token is not None,
            "session_hours": SESSION_SECONDS // 3_600,
        }
        return site.render(request, "settings/settings.html", values)

    @router.get(PATH)
    def show_settings(request: Request) -> Response:
        return show(request, {})

    @router.post(PATH + "/notifiers/{name}/test")
    async def test_notifier(request: Request, name: str) -> Response:
        outcome = await run_in_threadpool(lambda: try_notifier(notifiers, name, by=name_actor(), now=clock()))
        if outcome is None:
            raise Problem(404, f"There is no notifier {name!r}; go back and reload.")
        return await run_in_threadpool(lambda: show(request, {name: MEANINGS[outcome]}))


PAGE = Page(add_routes=add_routes, path=PATH, title="Settings", group="Installation", key="t")

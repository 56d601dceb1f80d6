"""The settings in force with their sources, notifiers and their tests, who may enter, and what is stored. No secret is
shown."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from collector.alerting.notifiers.delivery import MEANINGS, try_notifier
from collector.alerting.repository import measure_alerts
from collector.api.authenticator import SESSION_SECONDS
from collector.api.parameters import name_actor
from collector.api.problem import Problem
from collector.core.errors import ConflictError
from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.traffic.metered import ENDPOINTS_MAX
from collector.storage.disk import list_stored
from collector.ui.components.rendering import read_form
from collector.ui.components.tables import word_refusal
from collector.ui.settings.users import PATH, add_user_routes, list_users
from collector.ui.site import Page, Site


def add_routes(router: APIRouter, site: Site) -> None:
    """Routes of the page and of its buttons."""
    services = site.services
    notifiers, clock = services.notifiers, services.clock

    metered = services.metered

    def show(request: Request, status: int = 200, **changed: Any) -> Response:
        """The page; `changed` has values of it that are not as ever, such as a form that was refused."""
        kept, now = services.settings.retention, clock()
        stored = list_stored(services.store, kept, now)
        stored.append(measure_alerts(services.state, kept.alert_days, now))
        stored.append(services.audit.measure(kept.audit_days, now))
        values = {
            "settings": services.configuration,
            "stored": stored,
            "notifiers": notifiers,
            "tried": {},
            "has_approval": services.approval_token is not None,
            "session_hours": SESSION_SECONDS // 3_600,
            **list_users(services),
            "metered": metered.resolve().items,
            "metered_max": ENDPOINTS_MAX,
            "rule": metered.read().query,
            "complaint": "",
            **changed,
        }
        return site.render(request, "settings/settings.html", values, status=status)

    @router.get(PATH)
    def show_settings(request: Request) -> Response:
        return show(request)

    def change_metered(request: Request, form: Mapping[str, str]) -> Response:
        add, remove = ([form[name].strip()] if form.get(name) else [] for name in ("add", "remove"))
        try:
            metered.change(add=add, remove=remove, query=form.get("query"), by=name_actor())
        except ValidationError as error:
            return show(request, 422, complaint=word_refusal(error, EndpointQuery))
        except (ValueError, ConflictError) as error:
            complaint = f"{str(error)[:1].upper()}{str(error)[1:]}".rstrip(".") + "."
            return show(request, 422, complaint=complaint)
        return RedirectResponse(PATH, status_code=303)

    @router.post(PATH + "/metrics")
    async def change_metrics(request: Request) -> Response:
        return await run_in_threadpool(change_metered, request, await read_form(request))

    @router.post(PATH + "/notifiers/{name}/test")
    async def test_notifier(request: Request, name: str) -> Response:
        outcome = await run_in_threadpool(
            lambda: try_notifier(notifiers, name, by=name_actor(), now=clock(), audit=services.audit)
        )
        if outcome is None:
            raise Problem(404, f"There is no notifier {name!r}; go back and reload.")
        return await run_in_threadpool(lambda: show(request, tried={name: MEANINGS[outcome]}))

    add_user_routes(router, services, show)


PAGE = Page(add_routes=add_routes, path=PATH, title="Settings", group="Installation", key="t")

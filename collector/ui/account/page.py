"""Your account: who you are here, what you may do and see, and your pages that are signed in, to end one or all."""

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from collector.api.problem import Problem
from collector.api.users import EndSessionsBody, close_session, close_sessions, find_own
from collector.trust.principal import Role
from collector.ui.components.forms import FormError, read_body
from collector.ui.components.rendering import own_path, read_form
from collector.ui.site import Page, Site

PATH: Final = "/me"
MEANINGS: Final = {
    Role.VIEWER: "read",
    Role.ANALYST: "read, and decide on alerts and findings",
    Role.RESPONDER: "read, decide on alerts and findings, and block clients",
    Role.ADMIN: "read, decide, block, and say who may do what",
}


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    sessions = site.services.authenticator.sessions

    @router.get(PATH)
    def show_account(request: Request) -> Response:
        own = find_own()
        values = {"own": own, "may_do": MEANINGS[own.role], "sessions": sessions.list_open(own.actor)}
        return site.render(request, "account/account.html", values)

    def end(form: dict[str, str]) -> Response:
        destination = own_path(form.get("next", PATH))
        if session_id := form.get("id", ""):
            close_session(sessions, session_id)
            return RedirectResponse(destination, status_code=303)
        try:
            close_sessions(sessions, read_body(EndSessionsBody, {"actor": form.get("actor", "")}))
        except FormError as error:
            raise Problem(422, str(error)) from None
        return RedirectResponse(destination, status_code=303)

    @router.post("/sessions/end")
    async def end_sessions(request: Request) -> Response:
        """One by its id, all of somebody, or all of your own."""
        return await run_in_threadpool(end, await read_form(request))


PAGE = Page(add_routes=add_routes, path=PATH)

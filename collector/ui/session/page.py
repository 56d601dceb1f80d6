"""Sign in, sign out, and the choice of theme."""

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from collector.api.authenticator import COOKIE_NAME, SESSION_SECONDS, SlowedError, name_address
from collector.ui.components.rendering import own_path, read_form
from collector.ui.site import THEME_COOKIE, THEMES, Page, Site

THEME_SECONDS = 365 * 86_400


def set_session(request: Request, response: Response, session: str) -> None:
    """The cookie of a session: no script reads it, and no other site's page sends it."""
    response.set_cookie(
        COOKIE_NAME,
        session,
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    authenticator = site.services.authenticator

    @router.get("/login")
    def show_login(request: Request) -> Response:
        values = {"complaint": "", "next": own_path(request.query_params.get("next", "/"))}
        return site.render(request, "session/login.html", values)

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        form = await read_form(request)
        destination = own_path(form.get("next", "/"))
        if authenticator.is_open:
            return RedirectResponse(destination, status_code=303)
        sentence, status = (
            "This is not a valid API token. The collector keeps the first one in the file api.token.",
            401,
        )
        try:
            session = await asyncio.to_thread(
                authenticator.sign_in, form.get("token", "").strip(), name_address(request)
            )
        except SlowedError as error:
            session, sentence, status = None, str(error), 429
        if session is None:
            values = {"complaint": sentence, "next": destination}
            return site.render(request, "session/login.html", values, status=status)
        response = RedirectResponse(destination, status_code=303)
        set_session(request, response, session)
        return response

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        await asyncio.to_thread(authenticator.sign_out, request)
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(COOKIE_NAME, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return response

    @router.post("/theme")
    async def choose_theme(request: Request) -> Response:
        form = await read_form(request)
        theme = form.get("theme", "auto")
        response = RedirectResponse(own_path(form.get("next", "/")), status_code=303)
        response.set_cookie(
            THEME_COOKIE, theme if theme in THEMES else "auto", max_age=THEME_SECONDS, samesite="strict"
        )
        return response


PAGE = Page(add_routes=add_routes)

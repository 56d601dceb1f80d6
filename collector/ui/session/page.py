"""Sign in, sign out, and the choice of theme."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from collector.api.access import has_tls
from collector.api.authenticator import COOKIE_NAME, SESSION_SECONDS, SlowedError, name_address
from collector.trust.oidc import TICKET_SECONDS, LoginError, OidcLogin
from collector.ui.components.rendering import own_path, read_form
from collector.ui.site import THEME_COOKIE, THEMES, Page, Site

THEME_SECONDS = 365 * 86_400
TICKET_COOKIE = "apidae_login"


def set_session(response: Response, session: str, *, is_secure: bool) -> None:
    """The cookie of a session: no script reads it, and no other site's page sends it."""
    response.set_cookie(
        COOKIE_NAME, session, max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=is_secure
    )


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    authenticator, login = site.services.authenticator, site.services.login
    public_url = site.services.settings.public_url

    def show(request: Request, destination: str, complaint: str = "", status: int = 200) -> Response:
        values = {"complaint": complaint, "next": destination, "has_login": login is not None}
        return site.render(request, "session/login.html", values, status=status)

    @router.get("/login")
    def show_login(request: Request) -> Response:
        return show(request, own_path(request.query_params.get("next", "/")))

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
            return show(request, destination, sentence, status)
        response = RedirectResponse(destination, status_code=303)
        set_session(response, session, is_secure=has_tls(request.url.scheme, public_url))
        return response

    if login is not None:
        _add_login(router, site, login, show)

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        await asyncio.to_thread(authenticator.sign_out, request)
        response = RedirectResponse("/login", status_code=303)
        is_secure = has_tls(request.url.scheme, public_url)
        response.delete_cookie(COOKIE_NAME, httponly=True, samesite="strict", secure=is_secure)
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


def _add_login(router: APIRouter, site: Site, login: OidcLogin, show: Callable[..., Response]) -> None:
    """The way to the provider and back."""
    authenticator, bindings = site.services.authenticator, site.services.bindings
    public_url = site.services.settings.public_url

    @router.get("/login/oidc")
    async def begin_login(request: Request) -> Response:
        destination = own_path(request.query_params.get("next", "/"))
        try:
            address, ticket = await login.begin(destination)
        except LoginError as error:
            return show(request, destination, str(error), 502)
        response = RedirectResponse(address, status_code=303)
        # The way back is a navigation from another site, with which a browser sends no strict cookie.
        response.set_cookie(
            TICKET_COOKIE,
            ticket,
            max_age=TICKET_SECONDS,
            path="/login",
            httponly=True,
            samesite="lax",
            secure=has_tls(request.url.scheme, public_url),
        )
        return response

    @router.get("/login/callback")
    async def end_login(request: Request) -> Response:
        # What fails here is not counted: any page can send a browser here, and the ticket and the provider decide.
        address = name_address(request)
        try:
            person = await login.end(dict(request.query_params), request.cookies.get(TICKET_COOKIE, ""))
        except LoginError as error:
            return show(request, "/", str(error), 403)
        try:
            session = await asyncio.to_thread(
                authenticator.begin_session,
                lambda connection: bindings.find_principal(connection, person.name, person.groups),
                person.name,
                person.groups,
                address,
            )
        except SlowedError as error:
            return show(request, "/", str(error), 429)
        if session is None:
            sentence = f"{person.name} has no role here, nor has one of its groups; ask an admin for a role binding."
            return show(request, "/", sentence, 403)
        # A redirect would still belong to the provider's navigation, and come without the session.
        response = site.render(request, "session/entered.html", {"next": own_path(person.destination)})
        response.delete_cookie(TICKET_COOKIE, path="/login", httponly=True, samesite="lax")
        set_session(response, session, is_secure=has_tls(request.url.scheme, public_url))
        return response


PAGE = Page(add_routes=add_routes)

"""Who may enter: named tokens, the first token, role bindings and sessions, for an admin who sees everything.

The forms take what the bodies of the API take (collector/api/users.py). A new token is shown once, in the answer to the
form that made it: nothing of it is in an address or a cookie, and no cache keeps the page.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from collector.api.parameters import name_actor
from collector.api.services import Services
from collector.api.users import TOKEN_DAYS, BindingBody, BindingName, TokenBody, make_token
from collector.core.errors import ConflictError
from collector.trust.bindings import BindingKind
from collector.trust.principal import Role, find_principal
from collector.ui.components.forms import FormError, SentForm, read_body, read_number, split_words
from collector.ui.components.rendering import read_form

PATH: Final = "/settings"
PLACE: Final = f"{PATH}#people-title"
EMPTY: Final = SentForm()
ROLES: Final = tuple((role.value, role.value) for role in Role)
KINDS: Final = ((BindingKind.GROUP.value, "group"), (BindingKind.USER.value, "user"))


class ShowPage(Protocol):
    """Shows the page with a status and more values: forms that were sent, or a new token."""

    def __call__(self, request: Request, status: int = 200, **changed: Any) -> Response: ...


def list_users(services: Services) -> dict[str, object]:
    """Who may enter, as the template needs it."""
    principal = find_principal()
    is_admin = principal is not None and principal.role.covers(Role.ADMIN) and principal.scope.is_all
    known = services.authenticator
    return {
        "is_admin": is_admin,
        "is_first_open": known.tokens.is_first_open,
        "has_login": services.login is not None,
        "tokens": known.tokens.list_all() if is_admin else (),
        "bindings": services.bindings.list_all() if is_admin else (),
        "sessions": known.sessions.list_open() if is_admin else (),
        "roles": ROLES,
        "binding_kinds": KINDS,
        "token_days": TOKEN_DAYS,
        "token_form": EMPTY,
        "binding_form": EMPTY,
        "first_fault": "",
        "new_token": "",
        "new_name": "",
    }


def add_user_routes(router: APIRouter, services: Services, show: ShowPage) -> None:
    """Routes of the forms. Each ends at the page, or shows it again with what was wrong beside the field."""
    tokens, bindings = services.authenticator.tokens, services.bindings

    def back() -> Response:
        return RedirectResponse(PLACE, status_code=303)

    def create(request: Request, form: Mapping[str, str]) -> Response:
        given = {"name": form.get("name", "").strip(), "days": read_number(form.get("days", "").strip())}
        try:
            body = read_body(TokenBody, {**given, **_read_scope(form)})
            made, secret = make_token(tokens, body, services.clock())
        except FormError as error:
            return show(request, 422, token_form=SentForm(values=form, faults=error.faults))
        except ConflictError as error:
            return show(request, 409, token_form=SentForm(values=form, faults={"name": str(error)}))
        return show(request, 201, new_token=secret, new_name=made.name)

    def revoke(request: Request, form: Mapping[str, str]) -> Response:
        tokens.revoke(form.get("name", ""), by=name_actor())  # Where it is gone already, the page shows it.
        return back()

    def switch_first(request: Request, form: Mapping[str, str]) -> Response:
        try:
            tokens.switch_first(form.get("is_on") == "yes", by=name_actor(), has_login=services.login is not None)
        except ConflictError as error:
            return show(request, 409, first_fault=str(error))
        return back()

    def bind(request: Request, form: Mapping[str, str]) -> Response:
        given = {"kind": form.get("kind", ""), "name": form.get("name", "").strip()}
        try:
            body = read_body(BindingBody, {**given, **_read_scope(form)})
            bindings.put(body.kind, body.name, role=body.role, scope=body.scope, by=body.by)
        except FormError as error:
            return show(request, 422, binding_form=SentForm(values=form, faults=error.faults))
        except ConflictError as error:
            return show(request, 409, binding_form=SentForm(values=form, faults={"name": str(error)}))
        return back()

    def unbind(request: Request, form: Mapping[str, str]) -> Response:
        try:
            body = read_body(BindingName, {"kind": form.get("kind", ""), "name": form.get("name", "")})
        except FormError as error:
            return show(request, 422, binding_form=SentForm(faults=error.faults))
        bindings.remove(body.kind, body.name, by=body.by)
        return back()

    for path, work in {
        "/tokens": create,
        "/tokens/revoke": revoke,
        "/first-token": switch_first,
        "/role-bindings": bind,
        "/role-bindings/remove": unbind,
    }.items():
        router.post(PATH + path)(_take_form(work))


def _take_form(work: Callable[[Request, Mapping[str, str]], Response]) -> Callable[..., Any]:
    async def take(request: Request) -> Response:
        return await run_in_threadpool(work, request, await read_form(request))

    return take


def _read_scope(form: Mapping[str, str]) -> dict[str, object]:
    """The fields of a role and where it holds."""
    lists = {name: split_words(form.get(name, "")) for name in ("clusters", "namespaces")}
    return {"role": form.get("role", ""), **lists}

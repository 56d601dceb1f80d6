"""Requests of any principal, and all routes of an application."""

from fastapi import FastAPI

from collector.api.services import Services
from collector.trust.principal import Principal, Role, Scope, Way


def become(services: Services, role: Role, scope: Scope) -> None:
    """Have every request be of such a principal from here on."""
    principal = Principal(actor="somebody", role=role, scope=scope, way=Way.TOKEN)
    services.authenticator.identify = lambda request: principal  # type: ignore[method-assign]


def list_routes(app: FastAPI) -> list[tuple[str, str, str]]:
    """Method, whole path, and path as in the table of permissions, of every route."""
    found = {
        (method, context.path_format, context.original_route.path_format)
        for router in app.routes
        for context in router.effective_route_contexts()  # type: ignore[attr-defined]
        for method in context.methods
    }
    return sorted(found)

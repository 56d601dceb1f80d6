"""Who may call which route: the least role of each, and whether it is of the whole installation.

`PERMISSIONS` is the one table. A route that is not in it is for an administrator who sees everything, and fails a test.
The application calls `check_permission` before each route; pages ask `is_permitted` for what they show.

A path is that of the route without the prefix of the API, so a page and the route of the API of one path have one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from starlette.routing import BaseRoute, compile_path

from collector.api.problem import Problem
from collector.trust.principal import Principal, Role, find_principal

EXPORTS: Final = "/exports/"


@dataclass(frozen=True, slots=True)
class Permission:
    """What a route needs. `is_whole`: a principal that sees everything, for what it reads or changes is not of one
    namespace."""

    role: Role
    is_whole: bool = False


_VIEWER: Final = Permission(Role.VIEWER)
_VIEWER_OF_ALL: Final = Permission(Role.VIEWER, is_whole=True)
_ANALYST: Final = Permission(Role.ANALYST)
_ANALYST_OF_ALL: Final = Permission(Role.ANALYST, is_whole=True)
_RESPONDER: Final = Permission(Role.RESPONDER)
_RESPONDER_OF_ALL: Final = Permission(Role.RESPONDER, is_whole=True)
_ADMIN: Final = Permission(Role.ADMIN, is_whole=True)

# Answered without a principal: health, the sign-in, and the files of pages.
PUBLIC: Final = frozenset(
    {
        *("GET /healthz", "GET /readyz"),
        *("GET /login", "POST /login", "GET /login/oidc", "GET /login/callback", "POST /logout", "POST /theme"),
        *("GET /static/htmx.js", "GET /static/{name}"),
    }
)


def _list(permission: Permission, routes: str) -> dict[str, Permission]:
    return dict.fromkeys((line.strip(" `") for line in routes.splitlines() if line.strip()), permission)


# A question by POST keeps nothing of what it is asked about. Of sessions a route gives everybody their own.
PERMISSIONS: Final[Mapping[str, Permission]] = {
    **_list(_VIEWER, """
        GET /
        GET /alerts
        GET /alerts/summary
        GET /alerts/{alert_id}
        GET /alerts/{alert_id}/evidence
        GET /blocks
        GET /blocks/{block_id}
        GET /calls
        GET /changes
        GET /components
        GET /consumers
        GET /consumers/identify
        POST /consumers/identify
        GET /consumers/{consumer_id}
        GET /coverage
        GET /coverage/history
        GET /coverage/ports
        GET /coverage/targets
        GET /docs
        GET /docs/{name}
        GET /endpoints
        GET /endpoints/{endpoint_id}
        GET /endpoints/{endpoint_id}/exposure
        GET /endpoints/{endpoint_id}/risk
        GET /endpoints/{endpoint_id}/schema
        GET /endpoints/{endpoint_id}/spec
        GET /events
        GET /exposure
        GET /findings
        GET /findings/groups
        GET /findings/{finding_id}
        GET /findings/{rule}
        GET /incidents
        GET /incidents/{incident_id}
        GET /inventory/diff
        `GET /inventory/tombstones`
        GET /map
        GET /mcp
        GET /mcp/servers
        GET /mcp/servers/{server_id}
        GET /mcp/tools
        GET /mcp/{server_id}
        GET /me
        GET /models
        GET /models/prices
        GET /sessions
        POST /sessions/end
        DELETE /sessions/{session_id}
        GET /openapi.json
        GET /response
        GET /response/evidence/{alert_id}
        GET /services
        GET /services/{name}
        GET /services/{service}
        GET /services/{service}/openapi.json
        GET /services/{service}/postman.json
        GET /specs
        GET /specs/{name}
        GET /specs/{name}/report
        GET /timeseries
        GET /views
    """),
    **_list(_VIEWER_OF_ALL, """
        GET /blocks/audit
        GET /blocks/exports/{kind}
        GET /consumers/labels
        GET /detection
        GET /detection/decisions
        GET /detection/known-good
        GET /detection/sensitivity
        GET /ladder
        GET /metrics
        GET /metrics/endpoints
        GET /sensors
        GET /sensors/{node}
        POST /specs/compare
        GET /template-edits
    """),
    **_list(_ANALYST, """
        POST /alerts/{alert_id}/acknowledge
        POST /alerts/{alert_id}/expected
        POST /alerts/{alert_id}/mute
        POST /alerts/{alert_id}/unsilence
        POST /alerts/{alert_id}/verdict
        POST /alerts/{alert_id}/{action}
        POST /findings/decisions
        POST /findings/decisions/{decision_id}/undo
        POST /findings/{finding_id}/state
        POST /findings/{finding_id}/{state}
        POST /findings/{rule}
    """),
    **_list(_ANALYST_OF_ALL, """
        POST /consumers/labels
        POST /detection/known-good
        POST /detection/known-good/{rule_id}/end
        POST /endpoints/{endpoint_id}/keep-host
        POST /endpoints/{endpoint_id}/pin
        POST /endpoints/{endpoint_id}/rename
        POST /endpoints/{endpoint_id}/split
        POST /endpoints/{endpoint_id}/{action}
        POST /specs
        POST /specs-removed
        DELETE /specs/{name}
        POST /template-edits/merge
        POST /template-edits/{edit_id}/undo
        POST /views
        DELETE /views/{view_id}
        POST /views/{view_id}/delete
    """),
    **_list(_RESPONDER, """
        POST /blocks
        POST /blocks/preview
        POST /blocks/{block_id}/approve
        POST /blocks/{block_id}/lift
        POST /blocks/{block_id}/reject
        GET /response/preview
        POST /response/approve
        POST /response/block
        POST /response/lift
        POST /response/reject
    """),
    **_list(_RESPONDER_OF_ALL, """
        POST /blocks/lift
        POST /detection/sensitivity
        PUT /ladder/{kind}
        POST /response/ladder
        POST /response/lift-all
    """),
    **_list(_ADMIN, """
        POST /coverage/targets
        GET /role-bindings
        PUT /role-bindings
        POST /role-bindings/remove
        GET /audit
        GET /audit/check
        PUT /first-token
        GET /tokens
        POST /tokens
        DELETE /tokens/{name}
        GET /backup
        GET /config
        POST /erasures
        POST /models/prices
        POST /metrics/endpoints
        GET /notifiers
        POST /notifiers/{name}/test
        GET /settings
        POST /settings/first-token
        POST /settings/metrics
        POST /settings/notifiers/{name}/test
        POST /settings/role-bindings
        POST /settings/role-bindings/remove
        POST /settings/tokens
        POST /settings/tokens/revoke
    """),
}  # fmt: skip


def find_permission(method: str, path: str) -> Permission | None:
    """What a route needs, by its path as in the table; None of a public one. A file needs what its list needs."""
    if path.startswith(EXPORTS):
        path = "/" + path.removeprefix(EXPORTS).rpartition(".")[0]
    name = f"{method} {path}"
    return None if name in PUBLIC else PERMISSIONS.get(name, _ADMIN)


def explain_refusal(principal: Principal, permission: Permission) -> str:
    """Why a principal may not call what needs this, in one sentence; empty where it may."""
    if not principal.role.covers(permission.role):
        return (
            f"{principal.actor} has the role {principal.role}, and this needs the role {permission.role}; "
            "ask an administrator for it."
        )
    if permission.is_whole and not principal.scope.is_all:
        return (
            f"{principal.actor} sees only {principal.scope.word()}, and this is of the whole installation; "
            "ask somebody who sees all of it."
        )
    return ""


async def check_permission(request: Request) -> None:
    """Called before each route. Raises Problem."""
    permission = find_permission(request.method, _name_path(request.scope["route"]))
    principal = find_principal()
    if permission is None:
        return
    refusal = explain_refusal(principal, permission) if principal is not None else "This needs a principal; sign in."
    if refusal:
        raise Problem(403, refusal)


def _name_path(route: BaseRoute) -> str:
    return str(getattr(route, "path_format", ""))


_PATTERNS: Final = [
    (name.partition(" ")[0], compile_path(name.partition(" ")[2])[0], permission)
    for name, permission in sorted(PERMISSIONS.items(), key=lambda one: "{" in one[0])
]


def is_permitted(method: str, path: str) -> bool:
    """Whether the current principal may call this path, as a page links it. Nobody may: a page of an error is answered
    before anybody was asked who it is."""
    principal = find_principal()
    if principal is None:
        return False
    if principal.role is Role.ADMIN and principal.scope.is_all:
        return True
    place = urlsplit(path).path
    for one, pattern, permission in _PATTERNS:
        if one == method and pattern.match(place):
            return not explain_refusal(principal, permission)
    return True

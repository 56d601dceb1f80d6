"""Every route has a permission, and each role is refused what the table says: over a store without a row.

tests/collector/api/test_scope.py asks all parts of the collector, with data.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from collector.api.permissions import EXPORTS, PERMISSIONS, PUBLIC, find_permission
from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.trust.principal import Role, Scope
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.api.principals import become, list_routes
from tests.collector.http_serving import TOKEN, EmptyReader
from tests.collector.states import create_state

BOUND = Scope(namespaces=("shop",))
# Streams without an end, and what looks itself whose session it is.
PASSED = frozenset({"GET /events", "GET /backup", "DELETE /sessions/{session_id}"})


@pytest.fixture(scope="module")
def services() -> Services:
    return Services(
        store=EmptyReader(),  # type: ignore[arg-type]
        state=create_state(),
        alerts=MemoryAlerts(),
        settings=ApiSettings(token=TOKEN, version="0.1.0", htmx_path=Path("/nonexistent")),
        clock=lambda: 1_800_000_000.0,
        readiness=lambda: "",
        metrics=lambda _: (b"", "text/plain"),
    )


@pytest.fixture(scope="module")
def app(services: Services) -> FastAPI:
    return build_app(services)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app, headers=headers, follow_redirects=False) as opened:
        yield opened


def test_every_route_has_a_permission(app: FastAPI) -> None:
    named = {f"{method} {short}" for method, _, short in list_routes(app)}
    plain = {name for name in named if not name.startswith(f"GET {EXPORTS}")}
    missing = sorted(plain - PERMISSIONS.keys() - PUBLIC)
    assert missing == [], f"without a permission: {', '.join(missing)}"
    assert sorted(PERMISSIONS.keys() & PUBLIC) == []
    exported = {name.removeprefix("GET " + EXPORTS).rpartition(".")[0] for name in named - plain}
    assert exported and all(f"GET /{one}" in PERMISSIONS or one in ("findings",) for one in exported)


@pytest.mark.parametrize("scope", [Scope(), BOUND], ids=["all", "bound"])
@pytest.mark.parametrize("role", Role)
def test_each_role_is_refused_what_the_table_says(
    services: Services, app: FastAPI, client: TestClient, role: Role, scope: Scope
) -> None:
    become(services, role, scope)
    wrong = []
    for method, path, short in list_routes(app):
        permission = find_permission(method, short)
        if permission is None or f"{method} {short}" in PASSED or (method == "GET" and permission.role is Role.VIEWER):
            continue
        answer = client.request(method, re.sub(r"\{[^}]*\}", "nothing", path), json={} if method != "GET" else None)
        is_refused = not role.covers(permission.role) or (permission.is_whole and not scope.is_all)
        if (answer.status_code == 403) != is_refused:
            wrong.append((method, path, answer.status_code, answer.text[:200]))
    assert wrong == []


def test_a_refusal_names_the_role_and_the_need(services: Services, client: TestClient) -> None:
    become(services, Role.VIEWER, Scope())
    refused = client.post("/api/v1/notifiers/nothing/test")
    assert refused.status_code == 403
    assert refused.json()["detail"] == (
        "somebody has the role viewer, and this needs the role admin; ask an administrator for it."
    )
    become(services, Role.ADMIN, BOUND)
    assert client.post("/api/v1/notifiers/nothing/test").json()["detail"] == (
        "somebody sees only the namespace shop, and this is of the whole installation; ask somebody who sees all of it."
    )

"""Whoever is bound to a namespace sees nothing else: every route of the application is asked, so a new one is, too."""

import re
from collections.abc import Iterator
from html import escape
from urllib.parse import quote, unquote, unquote_plus

import pytest
from fastapi import FastAPI

from collector.api.permissions import PUBLIC, find_permission
from collector.trust.principal import Role, Scope
from tests.collector.api.canaries import BOTH, CLUSTER, MINE, OTHER, PLACES, Installation, open_installation
from tests.collector.api.client import TestClient
from tests.collector.api.principals import become, list_routes

pytestmark = [pytest.mark.store, pytest.mark.full("collector.api", "collector.ui", "collector.storage")]

OWN, FOREIGN = PLACES
EVERYTHING = Scope()
BOUND = Scope(namespaces=(OWN.namespace,))
SCOPES = (Scope(namespaces=(f"{CLUSTER}/{OWN.namespace}",)), Scope(clusters=(CLUSTER,), namespaces=(OWN.namespace,)))
# Streams without an end.
ENDLESS = frozenset({"GET /events", "GET /backup"})
_PARAMETER = re.compile(r"\{([a-z_]+)[^}]*\}")


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with open_installation(tmp_path_factory.mktemp("scope")) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(installation: Installation) -> Iterator[TestClient]:
    headers = {"authorization": f"Bearer {installation.services.settings.token}", "accept": "text/html, */*"}
    with TestClient(installation.app, headers=headers, follow_redirects=False) as opened:
        yield opened


def fill(path: str, names: dict[str, str]) -> str:
    """A path with its parameters, quoted as a client does."""
    own = {**names, "name": names["spec"]} if path.startswith(("/specs", "/api/v1/specs")) else names
    return _PARAMETER.sub(lambda match: quote(own.get(match[1], "nothing"), safe=""), path)


def list_reads(app: FastAPI, names: dict[str, str]) -> list[tuple[str, str]]:
    """Names and addresses of what can be asked, each route once with what it names."""
    reads = []
    for method, path, short in list_routes(app):
        if method == "GET" and f"GET {short}" not in PUBLIC | ENDLESS:
            start = "?start=2020-01-01T00:00:00Z&end=2100-01-01T00:00:00Z" if short.endswith("/calls") else ""
            reads.append((short, fill(path, names) + start))
    return reads


def ask_about(app: FastAPI, names: dict[str, str]) -> list[str]:
    """The lists of the API, narrowed to what is of another namespace, by each filter that there is for it."""
    asked = {
        "q": OTHER,
        "namespace": FOREIGN.namespace,
        "service": FOREIGN.service,
        "endpoint": FOREIGN.endpoint_id,
        "host": f"h-{OTHER}.example",
        "consumer": FOREIGN.consumer,
        "label": f"app=l-{OTHER}",
    }
    document = app.openapi()["paths"]
    return [
        f"{path}?{one['name']}={quote(asked[one['name']], safe='')}"
        for path, methods in document.items()
        if "{" not in path and "/exports/" not in path and not path.endswith("/calls")
        for one in methods.get("get", {}).get("parameters", ())
        if one["name"] in asked
    ]


def strip_asked(text: str, address: str) -> str:
    """An answer without what the question said itself, in the forms in which a page repeats it."""
    path, _, query = address.partition("?")
    said = {part for part in (*path.split("/"), *query.replace("&", "=").split("="), address, path, query) if part}
    forms = {form for part in said for form in (part, unquote(part), unquote_plus(part))}
    forms |= {other for form in forms for other in (quote(form), quote(form, safe=""), repr(form)[1:-1])}
    forms |= {escape(form) for form in forms}
    for form in sorted(forms, key=len, reverse=True):
        if OTHER in form:
            text = text.replace(form, "")
    return text


def find_leaks(client: TestClient, addresses: list[str]) -> list[str]:
    """Answers with a name of the other namespace in body or headers."""
    leaks = []
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code < 500, (address, answer.text[:300])
        whole = strip_asked(f"{answer.headers}\n{answer.text}", address)
        if OTHER in whole:
            place = whole.index(OTHER)
            leaks.append(f"{address}: {answer.status_code} ...{whole[max(0, place - 160) : place + 60]}...")
    return leaks


def test_whoever_sees_everything_sees_both_namespaces(installation: Installation, client: TestClient) -> None:
    """Else the tests below could not fail."""
    become(installation.services, Role.ADMIN, EVERYTHING)
    names = installation.name(OWN)
    seen = {short for short, address in list_reads(installation.app, names) if OTHER in client.get(address).text}
    asked = {
        *(
            "/",
            "/endpoints",
            "/services",
            "/consumers",
            "/alerts",
            "/incidents",
            "/findings/{rule}",
            "/map",
            "/exposure",
            "/mcp",
            "/mcp/servers",
            "/models",
        ),
        *(
            "/specs",
            "/coverage",
            "/coverage/ports",
            "/inventory/tombstones",
            "/changes",
            "/views",
            "/blocks",
            "/response",
        ),
        *(
            "/consumers/labels",
            "/exports/endpoints.csv",
            "/exports/alerts.json",
            "/exports/findings.csv",
            "/exports/models.csv",
        ),
    }
    assert sorted(asked - seen) == []
    alerts = client.get("/api/v1/alerts?kind=mcp_tool_shadowed").json()["items"]
    assert [one["namespace"] for one in alerts] == [OWN.namespace]


def test_whoever_is_bound_to_a_namespace_finds_no_name_of_another(
    installation: Installation, client: TestClient
) -> None:
    become(installation.services, Role.ADMIN, EVERYTHING)
    own, foreign = installation.name(OWN), installation.name(FOREIGN)
    become(installation.services, Role.VIEWER, BOUND)
    addresses = {address for names in (own, foreign) for _, address in list_reads(installation.app, names)}
    assert not find_leaks(client, sorted({*addresses, *ask_about(installation.app, foreign)}))
    assert MINE in client.get("/api/v1/endpoints").text


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: "+".join((*scope.clusters, *scope.namespaces)))
def test_a_namespace_may_be_of_one_cluster(installation: Installation, client: TestClient, scope: Scope) -> None:
    become(installation.services, Role.VIEWER, scope)
    lists = [f"/api/v1/{one}" for one in ("endpoints", "services", "alerts", "findings", "coverage/ports", "exposure")]
    assert not find_leaks(client, lists)
    assert [one for one in lists if MINE not in client.get(one).text] == []


def test_what_is_of_another_namespace_does_not_exist(installation: Installation, client: TestClient) -> None:
    become(installation.services, Role.ADMIN, EVERYTHING)
    own, foreign = installation.name(OWN), installation.name(FOREIGN)
    become(installation.services, Role.VIEWER, BOUND)
    objects = [
        (short, path)
        for method, path, short in list_routes(installation.app)
        if method == "GET"
        and "{" in path
        and f"GET {short}" not in PUBLIC
        and not short.startswith("/response/")
        and not find_permission("GET", short).is_whole  # type: ignore[union-attr]
        and short not in ("/findings/{rule}", "/docs/{name}")
    ]
    assert len(objects) == 23
    wrong = [
        (short, client.get(fill(path, own)).status_code, client.get(fill(path, foreign)).status_code)
        for short, path in objects
    ]
    assert [one for one in wrong if one[1] != 200 or one[2] != 404] == []


def test_totals_are_those_of_the_scope(installation: Installation, client: TestClient) -> None:
    def read() -> dict[str, object]:
        return {
            "endpoints": client.get("/api/v1/endpoints").json()["total"],
            "services": client.get("/api/v1/services").json()["total"],
            "consumers": {one["id"]: one["calls"] for one in client.get("/api/v1/consumers").json()["items"]},
            "findings": client.get("/api/v1/findings").json()["total"],
            "ports": client.get("/api/v1/coverage/ports").json()["total"],
            "alerts": len(client.get("/api/v1/alerts").json()["items"]),
        }

    become(installation.services, Role.VIEWER, EVERYTHING)
    whole = read()
    parts = []
    for place in PLACES:
        become(installation.services, Role.VIEWER, Scope(namespaces=(place.namespace,)))
        parts.append(read())
    for name in ("endpoints", "services", "findings"):
        assert whole[name] == sum(part[name] for part in parts), name  # type: ignore[misc]
    assert [part["ports"] for part in parts] == [1, 1]
    both = f"address:{BOTH}"
    assert whole["consumers"][both] == sum(part["consumers"][both] for part in parts)  # type: ignore[index]
    assert parts[0]["alerts"] == parts[1]["alerts"] != whole["alerts"]

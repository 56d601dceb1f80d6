"""Hosts that differ by a tenant's name are one, others are not; a person can keep them apart, and that undone."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from collector.core.rows import Route, Segment, Service
from collector.inventory.templates.catalogue import Catalogue
from collector.inventory.templates.editor import TemplateEditor
from collector.inventory.templates.mapping import EditError, TenantHosts, find_tenants
from collector.inventory.templates.table import TemplateTable
from collector.receiver.reports import RevealBook
from collector.schemas.evidence import HOST_PLACE, read_parameters
from collector.storage.arrow import build_routes
from collector.storage.embedded import EmbeddedStore
from tests.collector.states import create_state

NOW = int(time.time())
SERVICE = Service(cluster="", namespace="", workload="web", workload_kind=1, host_name="h", port=80)
TENANTS = ("acme", "blue-sky", "contoso", "delta9", "ever", "foxtrot")
PATHS = (("orders",), ("orders", ""), ("users", "me"))


def make(host: str, *texts: str, service: Service = SERVICE, method: str = "GET") -> Route:
    segments = tuple(Segment(1, text, 0, 0) if text else Segment(3, "", 0, 0) for text in texts)
    route_id = abs(hash((host, texts, method, service.workload))) % 2**60 + 1
    return Route(
        route_id=route_id, service=service, host=host, method=method, segments=segments, has_trailing_slash=False
    )


def serve(*hosts: str, service: Service = SERVICE) -> list[Route]:
    return [make(host, *path, service=service) for host in hosts for path in PATHS]


def find(routes: list[Route]) -> dict[str, str]:
    return {host: pattern for (_, host), pattern in find_tenants(routes, set()).items()}


def test_tenants_with_one_api_are_one_host_in_any_order() -> None:
    hosts = [f"{name}.example.com" for name in TENANTS]
    routes = serve(*hosts)
    expected = dict.fromkeys(hosts, "{tenant}.example.com")
    for seed in range(5):
        random.Random(seed).shuffle(routes)
        assert find(routes) == expected
    assert find(serve(*(f"{host}:8443" for host in hosts))) == {
        f"{host}:8443": "{tenant}.example.com:8443" for host in hosts
    }


@pytest.mark.parametrize(
    "hosts",
    [
        # Too few; roles and environments; two labels; addresses; nothing before the suffix.
        ("acme.example.com", "blue.example.com", "contoso.example.com"),
        ("www.example.com", "api.example.com", "admin.example.com", "eu-west-1.example.com", "api2.example.com"),
        ("acme.com", "blue.com", "contoso.com", "delta.com", "ever.com"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"),
        ("one", "two", "three", "four", "five", ""),
    ],
)
def test_what_is_no_tenant(hosts: tuple[str, ...]) -> None:
    assert find(serve(*hosts)) == {}


def test_a_host_with_an_api_of_its_own_stays_itself() -> None:
    routes = serve(*(f"{name}.example.com" for name in TENANTS))
    routes += [make("insights.example.com", *path) for path in (("reports",), ("reports", ""), ("orders",))]
    found = find(routes)
    assert "insights.example.com" not in found
    assert len(found) == len(TENANTS)
    # Different APIs under one domain are no tenants, however many.
    apart = [make(f"{name}.example.com", name, path) for name in TENANTS for path in ("a", "b")]
    assert find(apart) == {}


def test_one_endpoint_in_common_is_weak_evidence() -> None:
    few = [make(f"{name}.example.com", "orders") for name in TENANTS]
    assert find(few) == {}
    many = [make(f"{name}{number}.example.com", "orders") for name in TENANTS for number in (1, 2)]
    assert len(find(many)) == 12
    # What any service has is none at all.
    assert find([make(route.host, path) for route in many for path in ("health", "metrics", "robots.txt")]) == {}


def test_services_are_looked_at_apart() -> None:
    other = replace(SERVICE, workload="other")
    hosts = [f"{name}.example.com" for name in TENANTS]
    assert find(serve(*hosts[:3]) + serve(*hosts[3:], service=other)) == {}


def test_what_people_keep_apart() -> None:
    hosts = [f"{name}.example.com" for name in TENANTS]
    names = TenantHosts({}, {(SERVICE, hosts[0])})
    names.learn(serve(*hosts))
    assert names.rename(make(hosts[0], "orders")).host == hosts[0]
    assert names.list_hosts(SERVICE, "{tenant}.example.com") == tuple(hosts[1:])
    names.keep({(SERVICE, "{tenant}.example.com")})
    names.learn(serve(*hosts))
    assert names.rename(make(hosts[1], "orders")).host == hosts[1]


class Installation:
    """A catalogue over a store, which can be started anew; every route is served."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.state = create_state()
        self.start()

    def start(self) -> None:
        table = TemplateTable(self.state, self.store)
        self.catalogue = Catalogue(self.store, table, RevealBook())
        self.editor = TemplateEditor(store=self.store, table=table, names=self.catalogue, clock=time.time)

    def add(self, routes: list[Route]) -> None:
        self.store.insert_arrow("routes", build_routes([(route, NOW) for route in routes]))
        values = ", ".join(f"(1, {route.route_id}, toDateTime({NOW}), 10, 10)" for route in routes)
        self.store.execute(f"INSERT INTO routes_day (role, route_id, time, calls, success_calls) VALUES {values}")
        self.catalogue.map_routes(routes)

    def hosts(self) -> set[str]:
        return {row[0] for row in self.store.query("SELECT DISTINCT host FROM endpoint_routes FINAL")}

    def endpoints(self) -> int:
        return int(self.store.query("SELECT uniqExact(endpoint_id) FROM endpoint_routes FINAL")[0][0])


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    store = EmbeddedStore(tmp_path)
    yield Installation(store)
    store.close()


@pytest.mark.store
def test_in_the_catalogue(installation: Installation) -> None:
    hosts = [f"{name}.example.com" for name in TENANTS]
    installation.add(serve(*hosts, "www.example.com"))
    assert installation.endpoints() == 7 * len(PATHS)
    former = installation.catalogue.list_endpoints()[make(hosts[0], "orders").route_id]
    installation.catalogue.group(is_all=True)
    assert installation.hosts() == {"{tenant}.example.com", "www.example.com"}
    assert installation.endpoints() == 2 * len(PATHS)
    assert installation.catalogue.group(is_all=True) == 0
    # Links stay good; a restart and a look at some routes only change nothing.
    assert installation.store.query("SELECT count() FROM endpoint_aliases FINAL WHERE endpoint_id = {id:String}", {
        "id": former
    }) == [(1,)]  # fmt: skip
    installation.start()
    assert installation.catalogue.group() == 0
    installation.add([make(hosts[1], "invoices")])
    installation.catalogue.group()
    assert installation.hosts() == {"{tenant}.example.com", "www.example.com"}
    # A tenant that comes later joins with the next look at all.
    installation.add(serve("golf.example.com"))
    installation.catalogue.group(is_all=True)
    assert installation.hosts() == {"{tenant}.example.com", "www.example.com"}
    name = installation.catalogue.list_endpoints()[make(hosts[0], "orders").route_id]
    evidence = read_parameters(installation.store, name, "/orders", "{tenant}.example.com")[0]
    assert (evidence.place, evidence.name, evidence.distinct_words) == (HOST_PLACE, "tenant", 7)
    assert "7 hosts of this service that end in example.com" in evidence.why


@pytest.mark.store
def test_a_person_keeps_hosts_apart_and_undoes_it(installation: Installation) -> None:
    hosts = [f"{name}.example.com" for name in TENANTS]
    installation.add(serve(*hosts))
    installation.catalogue.group(is_all=True)
    route_id = make(hosts[0], "orders").route_id

    def name() -> str:
        return installation.catalogue.list_endpoints()[route_id]

    merged = name()
    one = installation.editor.keep_host(merged, host=hosts[5], by="ada")
    assert installation.hosts() == {"{tenant}.example.com", hosts[5]}
    every = installation.editor.keep_host(merged, host="", by="ada")
    assert installation.hosts() == set(hosts)
    installation.start()
    installation.catalogue.group(is_all=True)
    assert installation.hosts() == set(hosts)
    with pytest.raises(EditError, match="stands for one host only"):
        installation.editor.keep_host(name(), host="", by="ada")
    for edit in (every, one):
        installation.editor.undo(edit.id, by="bob")
    assert installation.hosts() == {"{tenant}.example.com"}
    assert name() == merged
    with pytest.raises(EditError, match="is none of those"):
        installation.editor.keep_host(merged, host="nowhere.example.com", by="ada")


@pytest.mark.store
def test_edits_of_a_host_hold(installation: Installation) -> None:
    hosts = [f"{name}.example.com" for name in TENANTS]
    installation.add(serve(*hosts))
    name = installation.catalogue.list_endpoints()[make(hosts[0], "orders", "").route_id]
    installation.editor.rename(name, place=1, name="number", by="ada")
    installation.catalogue.group(is_all=True)
    # Its templates were edited under its own name, so it keeps that.
    assert installation.hosts() == {"{tenant}.example.com", hosts[0]}
    templates = installation.store.query("SELECT url_template FROM endpoint_routes FINAL WHERE host = {host:String}", {
        "host": hosts[0]
    })  # fmt: skip
    assert "/orders/{number}" in {row[0] for row in templates}
    every = installation.catalogue.list_endpoints()[make(hosts[1], "orders", "").route_id]
    installation.editor.rename(every, place=1, name="order", by="ada")
    installation.catalogue.group(is_all=True)
    assert installation.hosts() == {"{tenant}.example.com", hosts[0]}

"""Findings on calls to models: states of sensors in the store, a look of the assessor, then the findings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apidae.v1 import data_pb2

from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.risk.assessment import RiskAssessor
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.inventory.models.model_calls import (
    DIAGNOSIS,
    EMAIL,
    JWT,
    NAME,
    OUTSIDE_ADDRESS,
    REQUEST,
    RESPONSE,
    make_use,
    report_uses,
)
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store

PATH = "/v1/chat/completions"
SENT, OPEN, KEY = (
    "sensitive_data_to_model_provider",
    "model_endpoint_without_authentication",
    "model_provider_key_in_url",
)
BEARER = 1 << 3
ID = "ep0001"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def find(store: EmbeddedStore, sqlite_state: StateStore) -> Any:
    """The findings on models of the endpoint, by rule."""

    def assess() -> dict[str, Any]:
        assessor = RiskAssessor(
            store=store,
            state=sqlite_state,
            endpoints=EndpointInventory(reader=store, who=ConsumerSql()),
            clock=lambda: NOW,
            alarm=lambda reports: None,
        )
        assessor.look()
        found = assessor.table.read_findings([ID]).get(ID, [])
        return {one.rule: one for one in found if one.rule in (SENT, OPEN, KEY)}

    return assess


def call_provider(
    store: EmbeddedStore, *uses: Any, address: str = OUTSIDE_ADDRESS, host: str = "api.openai.com"
) -> None:
    """A server that no sensor watches, called by workloads."""
    seed = Seed()
    endpoint = seed.endpoint(1, "POST", PATH, host=host, workload=address, workload_kind=0, port=443)
    seed.calls(endpoint, 50, role=2, client_address="", client_workload="shop/agent", authentication=BEARER)
    seed.write(store)
    store.insert_records("schemas", report_uses(1, *uses))


def serve_model(store: EmbeddedStore, calls: int = 10, *, is_model: bool = True, **columns: Any) -> None:
    """A watched server."""
    seed = Seed()
    endpoint = seed.endpoint(1, "POST", PATH, host="models.ml", workload="models", namespace="ml", port=8000)
    seed.calls(endpoint, calls, **columns)
    seed.write(store)
    own = {"role": data_pb2.ROLE_SERVER, "client_workload": "", "client_address": "10.0.0.9", "provider": "vllm"}
    if is_model:
        store.insert_records("schemas", report_uses(1, make_use("acme", calls, data={REQUEST + JWT: calls}, **own)))


def test_secrets_in_prompts_to_a_provider_are_grave(store: EmbeddedStore, find: Any) -> None:
    call_provider(store, make_use("gpt-4o", 40, data={REQUEST + JWT: 4}), make_use("gpt-4o", 9, client_workload="a/b"))
    (found,) = find().values()
    assert (found.rule, found.severity, found.owasp) == (SENT, "high", "LLM02:2025")
    assert found.why == "Prompts of 1 caller to api.openai.com contain jwt; 40 of some 40 calls were read."
    assert found.signs == ("jwt",)


def test_personal_data_counts_where_it_names_a_person(store: EmbeddedStore, find: Any) -> None:
    call_provider(store, make_use("gpt-4o", 40, data={REQUEST + EMAIL: 9, REQUEST + NAME: 8}))
    (found,) = find().values()
    assert (found.rule, found.severity, found.signs) == (SENT, "medium", ("email", "person_name"))


def test_a_caller_that_asks_rarely_is_not_hidden_by_one_that_asks_often(store: EmbeddedStore, find: Any) -> None:
    rare = make_use("gpt-4o", 10, client_workload="hr/agent", data={REQUEST + NAME: 9, REQUEST + DIAGNOSIS: 9})
    call_provider(store, make_use("gpt-4o", 100_000), rare)
    (found,) = find().values()
    assert (found.severity, found.signs) == ("high", ("diagnosis", "person_name"))


def test_one_prompt_that_stands_for_many_is_one(store: EmbeddedStore, find: Any) -> None:
    few = {"samples": 1, "requests_read": 5_000}
    call_provider(store, make_use("gpt-4o", 5_000, data={REQUEST + JWT: 5_000}, **few))
    (found,) = find().values()
    assert found.why == "Prompts of 1 caller to api.openai.com contain jwt; 1 of some 5,000 calls were read."


@pytest.mark.parametrize(("samples", "is_found"), [(2, False), (3, True)])
def test_personal_data_by_chance_is_no_finding(
    store: EmbeddedStore, find: Any, samples: int, *, is_found: bool
) -> None:
    few = {"samples": samples, "requests_read": 5_000}
    call_provider(store, make_use("gpt-4o", 5_000, data={REQUEST + NAME: 5_000, REQUEST + EMAIL: 5_000}, **few))
    assert (find().keys() == {SENT}) == is_found


@pytest.mark.parametrize(
    "data",
    [
        {REQUEST + EMAIL: 40},  # A phone or an address alone may be a shop's.
        {REQUEST + JWT: 1},  # A chance hit.
        {RESPONSE + JWT: 40},  # Of the provider's own.
    ],
)
def test_what_names_nobody_or_was_not_sent_is_no_finding(store: EmbeddedStore, find: Any, data: dict[int, int]) -> None:
    call_provider(store, make_use("gpt-4o", 40, data=data))
    assert find() == {}


def test_a_model_of_ones_own_may_read_it(store: EmbeddedStore, find: Any) -> None:
    call_provider(store, make_use("acme", 40, data={REQUEST + JWT: 40}), address="10.1.0.8", host="models.lan")
    assert find() == {}


def test_a_provider_behind_a_proxy_is_outside(store: EmbeddedStore, find: Any) -> None:
    call_provider(store, make_use("gpt-4o", 40, data={REQUEST + JWT: 40}), address="10.1.0.8")
    assert find().keys() == {SENT}


def test_a_key_in_the_url_is_found(store: EmbeddedStore, find: Any) -> None:
    call_provider(store, make_use("gemini-2.5-pro", 40, url_keys=3), host="generativelanguage.googleapis.com")
    (found,) = find().values()
    assert (found.rule, found.severity, found.owasp) == (KEY, "medium", "API2:2023")
    assert "3 calls" in found.why


@pytest.mark.parametrize(("address", "severity"), [("10.0.0.9", "medium"), ("8.8.8.8", "high")])
def test_a_model_server_without_credentials_is_found(
    store: EmbeddedStore, find: Any, address: str, severity: str
) -> None:
    serve_model(store, client_address=address)
    (found,) = find().values()
    assert (found.rule, found.severity, found.owasp) == (OPEN, severity, "LLM10:2025")


@pytest.mark.parametrize(
    "columns", [{"authentication": BEARER}, {"calls": 2}, {"status_code": 401}, {"is_model": False}], ids=str
)
def test_a_server_that_is_sound_or_not_of_models_is_no_finding(
    store: EmbeddedStore, find: Any, columns: dict[str, Any]
) -> None:
    serve_model(store, **columns)
    assert find() == {}


def test_a_call_with_the_providers_host_to_a_watched_server_hides_nothing(store: EmbeddedStore, find: Any) -> None:
    seed = Seed()
    mine = seed.endpoint(7, "GET", "/x", host="api.openai.com", workload="mine", namespace="team-b", port=8080)
    seed.calls(mine, 1)
    seed.write(store)
    call_provider(store, make_use("gpt-4o", 40, data={REQUEST + JWT: 40}))
    (found,) = find().values()
    assert (found.rule, found.severity) == (SENT, "high")


def test_a_call_with_a_providers_host_to_a_server_of_ours_is_no_finding(store: EmbeddedStore, find: Any) -> None:
    seed = Seed()
    endpoint = seed.endpoint(1, "POST", PATH, host="api.openai.com", workload="mine", namespace="team-b", port=8080)
    seed.calls(endpoint, 10, authentication=BEARER)
    seed.write(store)
    own = {"role": data_pb2.ROLE_SERVER, "client_workload": "", "client_address": "10.0.0.9"}
    store.insert_records("schemas", report_uses(1, make_use("acme", 10, data={REQUEST + JWT: 10}, **own)))
    assert find() == {}

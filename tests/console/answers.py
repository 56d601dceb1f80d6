"""Seeds of docs/use/questions.md: what the collector of tests/console knows so that each question has an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from collector.api.services import Services
from collector.inventory.endpoints.bodies import HEAD_READ, PLACE_SIZE
from collector.inventory.query import Since, span_since
from collector.risk.finding import FindingState
from collector.risk.repository import RiskRecord
from tests.collector.inventory.seed import MINUTE, NOW, Seed

OUTSIDE: Final = "192.88.99.7"
PATIENT_READER: Final = "10.0.0.42"
DAY: Final = 86_400
TODAY: Final = int(NOW) // DAY * DAY
MINUTES_TO_YESTERDAY_NOON: Final = (int(NOW) - (TODAY - DAY // 2)) // MINUTE
NOTE: Final = "public by design"
FIRST_ROUTE: Final = 100
BEARER_JWT, HEADER_KEY, QUERY_KEY = 1 << 3, 1 << 5, 1 << 6
TOKEN: Final = "key-of-a-partner-0123456789"  # Sent as an API key.
NO_EXPIRY: Final = 1 << 21
RESPONSE, QUERY = 2 * PLACE_SIZE, 4 * PLACE_SIZE
EMAIL, PERSON, SSN, CARD, PASSWORD = 1, 3, 6, 10, 12
SPEC_NAME: Final = "shop"
SPEC: Final = """
openapi: 3.1.0
info: {title: shop, version: "1"}
servers: [{url: "http://catalog.example"}]
paths:
  /items/{item_id}: {get: {responses: {"200": {description: ok}}}}
  /items: {get: {responses: {"200": {description: ok}}}}
  /prices: {get: {deprecated: true, responses: {"200": {description: ok}}}}
  /unused: {get: {responses: {"200": {description: ok}}}}
"""


def count_data(*codes: int, calls: int = 40) -> dict[str, Any]:
    """Columns of rows whose bodies or heads were read and held these kinds."""
    return {"data": {"1": list(codes), "2": [calls] * len(codes)}, "response_bodies_read": calls}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEndpoint:
    """One endpoint with one row of calls."""

    method: str
    template: str
    workload: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    host: str = "shop.example"
    minutes_ago: int = 1
    calls: int = 40


ENDPOINTS: Final = (
    AnswerEndpoint(
        method="GET",
        template="/people/{person_id}",
        workload="directory",
        columns={**count_data(RESPONSE + PERSON, RESPONSE + EMAIL), "client_address": OUTSIDE},
    ),
    AnswerEndpoint(
        method="GET",
        template="/patients/{patient_id}",
        workload="clinic",
        columns={**count_data(RESPONSE + SSN, RESPONSE + PERSON), "client_address": PATIENT_READER},
        minutes_ago=MINUTES_TO_YESTERDAY_NOON,
    ),
    AnswerEndpoint(
        method="GET",
        template="/cards/{card_id}",
        workload="wallet",
        columns={**count_data(RESPONSE + CARD), "authentication": BEARER_JWT},
    ),
    AnswerEndpoint(
        method="GET",
        template="/setup",
        workload="wallet",
        columns={**count_data(RESPONSE + PASSWORD), "authentication": BEARER_JWT},
    ),
    AnswerEndpoint(method="GET", template="/find", workload="wallet", columns=count_data(QUERY + EMAIL, HEAD_READ)),
    AnswerEndpoint(method="PUT", template="/shelves/{shelf_id}", workload="stock"),
    AnswerEndpoint(method="GET", template="/offers", workload="stock", columns={"authentication": BEARER_JWT}),
    AnswerEndpoint(method="GET", template="/feed", workload="stock", columns={"authentication": QUERY_KEY}),
    AnswerEndpoint(
        method="GET", template="/sessions", workload="stock", columns={"authentication": BEARER_JWT | NO_EXPIRY}
    ),
    AnswerEndpoint(
        method="GET",
        template="/basket",
        workload="stock",
        columns={**count_data(HEAD_READ), "authentication": BEARER_JWT, "client_address": OUTSIDE},
    ),
    AnswerEndpoint(method="GET", template="/actuator/env", workload="stock", columns={"client_address": OUTSIDE}),
    AnswerEndpoint(method="GET", template="/ledger", workload="stock", columns={"client_address": OUTSIDE}),
    AnswerEndpoint(
        method="GET", template="/rates", workload="192.88.99.99", host="api.rates.example", columns={"role": 2}
    ),
    AnswerEndpoint(method="GET", template="/slow", workload="reports", columns={"duration": {"1": [190], "2": [40]}}),
    AnswerEndpoint(method="GET", template="/broken", workload="reports", columns={"status_code": 503}),
    AnswerEndpoint(method="GET", template="/keys/{key_id}", workload="wallet"),
    AnswerEndpoint(method="GET", template="/items/{item_id}", workload="catalog", host="catalog.example"),
    AnswerEndpoint(method="GET", template="/items", workload="catalog", host="catalog.example"),
    AnswerEndpoint(method="GET", template="/prices", workload="catalog", host="catalog.example"),
    AnswerEndpoint(method="GET", template="/hidden", workload="catalog", host="catalog.example"),
)


def name_token_owner(services: Services) -> str:
    """The consumer whose API key is TOKEN, as `kind:value`."""
    span = span_since(Since.DAY, NOW)
    return services.finder.identify(TOKEN, (), span).candidates[0].name.id


def seed_answers(seed: Seed, services: Services) -> None:
    """Adds the endpoints. /offers has calls with and without credentials, and /keys those of TOKEN's owner."""
    for number, one in enumerate(ENDPOINTS):
        endpoint = seed.endpoint(
            FIRST_ROUTE + number,
            one.method,
            one.template,
            workload=one.workload,
            namespace="" if one.columns.get("role") == 2 else "shop",
            host=one.host,
            first_seen=NOW - 600 if one.template == "/hidden" else NOW - 3 * DAY,
        )
        seed.calls(endpoint, one.calls, minutes_ago=one.minutes_ago, **one.columns)
        if one.template == "/keys/{key_id}":
            kind, _, value = name_token_owner(services).partition(":")
            assert kind == "principal"
            owner = {"principal": int(value, 16), "principal_kind": 1, "authentication": HEADER_KEY}
            seed.calls(endpoint, one.calls, minutes_ago=2, **owner)
        if one.template == "/offers":
            seed.calls(endpoint, one.calls, minutes_ago=2)


def find_id(template: str) -> str:
    """The id of a seeded endpoint."""
    numbers = [number for number, one in enumerate(ENDPOINTS) if one.template == template]
    return f"ep{FIRST_ROUTE + numbers[0]:04d}"


def decide_answers(services: Services, endpoint_ids: Sequence[str]) -> None:
    """What people did: a description in force, a finding accepted. What was before: /ledger was internal."""
    assert services.specs is not None and services.spec_table is not None and services.risks is not None
    services.spec_table.upload(name=SPEC_NAME, document=SPEC, service="", source="upload", by="test")
    services.specs.look()
    table, internal = services.risks.table, _was_internal(find_id("/ledger"))
    table.save([internal], [], [], [internal])
    services.risks.reassess(endpoint_ids)
    (accepted, *_) = table.read_findings([find_id("/setup")])[find_id("/setup")]
    services.risks.decide(accepted.id, FindingState.ACCEPTED, by="ada", note=NOTE)


def _was_internal(endpoint_id: str) -> RiskRecord:
    return RiskRecord(
        endpoint_id=endpoint_id,
        computed_at=NOW - 3_600,
        formula="",
        score=10,
        level="low",
        open_findings=0,
        exposure="internal",
        exposure_before="",
        exposure_since=NOW - 2 * DAY,
        authenticated_at=0.0,
        method="GET",
        host="shop.example",
        url_template="/ledger",
        service="shop/stock:8080",
        explanation="{}",
    )

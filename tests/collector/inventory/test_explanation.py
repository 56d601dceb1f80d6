"""Why an alert was raised, read from rows: whose objects were taken, what was expected, where an endpoint is served."""

from collections.abc import Iterator

import pytest

from collector.alerting.alert import NOWHERE, AlertKind
from collector.inventory.endpoints.places import Places
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.evidence.calls import CallInventory
from collector.inventory.evidence.evidence import EvidenceReader
from collector.inventory.evidence.explanation import POINTS_MAX, ExpectedFrom, Explanation, ExplanationReader
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.fakes import make_alert
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store

ROW = int(NOW) // 60 * 60
DAY_MINUTES = 24 * 60
THIEF, OWNER = 9, 8
EMAIL_OF_RESPONSE = 2 * 64 + 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders/{order_id}")
    seed.calls(orders, 1, minutes_ago=30, principal=THIEF, principal_kind=1, objects=[1], objects_count=1)
    seed.calls(orders, 2, minutes_ago=25, principal=OWNER, principal_kind=1, objects=[2, 3], objects_count=2)
    walk = {"object_numeric_calls": 120, "object_monotonic_steps": 118, "objects_count": 4}
    found = {"data": {"1": [EMAIL_OF_RESPONSE], "2": [3]}, "response_bodies_read": 4, "records_returned": 7}
    seed.calls(
        orders, 120, minutes_ago=5, principal=THIEF, principal_kind=1, objects=[1, 2, 3, 4], client_address="10.0.0.9",
        **walk, **found,
    )  # fmt: skip
    seed.calls(orders, 3, minutes_ago=5, principal=THIEF, principal_kind=1, status_code=404)
    seed.calls(orders, 60, minutes_ago=DAY_MINUTES + 5, principal=THIEF, principal_kind=1)
    seed.write(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def explanation(store: EmbeddedStore) -> Explanation:
    calls = CallInventory(reader=store, who=ConsumerSql())
    reader = EvidenceReader(calls=calls, explanations=ExplanationReader(reader=store, calls=calls), clock=lambda: NOW)
    alert = make_alert(
        "walk", kind=AlertKind.ENUMERATION, endpoint_id="ep0001", consumer=f"principal:{THIEF:016x}",
        window_start=ROW - 360.0, window_end=ROW - 299.0, opened_at=ROW - 290.0,
    )  # fmt: skip
    found = reader.read(alert, limit=500).explanation
    assert found is not None
    return found


def test_objects_differ_by_who_took_them_before(explanation: Explanation) -> None:
    objects = explanation.objects
    assert objects is not None
    assert (objects.objects, objects.named, objects.known_before, objects.of_others) == (4, 4, 1, 2)
    assert objects.is_in_order and not objects.is_estimate
    assert objects.describe() == (
        "4 different objects, in order: 118 of 120 calls went to the number next to the last one. Of 4 of them, the "
        "caller had taken 1 before, and others alone had taken 2."
    )


def test_without_a_detectors_value_the_day_before_is_expected(explanation: Explanation) -> None:
    series = explanation.series
    assert (series.unit, series.expected_from) == ("calls a second", ExpectedFrom.DAY_BEFORE)
    assert len(series.points) <= POINTS_MAX
    at = {point.start: point for point in series.points}
    point = at[(ROW - 300) // series.step_seconds * series.step_seconds]
    assert (point.calls, point.observed, point.limit) == (123, 123 / series.step_seconds, None)
    assert point.expected == 60 / series.step_seconds
    assert sum(point.calls for point in series.points) == 124


def test_answers_callers_and_data_are_those_of_the_window(explanation: Explanation) -> None:
    assert explanation.statuses == {"2xx": 120, "4xx": 3}
    assert explanation.addresses == {"10.0.0.9": 123}
    assert explanation.bodies is not None
    assert [(one.kind, one.side.value, one.calls) for one in explanation.bodies.data] == [("email", "response", 3)]


def test_places_are_found_by_endpoint_or_route_and_unknown_ones_are_nowhere(store: EmbeddedStore) -> None:
    places = Places(store)
    found = places.find("ep0001")
    assert found.service and found == places.find("", (1,)) == places.find("ep0001", (1,))
    assert places.find("nothing") == places.find("", ()) == NOWHERE

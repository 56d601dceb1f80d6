"""A GraphQL request that asks for far more than others is reported; what clients of a service usually send is not."""

import pytest

from collector.alerting.alert import AlertKind, Basis, Severity
from collector.alerting.wording import report_signal
from collector.inventory.endpoints.bodies import INTROSPECTION, PLACE_SIZE, QUERY_BATCH, QUERY_DEPTH, QUERY_REPEATS
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import START, Row

BEARER = 1 << 3
PEOPLE = 40
HISTORY = 6 * 3_600
DEVELOPER, ATTACKER = 98, 99
FEW = 2  # An endpoint that three call.


def step_of(number: int) -> int:
    """As a sensor sends it (sensor.describe.bodies.graphql)."""
    return number if number < 16 else max(n for n in range(16, 64) if round(16 * 2 ** ((n - 16) / 4)) <= number)


def ask(who: int, *, depth: int = 0, repeats: int = 0, batch: int = 0, schema: bool = False, route: int = 1) -> Row:
    numbers = ((QUERY_DEPTH, depth), (QUERY_REPEATS, repeats), (QUERY_BATCH, batch))
    found = [place * PLACE_SIZE + step_of(number) for place, number in numbers if number]
    return Row(
        route=route, consumer=who, authentication=BEARER, method="POST", address=f"81.1.{who % 250}.1",
        found=tuple(sorted([*found, *((INTROSPECTION,) if schema else ())])),
    )  # fmt: skip


class Scene(AbuseScene):
    """Forty people whose pages nest up to 13 levels and repeat a field up to 14 times, and three of another service."""

    later = START + HISTORY

    def pass_history(self) -> None:
        for second in range(0, HISTORY, 600):
            self.feed(START + second, people())


def people() -> list[Row]:
    return [ask(who, depth=10 + who % 4, repeats=who % 15 if who % 15 >= 10 else 0) for who in range(1, PEOPLE)] + [
        ask(who, route=FEW) for who in range(1, 4)
    ]


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.pass_history()
    return scene.save()


@pytest.fixture
def scene(history: bytes) -> Scene:
    return Scene(history)


@pytest.mark.parametrize(
    ("asked", "words", "severity"),
    [
        ({"depth": 60}, "54 levels of nested fields", Severity.MEDIUM),
        ({"repeats": 200}, "181 selections of one field", Severity.HIGH),
        ({"batch": 100}, "91 requests sent at once", Severity.HIGH),
    ],
)
def test_one_request_that_asks_for_far_more_is_reported(
    scene: Scene, asked: dict[str, int], words: str, severity: Severity
) -> None:
    (signal,) = scene.run([[ask(ATTACKER, **asked)]])
    assert signal.kind is AlertKind.QUERY_COST and signal.basis is Basis.PEERS and not signal.is_notice
    report = report_signal(signal)
    assert words in report.title and report.severity is severity and report.risk == "API4:2023"


def test_what_the_service_s_clients_send_is_not_reported(scene: Scene) -> None:
    assert scene.run([people() for _ in range(30)]) == []
    # A page that nests and repeats somewhat more than all others.
    assert scene.run([[ask(7, depth=17, repeats=25, batch=15)]]) == []


def test_a_service_whose_clients_send_much_has_a_higher_limit(scene: Scene) -> None:
    gateway = [[ask(who, batch=60) for who in (1, 2, 3)] for _ in range(3)]
    assert {signal.consumer[-4:] for signal in scene.run(gateway)} == {"0001", "0002", "0003"}
    later = Scene.later + 3_600
    assert scene.run([[ask(who, batch=60) for who in range(4, 30)]], start=later) == []
    assert scene.run([[ask(ATTACKER, batch=500)]], start=later + 60)


def test_a_caller_cannot_raise_its_own_limit(scene: Scene) -> None:
    slowly = [[ask(ATTACKER, depth=depth)] for depth in range(10, 60)]
    assert scene.run(slowly)


def test_what_attackers_send_is_no_limit_for_others(scene: Scene) -> None:
    assert scene.run([[ask(ATTACKER, depth=50_000)], [ask(ATTACKER + 1, depth=45)]])[-1].consumer.endswith("64")


def test_it_is_reported_again_when_it_is_far_worse_and_when_time_has_passed(scene: Scene) -> None:
    assert len(scene.run([[ask(ATTACKER, repeats=70)] for _ in range(5)])) == 1
    assert len(scene.run([[ask(ATTACKER, repeats=700)]], start=Scene.later + 60)) == 1
    assert len(scene.run([[ask(ATTACKER, repeats=70)]], start=Scene.later + 800)) == 1


def test_of_a_service_that_few_call_less_is_reported(scene: Scene) -> None:
    assert scene.run([[ask(1, route=FEW, depth=22, repeats=50, batch=35)]]) == []
    (signal,) = scene.run([[ask(2, route=FEW, depth=60)]], start=Scene.later + 60)
    assert signal.basis is Basis.PRIOR and signal.ceiling >= 24


def test_the_first_who_asks_for_the_schema_is_a_notice(scene: Scene) -> None:
    (signal,) = scene.run([[ask(DEVELOPER, schema=True)] for _ in range(20)])
    assert signal.kind is AlertKind.INTROSPECTION and signal.is_notice
    report = report_signal(signal)
    assert report.severity is Severity.LOW and "none of the 40 callers known here" in report.why


def test_where_many_ask_for_the_schema_or_few_call_nobody_is_named(scene: Scene) -> None:
    scene.run([[ask(1, schema=True)]])
    assert scene.run([[ask(DEVELOPER, schema=True)]], start=Scene.later + 600) == []
    assert scene.run([[ask(1, schema=True, route=FEW)]], start=Scene.later + 700) == []


def test_a_caller_that_a_person_expects_is_not_reported(scene: Scene) -> None:
    (first,) = scene.run([[ask(ATTACKER, depth=60)]])
    assert scene.engine.expect(AlertKind.QUERY_COST, first.endpoint_id, first.consumer, 0.0)
    scene.restart()
    assert scene.run([[ask(ATTACKER, depth=60)]], start=Scene.later + 1_200) == []
    assert scene.run([[ask(ATTACKER, depth=400)]], start=Scene.later + 2_400)

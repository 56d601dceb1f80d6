"""A service that calls the inner host which a request named is SSRF, unless calling such hosts is what it is for."""

import pytest

from collector.alerting.alert import AbuseSignal, AlertKind, Severity
from collector.alerting.wording import report_signal
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import START, Row

SQLI, SSRF = 1, 5  # proto AttackClass.
TRIED, INSIDE, METADATA = 0, 6 << 4, 7 << 4  # AttackEvidence, where it stands in a payload.


def name_hosts(
    who: int, *hosts: int, evidence: int = INSIDE, kind: int = SSRF, address: str = "", route: int = 1
) -> Row:
    payloads = tuple(sorted(host << 8 | evidence | kind for host in hosts))
    return Row(route=route, consumer=who, address=address or f"81.1.{who}.1", calls=len(hosts), payloads=payloads)


@pytest.fixture
def scene() -> AbuseScene:
    scene = AbuseScene()
    scene.later = START + 600
    return scene


def run(scene: AbuseScene, *rows: Row, start: int = 0) -> list[AbuseSignal]:
    return scene.run([[row] for row in rows], start=start)


@pytest.mark.parametrize("evidence", [INSIDE, METADATA])
def test_one_call_that_a_request_led_inside_is_high(scene: AbuseScene, evidence: int) -> None:
    (signal,) = run(scene, name_hosts(7, 1, evidence=evidence))
    assert signal.kind is AlertKind.SSRF and not signal.is_notice
    report = report_signal(signal)
    assert report.severity is Severity.HIGH and report.risk == "API7:2023"
    assert report.is_sure == (evidence == METADATA)
    assert report.title.endswith("has GET /things1/{things1_id} call hosts that it should not")
    assert report.why.startswith("1 different payloads")
    assert "One of them worked, it seems: the service then called the" in report.why


def test_payloads_alone_are_medium_and_of_that_kind_from_five_on(scene: AbuseScene) -> None:
    assert run(scene, *(name_hosts(7, n, evidence=TRIED) for n in range(1, 5))) == []
    (signal,) = run(scene, name_hosts(7, 5, evidence=TRIED), start=scene.later + 60)
    report = report_signal(signal)
    assert signal.kind is AlertKind.SSRF and report.severity is Severity.MEDIUM and report.risk == "API7:2023"


def test_mixed_payloads_are_injection(scene: AbuseScene) -> None:
    run(scene, *(name_hosts(7, n, evidence=TRIED, kind=SQLI) for n in range(1, 4)))
    (signal,) = run(scene, name_hosts(7, 4, 5, evidence=TRIED), start=scene.later + 60)
    assert signal.kind is AlertKind.INJECTION and report_signal(signal).risk == "A03:2021"


def test_a_caller_inside_who_names_hosts_inside_is_a_notice(scene: AbuseScene) -> None:
    signals = run(scene, *(name_hosts(7, n, address="10.3.3.3") for n in range(1, 20)))
    assert signals and all(signal.is_notice for signal in signals)
    assert {report_signal(signal).severity for signal in signals} == {Severity.LOW}
    # The address of credentials is nobody's business.
    (worse,) = run(scene, name_hosts(7, 77, evidence=METADATA, address="10.3.3.3"), start=scene.later + 200)
    assert not worse.is_notice
    (signal,) = run(scene, name_hosts(8, 1, evidence=METADATA, address="10.3.3.4"), start=scene.later + 900)
    assert not signal.is_notice


def test_a_part_of_a_call_that_was_counted_before_is_enough(scene: AbuseScene) -> None:
    row = name_hosts(7, 1)
    late = Row(**{name: getattr(row, name) for name in Row.__slots__} | {"calls": 0})
    (signal,) = run(scene, late)
    assert signal.calls >= 1 and not signal.is_notice

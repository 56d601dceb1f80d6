"""Words of alerts: figures that are estimates carry the sign for it, in title and explanation."""

import pytest

from collector.alerting.alert import AbuseSignal, AlertKind, Basis
from collector.alerting.wording import report_signal
from tests.collector.detection.abuse.test_contract import CASES, OUTSIDE, Scene
from tests.collector.detection.stream import Row


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.pass_history()
    return scene.save()


def make_signal(kind: AlertKind, *, is_estimate: bool) -> AbuseSignal:
    return AbuseSignal(
        kind=kind, endpoint_id="e", endpoint_label="GET /things", route_ids=(1,), calls=1_300, loss_ratio=0.0,
        consumer="address:10.0.0.9", time=1_700_000_000, seconds=600, count=1_234, ceiling=100, basis=Basis.PRIOR,
        is_notice=False, sources=(), is_estimate=is_estimate,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in AlertKind if "{count}" in kind.row.title])
def test_a_count_that_is_an_estimate_has_the_sign(kind: AlertKind) -> None:
    exact, estimated = (report_signal(make_signal(kind, is_estimate=one)) for one in (False, True))
    assert "≈" not in exact.title + exact.why
    assert "≈ 1,234" in estimated.title and estimated.why.startswith("≈ 1,234 ")


def test_what_came_at_once_is_counted_and_what_fades_is_an_estimate(history: bytes) -> None:
    at_once = Scene(history).run([[Row(route=9, method="POST", address=OUTSIDE, status=401, calls=80)]])
    assert [(one.count, one.is_estimate) for one in at_once] == [(80, False)]
    slowly = Scene(history).run(CASES["credential_stuffing"].steps)
    assert slowly and slowly[-1].is_estimate


def test_new_objects_are_never_more_than_the_calls(history: bytes) -> None:
    """More objects in a window than a row names: the sensor estimates how many."""
    scene = Scene(history)
    signals = scene.run([[Row(route=0, consumer=99, address=OUTSIDE, authentication=8, calls=60,
                              objects=tuple(range(n * 60, n * 60 + 60)))] for n in range(40)])  # fmt: skip
    found = [one for one in signals if one.kind is AlertKind.ENUMERATION]
    assert found and all(one.count <= 60 * 40 for one in found)

"""One-time codes that are guessed: with a session and without, whatever a wrong one is answered, by one and by many."""

import pytest

from collector.alerting.alert import AlertKind
from collector.alerting.wording import report_signal
from collector.detection.abuse.code_endpoints import asks_for_code, speaks_of_codes
from tests.collector.detection.abuse.test_contract import OUTSIDE, Scene
from tests.collector.detection.stream import CODES, Row

BEARER = 1 << 3


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.pass_history()
    return scene.save()


@pytest.fixture
def scene(history: bytes) -> Scene:
    return Scene(history)


def guess(address: str = OUTSIDE, status: int = 401, **fields: int) -> Row:
    return Row(**{"route": CODES, "method": "POST", "address": address, "status": status, "calls": 5, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [400, 401, 403, 422])
@pytest.mark.parametrize("session", [0, 77])
def test_codes_are_guessed_with_a_session_or_without(scene: Scene, status: int, session: int) -> None:
    row = guess(status=status, credential=session, consumer=session, authentication=BEARER * bool(session))
    signals = scene.run([row] for _ in range(6))
    assert {(signal.kind, signal.consumer) for signal in signals} == {(AlertKind.CODE_GUESSING, f"address:{OUTSIDE}")}
    assert "guessed" in report_signal(signals[0]).title and signals[0].count <= 30


def test_guesses_of_many_addresses_are_told_at_the_endpoint(scene: Scene) -> None:
    steps = [[guess(f"45.2.{n % 60}.1", calls=1, status=400) for n in range(k * 6, k * 6 + 6)] for k in range(60)]
    signals = [signal for signal in scene.run(steps) if not signal.consumer]
    assert {signal.kind for signal in signals} == {AlertKind.CODE_GUESSING}
    assert any(source.startswith("address:45.2.") for signal in signals for source in signal.sources)


def test_an_office_that_mistypes_codes_and_gets_in_is_not_told(scene: Scene) -> None:
    session = {"credential": 77, "consumer": 77, "authentication": BEARER}
    right = guess(status=200, **session, calls=9)  # type: ignore[arg-type]
    assert scene.run([[guess(status=400, **session, calls=3), right]] * 60) == []  # type: ignore[arg-type]


def test_who_mistypes_a_code_three_times_probes_no_function(scene: Scene) -> None:
    session = {"credential": 77, "consumer": 77, "authentication": BEARER}
    assert scene.run([[guess(calls=1, **session)]] * 4) == []  # type: ignore[arg-type]


def test_bad_requests_elsewhere_are_no_guesses(scene: Scene) -> None:
    assert scene.run([[guess(status=400, route=3), guess(status=422, route=4)]] * 20) == []


@pytest.mark.parametrize(
    "label",
    [
        "POST /identity/api/auth/v2/check-otp",
        "POST /users/{user_id}/2fa",
        "PUT /login/verifyCode",
        "POST /mfa/challenge",
    ],
)
def test_paths_that_ask_for_a_code(label: str) -> None:
    assert asks_for_code(label) and speaks_of_codes(label)


@pytest.mark.parametrize(
    "label", ["POST /coupons/code", "GET /country-codes/code", "POST /barcode/check", "POST /login", "POST /code/run"]
)
def test_paths_that_do_not(label: str) -> None:
    assert not asks_for_code(label)

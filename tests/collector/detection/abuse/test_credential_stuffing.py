"""Passwords that are tried where others get in, and one-time codes that are guessed: with a session and without, by one
and by many. A policy or an outage that refuses everybody accuses nobody."""

import pytest

from collector.alerting.alert import AlertKind
from collector.alerting.wording import report_signal
from collector.detection.abuse.entrances import _LOGIN, asks_for_code, speaks_of_codes
from tests.collector.detection.abuse.test_contract import ITEMS, LOGIN, OUTSIDE, PEOPLE, Scene, everybody
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


EXAMPLE = 77  # A form that is no login.


def post(address: str = OUTSIDE, status: int = 401, **fields: int) -> Row:
    return Row(**{"route": LOGIN, "method": "POST", "address": address, "status": status, "calls": 5, **fields})  # type: ignore[arg-type]


def test_passwords_that_fail_where_others_get_in_are_stuffing(scene: Scene) -> None:
    signals = scene.run([post(passwords=1)] for _ in range(12))
    assert {(one.kind, one.consumer) for one in signals} == {(AlertKind.CREDENTIAL_STUFFING, f"address:{OUTSIDE}")}


def test_passwords_sent_with_the_cookie_of_a_form_are_stuffing(scene: Scene) -> None:
    """One session, from before the login: its credential is always the same."""
    cookie = {"authentication": 1 << 8, "credential": 77}
    signals = scene.run([post(passwords=1, **cookie)] for _ in range(12))
    assert {(one.kind, one.consumer) for one in signals} == {(AlertKind.CREDENTIAL_STUFFING, f"address:{OUTSIDE}")}
    elsewhere = [[post(route=ITEMS, bodies=1, **cookie)] for _ in range(30)]
    assert {one.kind for one in scene.run(elsewhere, start=Scene.later + 86_400)} == {AlertKind.BFLA}


@pytest.mark.parametrize("status", [401, 403])
def test_a_form_without_a_password_that_everybody_is_refused_is_a_policy(scene: Scene, status: int) -> None:
    steps = [[post(f"45.2.{n}.1", status, route=EXAMPLE, bodies=1) for n in range(8)] for _ in range(30)]
    assert scene.run(steps) == []


def test_writes_without_a_password_that_are_refused_are_no_logins(scene: Scene) -> None:
    """Others are let in there."""
    served = [[Row(route=EXAMPLE, method="POST", address=f"81.1.{who}.1", bodies=1) for who in range(1, PEOPLE)]]
    assert scene.run(served + [[post(route=EXAMPLE, bodies=1)]] * 30) == []


def test_a_login_that_never_let_anybody_in_accuses_nobody(scene: Scene) -> None:
    steps = [[post(f"45.2.{n}.1", route=EXAMPLE, passwords=1) for n in range(8)] for _ in range(30)]
    assert scene.run(steps) == []


def test_an_outage_that_refuses_everybody_accuses_nobody(scene: Scene) -> None:
    """Each user tries again every ten seconds, for ten minutes."""
    steps = [[post(f"81.1.{who}.1", calls=1, passwords=1) for who in range(1, PEOPLE + 1)] for _ in range(60)]
    assert scene.run(steps) == []


def test_an_outage_of_an_api_with_keys_accuses_nobody(scene: Scene) -> None:
    """Each call has a token that is new, and is refused."""
    known = {"route": ITEMS, "authentication": BEARER, "status": 401}
    steps = [
        [
            Row(consumer=who, credential=1_000 * n + who, address=f"81.1.{who}.1", **known)
            for who in range(1, PEOPLE + 1)
        ]
        for n in range(60)
    ]
    assert scene.run(steps) == []


def test_a_script_whose_password_expired_is_alone_and_no_guesser() -> None:
    scene = Scene()
    scene.feed(Scene.later - 3 * 86_400, [post(status=200, passwords=1)])
    assert [one for one in scene.run([[post(passwords=1)]] * 60) if one.kind is AlertKind.CREDENTIAL_STUFFING] == []


def test_a_group_of_guessers_at_night_is_no_outage(scene: Scene) -> None:
    """Nobody logs in meanwhile, and some of the users mistype."""
    steps = [
        [post(f"45.2.{n % 60}.1", calls=1, passwords=1) for n in range(k * 6, k * 6 + 6)]
        + [post(f"81.1.{k % 4 + 1}.1", calls=1, passwords=1)]
        for k in range(60)
    ]
    assert AlertKind.CREDENTIAL_STUFFING in {one.kind for one in scene.run(steps) if not one.consumer}


def test_stuffing_goes_on_after_an_outage_is_over(scene: Scene) -> None:
    outage = [[post(f"81.1.{who}.1", calls=1, passwords=1) for who in range(1, PEOPLE + 1)] for _ in range(6)]
    assert scene.run([*outage, everybody()]) == []
    signals = scene.run([[post(passwords=1)] for _ in range(12)], start=Scene.later + 600)
    assert AlertKind.CREDENTIAL_STUFFING in {one.kind for one in signals}


def test_clients_behind_one_proxy_are_one_address_and_still_found() -> None:
    scene, proxy = Scene(), "10.0.0.1"
    for hour in range(72):
        scene.feed(
            Scene.later - (72 - hour) * 3_600, [post(proxy, 200, passwords=1), post(proxy, calls=1, passwords=1)]
        )
    signals = scene.run([[post(proxy, calls=30, passwords=1), post(proxy, 200, passwords=1)]] * 12)
    assert AlertKind.CREDENTIAL_STUFFING in {one.kind for one in signals}


def test_where_bodies_are_not_read_the_words_of_the_path_say_where_passwords_go() -> None:
    words = ("/login", "/user/sign-in", "/oauth/token", "/api/sessions", "/authenticate")
    assert all(_LOGIN.search(f"POST {path}") for path in words)
    assert not any(_LOGIN.search(f"POST {path}") for path in ("/authors", "/authorities/{id}", "/orders", "/blogs"))

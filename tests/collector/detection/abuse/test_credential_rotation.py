"""One caller that goes through credentials is told, and honest people whose credentials change are not."""

from collections.abc import Iterable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.alerting.alert import AbuseSignal, AlertKind, Severity
from collector.alerting.wording import report_signal
from collector.detection.abuse import credential_rotation as rotation
from collector.detection.checkpoint import Checkpoint
from collector.detection.engine import Engine
from collector.log.base import Position
from tests.collector.detection.states import decode_state, encode_state, read_columns
from tests.collector.detection.stream import START, Row, make_batch

BEARER, NEGOTIATE = 1 << 3, 1 << 15
DAY = 86_400
LATER = START + 3 * DAY  # Past the time in which nobody is accused.
OUTSIDE, INSIDE = "45.1.1.1", "10.0.7.2"
WINDOW = 10


class Room:
    """Calls are `(second, address, credential)`; `run` gives what is told of rotation."""

    def __init__(self, *pasts: int) -> None:
        self.engine = Engine()
        for start in pasts or (START, LATER - DAY):  # Thirty people at home, each with a new token now and then.
            home = [(n, f"90.0.{n}.1", 100 + n + start) for n in range(30)]
            self.run([*home, *((second + 40, address, token) for second, address, token in home)], start=start)

    def run(
        self,
        calls: Iterable[tuple[float, str, int]],
        *,
        start: int = LATER,
        principal: int = 0,
        cut_at: int | None = None,
        **fields: int,
    ) -> list[AbuseSignal]:
        """`principal`: one for all calls, else each credential is its own. Rows leave at the end of their window, and
        somebody else calls for three minutes more. Before window `cut_at` the state goes through a checkpoint."""
        windows: dict[int, dict[tuple[str, int], int]] = {}
        for second, address, credential in calls:
            rows = windows.setdefault(int(second) // WINDOW * WINDOW, {})
            rows[address, credential] = rows.get((address, credential), 0) + 1
        for late in range(max(windows) + WINDOW, max(windows) + 190, WINDOW):
            windows[late] = {("90.0.0.1", 1): 1}
        told = []
        for window, counts in sorted(windows.items()):
            if window == cut_at:
                state = encode_state(self.engine, Checkpoint(position=Position(0, 0), next_signal=1))
                self.engine = Engine()
                decode_state(state, self.engine)
            rows = [
                Row(**{
                    "route": 0, "window": start + window, "calls": calls, "address": address,
                    "consumer": principal or credential, "credential": credential, "authentication": BEARER, **fields,
                })
                for (address, credential), calls in counts.items()
            ]  # fmt: skip
            told += self.engine.feed(make_batch(rows), start + window + 11)
        return [
            signal
            for signal in told
            if isinstance(signal, AbuseSignal) and signal.kind is AlertKind.CREDENTIAL_ROTATION
        ]


def take_turns(
    tokens: int, *, calls: int = 5, gap: float = 2.0, address: str = OUTSIDE, seed: int = 1, first: int = 1_000
) -> list[tuple[float, str, int]]:
    """One caller, `gap` seconds a call at the mean, another token every few calls."""
    random, second, made = Random(seed), 0.0, []
    for token in range(first, first + tokens):
        for _ in range(calls + random.randrange(-1, 2)):
            second += random.expovariate(1 / gap)
            made.append((second, address, token))
    return made


def visit(
    people: int, *, seconds: float, gap: float = 8.0, calls: int = 6, address: str = OUTSIDE, seed: int = 1
) -> list[tuple[float, str, int]]:
    """People behind one address, each with a credential nobody saw, who come independently within `seconds`."""
    random, made = Random(seed), []
    for person in range(people):
        second = random.uniform(0, seconds)
        for _ in range(1 + int(random.expovariate(1 / calls))):
            made.append((second, address, 2_000 + person))
            second += random.expovariate(1 / gap)
    return sorted(made)


@pytest.mark.parametrize("gap", [0.5, 2.0, 6.0])
def test_one_caller_with_one_token_after_the_other_is_told(gap: float) -> None:
    signals = Room().run(take_turns(45, gap=gap))
    assert {(signal.consumer, signal.endpoint_id) for signal in signals} == {(f"address:{OUTSIDE}", "")}
    report = report_signal(signals[0])
    assert (report.severity, report.risk, signals[0].is_notice) == (Severity.HIGH, "API2:2023", False)
    assert "one after the other" in report.title and "s or less" in report.why
    assert signals[0].calls > 0 and signals[0].ceiling <= signals[0].count <= 45


def test_it_is_told_after_some_fifteen_tokens() -> None:
    room, calls = Room(), take_turns(40, gap=3)
    end = next(second for second, _, token in calls if token == 1_000 + 22)
    assert room.run([call for call in calls if call[0] < end])


def test_new_tokens_of_one_subject_are_one_caller() -> None:
    """Partners sign a JWT for each call, services have one for a minute: the principal stays, and is counted as one."""
    assert Room().run(take_turns(40), principal=7) == []


def test_stolen_tokens_are_said_to_come_from_elsewhere() -> None:
    room = Room()
    room.run([(10 * n, f"91.0.{n}.1", 1_000 + n) for n in range(40)], start=LATER - DAY)
    (first, *_) = room.run(take_turns(40))
    assert "used elsewhere before" in first.detail


@pytest.mark.parametrize(("people", "seconds"), [(20, 900), (60, 3_600), (200, 9_000), (1_000, 9_000), (2_000, 3_600)])
def test_people_behind_one_address_take_no_turns_however_many(people: int, seconds: int) -> None:
    """Each is new, stays for a minute, and never comes back."""
    assert Room().run(visit(people, seconds=seconds)) == []


def test_where_half_the_stays_look_like_turns_the_others_speak_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst for independent people: one a minute, most for some ten seconds."""
    monkeypatch.setattr(rotation, "REST_SECONDS", 0)
    assert Room().run(visit(240, seconds=9_600, gap=6, calls=4)) == []


def test_renewed_tokens_of_people_are_none() -> None:
    """Thirty people of an office, all day, each with a new token each five minutes to an hour."""
    random, calls = Random(3), []
    for person in range(30):
        lifetime, second = random.uniform(300, 3_600), 0.0
        while second < 8_000:
            calls.append((second, OUTSIDE, 10_000 * (person + 1) + int(second // lifetime)))
            second += random.expovariate(1 / 40)
    assert Room().run(sorted(calls)) == []


def test_one_person_who_renews_often_and_a_probe_are_none() -> None:
    renewed = [(2.0 * n, "46.0.0.1", 5_000 + n // 150) for n in range(2_500)]
    probe = [(60.0 * n + call, "46.0.0.2", 9_000 + n) for n in range(80) for call in range(3)]
    assert Room().run(sorted([*renewed, *probe])) == []


def test_a_gateway_and_one_client_of_many_machines_are_none() -> None:
    """Tokens that stay in use, of one principal and of many: each is new once."""
    random = Random(4)
    fleet = [(0.5 * n, OUTSIDE, 7_000 + random.randrange(100) + n // 600 * 1_000) for n in range(6_000)]
    assert Room().run(fleet, principal=9) == []
    assert Room().run(fleet) == []


def test_where_every_answer_sets_another_session_nobody_is_told() -> None:
    """Forty people at home: single windows say nothing there."""
    random, calls = Random(5), []
    for person in range(40):
        second = random.uniform(0, 2_000)
        for number in range(60):
            second += random.expovariate(1 / 12)
            calls.append((second, f"46.1.{person}.1", 100_000 * (person + 1) + number))
    assert Room().run(sorted(calls)) == []


def test_sessions_of_one_call_from_inside_are_none() -> None:
    assert Room().run([(0.4 * n, INSIDE, 50_000 + n) for n in range(2_000)]) == []


@pytest.mark.parametrize(
    "fields", [{"status": 401}, {"authentication": 0}, {"authentication": NEGOTIATE}, {"length": 60}]
)
def test_what_is_no_credential_in_use_is_not_counted(fields: dict[str, int]) -> None:
    """Refused ones are guesses; Negotiate has another token each time; longer rows do not say when."""
    assert Room().run(take_turns(60), **fields) == []


def test_who_comes_back_was_not_dropped() -> None:
    """A pool of twelve, round and round, and nobody new."""
    calls = [(2.0 * n, OUTSIDE, 3_000 + n // 5 % 12) for n in range(1_500)]
    assert Room().run(calls) == []


@pytest.mark.parametrize("cut_at", [0, 60, 110])
def test_it_goes_through_a_checkpoint(cut_at: int) -> None:
    calls = take_turns(45)
    whole = Room().run(calls)
    assert whole
    assert Room().run(calls, cut_at=cut_at) == whole


def test_an_erased_address_is_in_no_state() -> None:
    """Nor is that of a guesser, whose detector keeps names of its own too."""
    room = Room()
    assert room.run(take_turns(30))
    guess = Row(route=9, method="POST", window=LATER + DAY, address=OUTSIDE, status=401, calls=3)
    room.engine.feed(make_batch([guess]), LATER + DAY + 11)
    assert room.engine.erase(f"address:{OUTSIDE}") >= 2
    state = read_columns(encode_state(room.engine, Checkpoint(position=Position(0, 0), next_signal=1)))
    assert OUTSIDE.encode() not in state and b"90.0.5.1" in state


def test_in_the_first_hour_it_is_a_notice_and_what_a_person_expects_is_told_no_more() -> None:
    room = Room(START)
    (first, *_) = room.run(take_turns(45), start=START + 600)
    assert first.is_notice and report_signal(first).severity is Severity.LOW
    room = Room()
    (first, *_) = room.run(take_turns(30))
    assert room.engine.expect(first.kind, "", first.consumer, 0.0)
    assert not room.engine.expect(first.kind, "", "address:1.2.3.4", 0.0)
    assert room.run(take_turns(20, first=8_000), start=LATER + DAY) == []


def test_an_address_of_many_people_rests_and_is_watched_again() -> None:
    """What comes to it meanwhile is not kept; an hour later one caller there is told."""
    room = Room()
    assert room.run(visit(400, seconds=3_600)) == []
    detector = room.engine.detectors["abuse.credential_rotation"]
    assert isinstance(detector, rotation.CredentialRotationDetector)
    kept = len(detector._seats)
    assert kept < 330  # Of 400 people there, and 60 elsewhere.
    assert room.run(take_turns(45), start=LATER + 7_200)


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More credentials and addresses than there is room for: the least recently seen go, and a caller who takes turns
    meanwhile is told."""
    monkeypatch.setattr(rotation, "SEATS_MAX", 300)
    monkeypatch.setattr(rotation, "SOURCES_MAX", 100)
    monkeypatch.setattr(rotation, "ALL_SOURCES_MAX", 40)  # Of others a sample, and where credentials come often.
    room, random = Room(), Random(6)
    others = [(random.uniform(0, 500), f"92.{n // 200}.{n % 200}.1", 40_000 + n) for n in range(1_500)]
    assert room.run(sorted([*others, *take_turns(45)]))


_stays = st.tuples(
    st.integers(0, rotation.SOURCES_MAX - 1),
    st.integers(0, 2**32 - 1) | st.integers(0, 30),
    st.integers(0, 300),
)


@given(st.lists(_stays | st.just((7, START, 20)), max_size=60))
def test_stays_are_sorted_as_by_three_columns(stays: list[tuple[int, int, int]]) -> None:
    source, first, length = np.array(stays, np.int64).reshape(-1, 3).T
    order = rotation.sort_stays(source, first, first + length)
    assert np.array_equal(order, np.lexsort((first + length, first, source)))
    assert (rotation.SOURCES_MAX << 32) << rotation.SEATS_MAX.bit_length() <= 2**63  # With a full table too.

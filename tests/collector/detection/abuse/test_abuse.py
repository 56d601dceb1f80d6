"""Abuse through the whole engine: each kind is found where it is, and what looks like it and is honest is not."""

from collections.abc import Iterable
from random import Random

import pytest

from collector.alerting.alert import AbuseSignal, AlertKind, Severity
from collector.alerting.wording import report_signal
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import START, Row

BEARER = 1 << 3
DAY = 86_400
LATER = START + 4 * DAY  # Past the time in which nobody is accused.


class Scene(AbuseScene):
    """Thirty honest consumers, each with three objects of its own, some public ones, and a login that now and then
    fails."""

    later = LATER

    def pass_history(self) -> None:
        """Four days."""
        for hour in range(0, 96, 4):
            self.feed(START + hour * 3_600, self.everybody(hour))

    @classmethod
    def everybody(cls, hour: int) -> list[Row]:
        return [row for user in range(1, 31) for row in cls.honest(user, hour)]

    @staticmethod
    def honest(user: int, hour: int) -> Iterable[Row]:
        address = f"81.1.{user}.1"
        known = {"consumer": user, "address": address, "authentication": BEARER}
        yield Row(route=0, calls=3, objects=tuple(user * 10 + n for n in range(3)), **known)
        yield Row(route=1, calls=2, objects=(5_000 + (user + hour) % 7, 5_100 + hour % 5), **known)
        yield Row(route=9, method="POST", address=address, status=401 if (user + hour) % 9 == 0 else 200, passwords=1)


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.pass_history()
    return scene.save()


@pytest.fixture
def scene(history: bytes) -> Scene:
    return Scene(history)


def user(number: int, **fields: object) -> Row:
    return Row(**{"route": 0, "consumer": number, "address": f"81.1.{number}.1", "authentication": BEARER, **fields})  # type: ignore[arg-type]


def kinds(signals: list[AbuseSignal]) -> set[AlertKind]:
    return {signal.kind for signal in signals}


def test_honest_days_raise_nothing() -> None:
    scene = Scene()
    assert scene.run((scene.everybody(hour) for hour in range(96)), start=START, step=3_600) == []


def test_enumeration_is_told_within_seconds_and_repetition_is_not(scene: Scene) -> None:
    walk = [[user(99, calls=20, objects=tuple(10_000 + n * 20 + i for i in range(20)))] for n in range(6)]
    first = scene.run(walk)[0]
    assert (first.kind, first.consumer) == (AlertKind.ENUMERATION, f"principal:{99:016x}")
    assert first.time - LATER <= 20 and first.count <= 60 and not first.is_notice
    assert report_signal(first).severity is Severity.HIGH
    again = [[user(98, calls=20, objects=tuple(range(30_000, 30_020)))] for _ in range(60)]
    assert scene.run(again, start=LATER + 3_600) == []


def test_a_slow_walk_is_told_within_a_day(scene: Scene) -> None:
    """One object in ten seconds: under every rate."""
    signals = scene.run([user(99, objects=(40_000 + n,))] for n in range(300))
    assert AlertKind.ENUMERATION in kinds(signals)
    assert min(signal.count for signal in signals) <= 250


def test_a_walk_in_the_first_hour_is_a_notice() -> None:
    scene = Scene()
    walk = [[user(99, calls=100, objects=tuple(n * 100 + i for i in range(100)))] for n in range(4)]
    signals = scene.run(walk, start=START)
    assert signals and all(signal.is_notice for signal in signals)
    assert {report_signal(signal).severity for signal in signals} == {Severity.LOW}


def test_a_crowd_with_histories_is_seen_at_the_endpoint(scene: Scene) -> None:
    """Every consumer takes a little that is new to it; none crosses a ceiling of its own."""
    steps = [
        [user(one, calls=4, objects=tuple(70_000 + one * 1_000 + n * 4 + i for i in range(4))) for one in range(1, 31)]
        for n in range(9)
    ]
    signals = [signal for signal in scene.run(steps) if signal.kind is AlertKind.ENUMERATION]
    assert [(signal.consumer, signal.endpoint_label) for signal in signals[:1]] == [("", "GET /things0/{things0_id}")]
    assert report_signal(signals[0]).severity is Severity.MEDIUM
    assert "evidence says what the callers share" in report_signal(signals[0]).why


def login(address: str, status: int = 401, calls: int = 1, **fields: int) -> Row:
    return Row(route=9, method="POST", address=address, status=status, calls=calls, **fields)


def test_those_who_take_much_each_are_no_crowd(scene: Scene) -> None:
    """One export as large as a crowd is judged by itself, and leaves no room for a crowd on other nights."""
    steps = [[user(3, objects=tuple(range(n * 200, n * 200 + 200)), calls=200)] for n in range(30)]
    assert {bool(signal.consumer) for signal in scene.run(steps)} == {True}


def test_a_page_of_fifty_is_no_walk_and_a_walk_past_it_is_told(scene: Scene) -> None:
    page = [[user(3, objects=tuple(range(60_000, 60_050)), calls=50)], []]
    assert scene.run([rows or [user(4)] for rows in page]) == []
    walk = [[user(5, objects=tuple(range(61_000 + n * 10, 61_010 + n * 10)), calls=10)] for n in range(9)]
    signals = scene.run(walk, start=LATER + 600, step=1)
    assert kinds(signals) == {AlertKind.ENUMERATION}
    assert signals[0].time <= LATER + 600 + 7


def test_large_lists_are_told_at_the_first_call_and_pages_are_not(scene: Scene) -> None:
    assert scene.run([[user(3, records=50, calls=1)] for _ in range(10)]) == []
    signals = scene.run([[user(4, records=1_000, calls=1)]], start=LATER + 600)
    assert [(signal.kind, signal.count) for signal in signals] == [(AlertKind.MASS_EXPORT, 1_000)]
    assert report_signal(signals[0]).risk == "API6:2023"


def test_what_is_hidden_in_a_busy_key_is_told(scene: Scene) -> None:
    """A partner asks for the same 600 objects at 20 calls/s; a thief with its key adds 10 new ones a second."""
    own = tuple(range(90_000, 90_600))

    def partner(second: int, stolen: int = 0) -> list[Row]:
        chosen = own[second * 20 % 600 : second * 20 % 600 + 20]
        new = tuple(200_000 + second * 10 + n for n in range(stolen))
        return [user(77, calls=20 + stolen, objects=chosen + new)]

    for day in range(3):
        scene.run([partner(second) for second in range(90)], start=LATER + day * DAY, step=1)
    quiet = scene.run([partner(second) for second in range(90)], start=LATER + 3 * DAY, step=1)
    assert quiet == []
    loud = scene.run([partner(second, 10) for second in range(120)], start=LATER + 3 * DAY + 600, step=1)
    assert kinds(loud) == {AlertKind.ENUMERATION}


def test_what_was_steady_in_the_first_hour_is_ordinary_afterwards() -> None:
    """A crawler that was there before us: a notice at the most, that day and the next."""
    scene = Scene()
    random, told = Random(1), []
    for minute in range(0, 30 * 60, 5):
        rows = list(Scene.honest(1 + minute // 5 % 30, minute // 60))
        objects = tuple(random.getrandbits(60) for _ in range(25))
        crawler = Row(route=0, address="66.249.70.1", calls=25, objects=objects)
        told += scene.feed(START + 60 * minute, [*rows, crawler])
    assert [signal for signal in told if not signal.is_notice] == []
    faster = [[Row(route=0, address="66.249.70.1", calls=9, objects=tuple(range(n * 9, n * 9 + 9)))] for n in range(60)]
    assert kinds(scene.run(faster, start=START + 30 * 3_600 + 60, step=1)) == {AlertKind.ENUMERATION}


def test_stuffing_is_told_and_a_busy_office_is_not(scene: Scene) -> None:
    attack = scene.run([[login("45.1.1.1", calls=8)] for _ in range(6)])
    assert kinds(attack) == {AlertKind.CREDENTIAL_STUFFING}
    assert attack[0].consumer == "address:45.1.1.1" and attack[0].count <= 32
    office = [[login("46.1.1.1", calls=3), login("46.1.1.1", status=200, calls=20)] for _ in range(60)]
    assert scene.run(office, start=LATER + DAY) == []


def test_a_crowd_of_guessers_is_told_with_its_busiest(scene: Scene) -> None:
    steps = [[login(f"45.2.{n % 60}.1", calls=1) for n in range(k * 6, k * 6 + 6)] for k in range(60)]
    signals = [signal for signal in scene.run(steps) if not signal.consumer]
    assert kinds(signals) == {AlertKind.CREDENTIAL_STUFFING}
    assert any(source.startswith("address:45.2.") for signal in signals for source in signal.sources)


def test_guessed_credentials_count_and_an_expired_one_does_not(scene: Scene) -> None:
    expired = [
        [Row(route=0, address="45.3.1.1", status=401, calls=10, credential=7, authentication=1)] for _ in range(60)
    ]
    assert scene.run(expired) == []
    guesses = [
        [Row(route=0, address="45.4.1.1", status=401, credential=100 * n + i, authentication=1) for i in range(8)]
        for n in range(10)
    ]
    assert kinds(scene.run(guesses, start=LATER + DAY)) == {AlertKind.CREDENTIAL_STUFFING}


def test_a_scanner_is_told_and_a_dead_link_is_not(scene: Scene) -> None:
    dead = [[Row(route=700, address="45.5.1.1", status=404, calls=50)] for _ in range(100)]
    assert scene.run(dead) == []
    scan = [[Row(route=800 + n * 5 + i, address="45.6.1.1", status=404) for i in range(5)] for n in range(6)]
    signals = scene.run(scan, start=LATER + DAY)
    assert {(signal.kind, signal.consumer) for signal in signals} == {(AlertKind.SCANNING, "address:45.6.1.1")}


def test_forced_browsing_that_is_refused_is_told_and_a_session_that_ran_out_is_not(scene: Scene) -> None:
    pages = [Row(route=600 + n, address="45.7.1.1", authentication=BEARER) for n in range(40)]
    assert scene.run([pages]) == []
    ran_out = [[Row(route=600 + n, address=f"45.7.1.{1 + n % 2}", status=401) for n in range(40)]]
    assert scene.run(ran_out, start=LATER + 600) == []
    refused = [[Row(route=800 + n * 5 + i, address="45.8.1.1", status=401) for i in range(5)] for n in range(6)]
    dead = [[Row(route=900, address="45.9.1.1", status=403, calls=50)] for _ in range(30)]
    keyed = [[Row(route=1_000 + i, address="45.9.1.2", authentication=BEARER, status=403) for i in range(40)]]
    assert kinds(scene.run(dead + keyed, start=LATER + DAY)) == {AlertKind.BFLA}
    signals = scene.run(refused, start=LATER + 2 * DAY)
    assert {(signal.kind, signal.consumer) for signal in signals} == {(AlertKind.SCANNING, "address:45.8.1.1")}


def test_what_everybody_is_refused_is_a_policy_and_no_scan(scene: Scene) -> None:
    examples = [[Row(route=800 + n * 5 + i, address="45.8.1.1", status=403) for i in range(5)] for n in range(12)]
    assert scene.run(examples) == []


def test_a_scanner_is_reported_in_the_words_of_its_answers(scene: Scene) -> None:
    titles = {
        status: {
            report_signal(one).title
            for one in scene.run(
                [[Row(route=n * 5 + i, address=f"45.8.1.{status % 9}", status=status) for i in range(5)]
                for n in range(status, status + 12)], start=LATER + status * 100,
            )
        }
        for status in (401, 404, 405)
    }  # fmt: skip
    assert all("ask everybody for a login" in title for title in titles[401]) and titles[401]
    assert all(title.endswith("paths that do not exist") for title in titles[404] | titles[405]) and titles[405]


def test_a_stolen_key_is_told_and_a_telephone_is_not(scene: Scene) -> None:
    telephone = [[user(1, address=f"90.{n % 5}.1.{n}", objects=(10,))] for n in range(60)]
    assert scene.run(telephone) == []
    stolen = [[user(2, address=f"91.{n}.1.1", objects=(20,))] for n in range(12)]
    assert kinds(scene.run(stolen, start=LATER + DAY)) == {AlertKind.CREDENTIAL_SHARING}
    fleet = [[user(3, address=f"10.0.{n}.1", objects=(30,))] for n in range(40)]
    assert scene.run(fleet, start=LATER + 2 * DAY) == []


def test_one_who_goes_on_past_the_limit_is_told(scene: Scene) -> None:
    flood = [[user(4, status=429, calls=25), user(4, calls=5, objects=(40,))] for _ in range(6)]
    assert kinds(scene.run(flood)) == {AlertKind.RESOURCE_EXHAUSTION}


def test_probing_functions_of_few_is_told_and_those_who_have_them_are_not(scene: Scene) -> None:
    staff = [[user(one, route=50, objects=())] for one in (11, 12)]
    assert scene.run(staff) == []
    probe = [[user(5, route=50, status=403), user(5, route=51, status=403)], [user(5, route=52, status=401)]]
    signals = scene.run(probe, start=LATER + 100)
    assert {(signal.kind, signal.consumer) for signal in signals} == {(AlertKind.BFLA, f"principal:{5:016x}")}


def test_reading_objects_of_many_owners_is_told(scene: Scene) -> None:
    """One object in half an hour, of another owner each time."""
    signals = scene.run(([user(99, objects=(one * 10,))] for one in range(1, 12)), step=1_800)
    assert kinds(signals) == {AlertKind.BOLA}
    assert signals[0].consumer == f"principal:{99:016x}" and signals[0].time <= LATER + 3 * 3_600


def walk(*, known: int, by: int = 99) -> list[list[Row]]:
    """Fourteen objects that nobody had read, and in between `known` that belong to others."""
    unread = [by * 1_000 + n for n in range(14)]
    steps = [*unread[:6], *(owner * 10 for owner in range(1, known + 1)), *unread[6:]]
    return [[user(by, objects=(number,))] for number in steps]


def test_a_walk_over_objects_that_hardly_anybody_reads_is_told(scene: Scene) -> None:
    """Two owners among sixteen objects."""
    signals = scene.run(walk(known=2), step=600)
    assert kinds(signals) == {AlertKind.BOLA}
    assert signals[0].consumer == f"principal:{99:016x}" and signals[0].count == 9


def test_a_walk_goes_through_a_checkpoint(scene: Scene) -> None:
    steps = walk(known=2)
    assert scene.run(steps[:8], step=600) == []
    scene.restart()
    assert kinds(scene.run(steps[8:], start=LATER + 8 * 600, step=600)) == {AlertKind.BOLA}


def test_what_looks_like_a_walk_and_is_none(scene: Scene) -> None:
    one = scene.run(walk(known=1), step=300)  # One owner: a family, a renewed token.
    at_once = scene.run(walk(known=2, by=98), start=LATER + DAY, step=60)  # Support shows within the hour what it is.
    assert (one, at_once) == ([], [])


def test_a_walk_of_hours_is_told_by_one_owner_unless_it_comes_back(scene: Scene) -> None:
    assert kinds(scene.run(walk(known=1), step=1_200)) == {AlertKind.BOLA}
    steps = walk(known=1, by=98)
    assert scene.run([*steps[:4], steps[0], *steps[4:]], start=LATER + DAY, step=1_200) == []
    assert scene.run(walk(known=0, by=97), start=LATER + 2 * DAY, step=1_200) == []


def test_who_comes_back_to_what_it_read_walks_nowhere(scene: Scene) -> None:
    halves = walk(known=2)
    steps = [step for n in range(0, 16, 2) for step in halves[n : n + 2] * 3]
    assert scene.run(steps, step=300) == []


def test_an_export_makes_nobody_less_an_owner(scene: Scene) -> None:
    """It reads every object each night, from inside, and owns none."""
    own = tuple(one * 10 + n for one in range(1, 31) for n in range(3))
    job = Row(route=0, consumer=70, address="10.0.4.17", authentication=BEARER, calls=90, objects=own)
    nights = [scene.feed(LATER + night * DAY, [job]) for night in range(3)]
    assert AlertKind.BOLA not in {signal.kind for night in nights for signal in night if not signal.is_notice}
    signals = scene.run(([user(99, objects=(one * 10,))] for one in range(1, 12)), start=LATER + 3 * DAY, step=1_800)
    assert AlertKind.BOLA in kinds(signals)


def test_a_renewed_token_and_public_objects_are_no_probing(scene: Scene) -> None:
    renewed = [[user(200, objects=tuple(10 * 10 + n for n in range(3)))] for _ in range(20)]
    assert scene.run(renewed) == []
    public = [[user(201, route=1, objects=(5_000 + n % 7, 5_100 + n % 5))] for n in range(40)]
    assert scene.run(public, start=LATER + DAY) == []


def test_staff_that_reads_for_others_is_a_notice(scene: Scene) -> None:
    scene.run([[user(99, route=60)]])
    signals = scene.run(([user(99, objects=(one * 10,))] for one in range(1, 12)), start=LATER + 60, step=60)
    assert kinds(signals) == {AlertKind.BOLA}
    assert all(signal.is_notice for signal in signals)


def test_what_a_person_expects_is_told_no_more(scene: Scene) -> None:
    walk = [[user(99, calls=20, objects=tuple(10_000 + n * 20 + i for i in range(20)))] for n in range(30)]
    first = scene.run(walk[:6])[0]
    assert scene.engine.expect(first.kind, first.endpoint_id, first.consumer, 0.0)
    assert not scene.engine.expect(first.kind, "nowhere", first.consumer, 0.0)
    assert scene.run(walk[6:7], start=LATER + 60) == []


def test_every_kind_has_words(scene: Scene) -> None:
    signals = scene.run([[login("45.1.1.1", calls=30)], [user(4, status=429, calls=90)]])
    assert len(signals) == 2
    for signal in signals:
        report = report_signal(signal)
        assert "{" not in report.title.replace("{things", "") and "OWASP API" in report.why


SQLI, XSS, CONFIRMED = 1, 2, 1 << 4


def payload(number: int, kind: int = SQLI, evidence: int = 0) -> int:
    return number << 8 | evidence | kind


def attack(consumer: int, *payloads: int, address: str = "10.0.0.8") -> Row:
    return user(consumer, address=address, objects=(), payloads=tuple(sorted(payloads)))


def test_five_different_payloads_in_ten_minutes_are_told_and_fewer_are_not(scene: Scene) -> None:
    same = [[attack(5, payload(1), payload(2), payload(3), payload(4))] for _ in range(50)]
    assert scene.run(same) == []
    slow = [[attack(6, payload(n))] for n in range(20)]
    assert scene.run(slow, start=LATER + DAY, step=151) == []
    fast = [[attack(7, payload(n, XSS if n > 2 else SQLI))] for n in range(6)]
    (signal,) = scene.run(fast, start=LATER + 2 * DAY)
    assert (signal.kind, signal.count, signal.detail) == (AlertKind.INJECTION, 5, "3 sqli, 2 xss")
    assert report_signal(signal).severity is Severity.MEDIUM


def test_one_confirmed_payload_is_told_at_once_also_in_the_first_hour_and_from_inside() -> None:
    scene = Scene()
    (signal,) = scene.feed(LATER, [attack(1, payload(9, evidence=CONFIRMED))])
    report = report_signal(signal)
    assert (report.severity, report.risk, report.kind) == (Severity.HIGH, "A03:2021", AlertKind.INJECTION)
    assert "status 500" in report.why
    assert "1 sqli" in report.title
    # The same again is no news; another payload that is not confirmed neither.
    assert scene.feed(LATER + 10, [attack(1, payload(9, evidence=CONFIRMED), payload(10))]) == []


def test_what_a_person_expects_of_a_tester_is_its_ceiling(scene: Scene) -> None:
    probes = [[attack(8, *(payload(10 * n + i) for i in range(3)))] for n in range(4)]
    signals = scene.run(probes)
    assert kinds(signals) == {AlertKind.INJECTION}
    assert scene.engine.expect(AlertKind.INJECTION, signals[0].endpoint_id, signals[0].consumer, 0.0)
    again = [[attack(8, payload(100 + n))] for n in range(signals[-1].count)]
    assert scene.run(again, start=LATER + DAY) == []
    scene.restart()
    assert scene.feed(LATER + DAY + 150, [attack(8, payload(100))]) == []
    assert kinds(scene.feed(LATER + DAY + 160, [attack(8, payload(300))])) == {AlertKind.INJECTION}

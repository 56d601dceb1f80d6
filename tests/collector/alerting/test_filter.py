"""What of the detectors' reports is told, by level, known good and verdicts; and what each level would tell."""

from dataclasses import replace

import pytest

from collector.alerting.alert import Alert, AlertKind, Report, Severity, Verdict, VerdictReach
from collector.alerting.detection import DAY_SECONDS, PastReport, keep_report, preview_levels
from collector.alerting.filter import CONFIRMED_SECONDS, FilteredReport, ReportFilter, ReportOutcome
from collector.alerting.lifecycle import FLAP_SECONDS
from collector.alerting.silences import KnownGood
from collector.core.kinds import LEVELS, PLANS, Sensitivity
from tests.collector.alerting.test_lifecycle import make_report
from tests.collector.api.fakes import make_alert

NOW = 1_000_000.0


def make_rule(**fields: object) -> KnownGood:
    plain = {"note": "n", "created_at": NOW, "created_by": "b", "expires_at": NOW + 60, "updated_at": NOW}
    return KnownGood(**{"id": "r1"} | plain | fields)  # type: ignore[arg-type]


def judge(sieve: ReportFilter, report: Report, now: float = NOW, *, is_open: bool = False) -> FilteredReport:
    return sieve.apply(report, now, is_open=is_open)


def judged_alert(report: Report, verdict: Verdict) -> Alert:
    return make_alert(
        "a",
        kind=report.kind,
        severity=report.severity,
        endpoint_id=report.endpoint_id,
        consumer=report.consumer,
        measure=report.measure,
        verdict=verdict,
        verdict_at=NOW,
    )


@pytest.mark.parametrize(
    ("fields", "consumer", "is_matched"),
    [
        ({"consumer": "principal:1"}, "principal:1", True),
        ({"consumer": "principal:1"}, "principal:2", False),
        ({"network": "198.51.100.0/24"}, "address:198.51.100.7", True),
        ({"network": "198.51.100.0/24"}, "address:198.51.101.7", False),
        ({"network": "198.51.100.0/24"}, "principal:198.51.100.7", False),
        ({"network": "2001:db8::/32"}, "address:2001:db8::1", True),
        ({"workload": "shop/*"}, "workload:shop/crawler", True),
        ({"workload": "shop/*"}, "workload:bank/crawler", False),
        ({"endpoint_id": "e1"}, "principal:1", True),
        ({"endpoint_id": "e1", "consumer": "principal:2"}, "principal:1", False),
        ({"kind": "volume_pair"}, "principal:1", True),
        ({"kind": "scanning"}, "principal:1", False),
    ],
)
def test_a_rule_matches_where_all_it_names_holds_and_until_it_expires(
    fields: dict[str, object], consumer: str, is_matched: bool
) -> None:
    sieve = ReportFilter()
    sieve.rules["r1"] = make_rule(**fields)
    report = make_report(consumer=consumer)
    expected = ReportOutcome.KNOWN_GOOD if is_matched else ReportOutcome.SENT
    assert judge(sieve, report).outcome is expected
    assert judge(sieve, report, NOW + 60).outcome is ReportOutcome.SENT
    sieve.rules["r1"] = replace(sieve.rules["r1"], ended_at=NOW)
    assert judge(sieve, report).outcome is ReportOutcome.SENT
    assert sieve.counts[ReportOutcome.KNOWN_GOOD] == is_matched


@pytest.mark.parametrize("fields", [{}, {"network": "198.51.100.300/24", "consumer": "c"}, {"kind": "storm"}])
def test_a_rule_that_names_nothing_or_cannot_be_is_refused_in_a_sentence(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"names nothing|is '"):
        make_rule(**fields)


def test_a_level_tells_what_is_not_louder_and_lets_open_alerts_go_on() -> None:
    report = make_report(quietest=Sensitivity.NORMAL)
    told = [judge(ReportFilter(level), report).outcome for level in LEVELS]
    assert told == [ReportOutcome.TOO_QUIET, ReportOutcome.SENT, ReportOutcome.SENT]
    assert judge(ReportFilter(Sensitivity.QUIET), report, is_open=True).outcome is ReportOutcome.SENT


def test_a_false_alarm_allows_as_much_again_and_can_be_taken_back() -> None:
    sieve, report = ReportFilter(), make_report(measure=100.0)
    sieve.note_verdict(judged_alert(report, Verdict.FALSE_ALARM))
    assert judge(sieve, replace(report, measure=149.0)).outcome is ReportOutcome.FALSE_ALARM
    assert judge(sieve, replace(report, measure=151.0)).outcome is ReportOutcome.SENT
    assert judge(sieve, replace(report, consumer="c2")).outcome is ReportOutcome.SENT
    sieve.note_verdict(judged_alert(report, Verdict.NONE))
    assert judge(sieve, report).outcome is ReportOutcome.SENT


@pytest.mark.parametrize("kind", [AlertKind.MCP_TOOL_CHANGED, AlertKind.NEW_DATA_CLASS, AlertKind.NEW_THIRD_PARTY])
def test_a_change_that_was_a_false_alarm_hides_no_later_one(kind: AlertKind) -> None:
    sieve, report = ReportFilter(), make_report(kind=kind, measure=3.0)
    sieve.note_verdict(judged_alert(report, Verdict.FALSE_ALARM))
    assert judge(sieve, replace(report, measure=1.0)).outcome is ReportOutcome.SENT


@pytest.mark.parametrize(("is_above", "measure", "is_told"), [
    (True, 149.0, False),
    (True, 151.0, True),
    (False, 0.0, True),  # It was said that many calls are in order, not that none are.
])  # fmt: skip
def test_a_rise_that_was_a_false_alarm_hides_no_fall(is_above: bool, measure: float, is_told: bool) -> None:
    sieve, report = ReportFilter(), make_report(AlertKind.VOLUME_ENDPOINT, consumer="", measure=100.0)
    rise = judged_alert(report, Verdict.FALSE_ALARM)
    sieve.note_verdict(replace(rise, observed_rate=100.0, expected_rate=10.0))
    outcome = judge(sieve, replace(report, is_above=is_above, measure=measure)).outcome
    assert (outcome is ReportOutcome.SENT) == is_told


@pytest.mark.parametrize(("is_above", "measure", "is_told"), [
    (False, 6.0, False),
    (False, 4.0, False),
    (False, 3.9, True),  # Less than two thirds of what was said to be in order.
    (True, 5.0, True),
])  # fmt: skip
def test_a_fall_that_was_a_false_alarm_hides_neither_a_deeper_one_nor_a_rise(
    is_above: bool, measure: float, is_told: bool
) -> None:
    sieve, report = ReportFilter(), make_report(AlertKind.VOLUME_ENDPOINT, consumer="", measure=6.0, is_above=False)
    fall = judged_alert(report, Verdict.FALSE_ALARM)
    sieve.note_verdict(replace(fall, observed_rate=6.0, expected_rate=50.0))
    outcome = judge(sieve, replace(report, is_above=is_above, measure=measure)).outcome
    assert (outcome is ReportOutcome.SENT) == is_told


def test_an_endpoint_that_is_meant_to_call_hosts_may_do_so_for_all_its_callers() -> None:
    def name_host(consumer: str, endpoint_id: str = "e1") -> Report:
        known = {"kind": AlertKind.SSRF, "severity": Severity.HIGH, "endpoint_id": endpoint_id, "consumer": consumer}
        return replace(make_report(), **known, measure=1.0, observed_rate=0.0, expected_rate=0.0)  # type: ignore[arg-type]

    sieve = ReportFilter()
    first = name_host("principal:1")
    assert judge(sieve, first).outcome is ReportOutcome.SENT
    sieve.note_verdict(judged_alert(first, Verdict.FALSE_ALARM))
    for consumer in ("principal:1", "principal:2"):
        assert judge(sieve, name_host(consumer)).outcome is ReportOutcome.FALSE_ALARM
    assert judge(sieve, replace(name_host("principal:2"), measure=99.0)).outcome is ReportOutcome.FALSE_ALARM
    # Not of other endpoints, of the credentials of a cloud, nor of other kinds.
    assert judge(sieve, name_host("principal:2", "e2")).outcome is ReportOutcome.SENT
    assert judge(sieve, replace(name_host("principal:2"), is_sure=True)).outcome is ReportOutcome.SENT
    other = replace(name_host("principal:2"), kind=AlertKind.INJECTION)
    assert judge(sieve, other).outcome is ReportOutcome.SENT
    sieve.note_verdict(judged_alert(name_host("principal:3", "e9"), Verdict.CONFIRMED))
    assert judge(sieve, name_host("principal:3")).outcome is ReportOutcome.SENT
    sieve.restore_verdicts(
        [judged_alert(first, Verdict.FALSE_ALARM), judged_alert(name_host("principal:4"), Verdict.CONFIRMED)]
    )
    assert judge(sieve, name_host("principal:2")).outcome is ReportOutcome.SENT


def test_what_a_confirmed_actor_does_is_told_louder_for_a_week() -> None:
    sieve, report = ReportFilter(Sensitivity.QUIET), make_report(quietest=Sensitivity.PARANOID, severity=Severity.LOW)
    assert judge(sieve, report).outcome is ReportOutcome.TOO_QUIET
    sieve.note_verdict(judged_alert(report, Verdict.CONFIRMED))
    judged = judge(sieve, replace(report, kind=AlertKind.SCANNING, endpoint_id="e9"))
    assert (judged.outcome, judged.report.severity, judged.report.is_sure) == (
        ReportOutcome.SENT,
        Severity.MEDIUM,
        True,
    )
    assert judge(sieve, report, NOW + CONFIRMED_SECONDS).outcome is ReportOutcome.TOO_QUIET


@pytest.mark.parametrize(
    ("reach", "alert", "sent"),
    [
        (VerdictReach.NAMESPACE, {"namespace": "shop"}, ["shop e1", "shop e2"]),
        (VerdictReach.NAMESPACE, {"namespace": ""}, ["shop e1"]),
        (VerdictReach.ENDPOINT, {"namespace": "shop"}, ["shop e1"]),
        (VerdictReach.NAMESPACE, {"namespace": "", "endpoint_id": ""}, []),
        (VerdictReach.EVERYWHERE, {"namespace": "shop"}, ["shop e1", "shop e2", "bank e3", " "]),
    ],
)
def test_what_somebody_bound_confirmed_is_louder_in_the_own_part_alone(
    reach: VerdictReach, alert: dict[str, object], sent: list[str]
) -> None:
    sieve, report = ReportFilter(Sensitivity.QUIET), make_report(quietest=Sensitivity.PARANOID)
    judged = judged_alert(report, Verdict.CONFIRMED)
    sieve.note_verdict(replace(judged, verdict_reach=reach, **alert))  # type: ignore[arg-type]
    places = [("shop", "e1"), ("shop", "e2"), ("bank", "e3"), ("", "")]
    found = [
        f"{namespace} {endpoint}"
        for namespace, endpoint in places
        if judge(sieve, replace(report, namespace=namespace, endpoint_id=endpoint)).outcome is ReportOutcome.SENT
    ]
    assert found == sent


def test_who_is_bound_takes_nothing_back_that_holds_everywhere() -> None:
    sieve, report = ReportFilter(Sensitivity.QUIET), make_report(quietest=Sensitivity.PARANOID, namespace="bank")
    sieve.note_verdict(judged_alert(report, Verdict.CONFIRMED))
    own = judged_alert(replace(report, namespace="shop", endpoint_id="e2"), Verdict.FALSE_ALARM)
    sieve.note_verdict(replace(own, namespace="shop", verdict_reach=VerdictReach.NAMESPACE))
    assert judge(sieve, report).outcome is ReportOutcome.SENT
    sieve.note_verdict(judged_alert(replace(report, endpoint_id="e2"), Verdict.FALSE_ALARM))
    assert judge(sieve, report).outcome is ReportOutcome.TOO_QUIET


def test_who_is_bound_allows_nobody_more_everywhere() -> None:
    sieve, everywhere = ReportFilter(Sensitivity.NORMAL), make_report(endpoint_id="", namespace="shop", measure=10.0)
    at_one = replace(everywhere, endpoint_id="e1")
    for report in (everywhere, at_one):
        alert = replace(judged_alert(report, Verdict.FALSE_ALARM), endpoint_id=report.endpoint_id)
        sieve.note_verdict(replace(alert, verdict_reach=VerdictReach.NAMESPACE))
    assert judge(sieve, everywhere).outcome is ReportOutcome.SENT
    assert judge(sieve, at_one).outcome is ReportOutcome.FALSE_ALARM
    sieve.note_verdict(replace(judged_alert(everywhere, Verdict.FALSE_ALARM), endpoint_id=""))
    assert judge(sieve, everywhere).outcome is ReportOutcome.FALSE_ALARM
    sieve.note_verdict(replace(alert, endpoint_id="", verdict=Verdict.NONE, verdict_reach=VerdictReach.NAMESPACE))
    assert judge(sieve, everywhere).outcome is ReportOutcome.FALSE_ALARM


def test_a_preview_keeps_each_levels_budget_and_leaves_out_what_is_known_good() -> None:
    past: list[PastReport] = []
    for day in range(10):
        for number in range(40):
            at = NOW + day * DAY_SECONDS + number * 2_000
            quietest = LEVELS[number % 3]
            report = make_report(consumer=f"c{number}", endpoint_id=f"e{number}", window_end=at, quietest=quietest)
            past.append(keep_report(FilteredReport(report, ReportOutcome.SENT), at))
        high = make_report(consumer="thief", endpoint_id="e", window_end=at, severity=Severity.HIGH)
        past.append(keep_report(FilteredReport(high, ReportOutcome.SENT), at))
        known = make_report(consumer="partner", endpoint_id="e", window_end=at, severity=Severity.HIGH)
        past.append(keep_report(FilteredReport(known, ReportOutcome.KNOWN_GOOD, "r1"), at))
    previews = preview_levels(past, 10 * DAY_SECONDS)
    assert [one.level for one in previews] == list(LEVELS)
    assert all(one.high_a_day == 1.0 for one in previews)
    for one in previews:
        assert 0 < one.alerts_a_day - one.high_a_day <= PLANS[one.level].alerts_a_day + 0.1
    assert previews[0].alerts_a_day < previews[1].alerts_a_day < previews[2].alerts_a_day


def test_a_preview_closes_alerts_as_time_went_by() -> None:
    def keep(day: float) -> PastReport:
        at = NOW + day * DAY_SECONDS
        return keep_report(FilteredReport(make_report(window_end=at, severity=Severity.HIGH), ReportOutcome.SENT), at)

    quiet = FLAP_SECONDS / DAY_SECONDS
    previews = preview_levels([keep(day) for day in (0, 0.5 * quiet, 2, 2 + 3 * quiet, 9)], 10 * DAY_SECONDS)
    # The second is within the hour in which the same alert opens again.
    assert [round(10 * one.alerts_a_day) for one in previews] == [4, 4, 4]

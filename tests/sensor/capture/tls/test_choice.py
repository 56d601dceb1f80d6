"""Each process has what its cgroup chose, as long as its number stands for it."""

from sensor.capture.tls.choice import (
    AUTO_CALLS_PER_SECOND,
    AUTO_CPU_RATIO,
    AUTO_TURN_FACTOR,
    EVERYBODY_ELSE,
    UNKNOWN,
    WITHOUT_TURNS,
    TlsChoices,
)
from sensor.capture.tls.processes import ProcessPlace
from sensor.core.read_tls import ReadTls, TlsChoice

CHOSEN = {
    "/off": TlsChoice(mode=ReadTls.OFF, reason="It is off."),
    "/auto": TlsChoice(mode=ReadTls.AUTO),
    "/full": TlsChoice(mode=ReadTls.FULL),
}


def make_choices(*, turns_need: str = "") -> TlsChoices:
    return TlsChoices(
        ReadTls.AUTO,
        calls_per_second=2_000,
        calls_burst=5_000,
        find_choice=lambda path: CHOSEN.get(path or "", UNKNOWN),
        find_path=lambda cgroup_id: {1: "/off", 2: "/auto"}.get(cgroup_id),
        turns_need=turns_need,
    )


def test_processes_have_what_their_cgroups_chose() -> None:
    choices = make_choices()
    assert choices.look({7: ProcessPlace(1, "/off"), 8: ProcessPlace(1, "/auto"), 9: ProcessPlace(1, "/full")}) == set()
    assert choices.find(7).reason == "It is off."
    assert (choices.find_budget(8).calls_per_second, choices.find_budget(8).cpu_ratio) == (
        AUTO_CALLS_PER_SECOND,
        AUTO_CPU_RATIO,
    )
    assert (choices.find_budget(9).calls_per_second, choices.find_budget(9).cpu_ratio) == (2_000, None)
    assert choices.count_modes() == {ReadTls.OFF: 1, ReadTls.AUTO: 1, ReadTls.FULL: 1}
    assert choices.find(99) is UNKNOWN


def test_limits_name_those_alone_that_differ_from_the_setting() -> None:
    choices = make_choices()
    auto = AUTO_TURN_FACTOR * AUTO_CALLS_PER_SECOND
    assert choices.list_limits() == {EVERYBODY_ELSE: auto}
    choices.look({8: ProcessPlace(1, "/auto"), 9: ProcessPlace(1, "/full")})
    assert choices.list_limits() == {EVERYBODY_ELSE: auto, 9: 2_000}
    choices.limit(100)  # As the governor does: none has more than that on average.
    assert choices.list_limits() == {EVERYBODY_ELSE: 200, 9: 100}


def test_a_number_that_is_used_again_is_another_process() -> None:
    choices = make_choices()
    choices.look({7: ProcessPlace(1, "/full"), 8: ProcessPlace(1, "/auto")})
    assert choices.look({7: ProcessPlace(2, "/off")}) == {7, 8}
    assert choices.find(7).mode is ReadTls.OFF
    assert choices.find(8) is UNKNOWN


def test_what_comes_of_a_process_that_nobody_looked_at_is_used_by_its_cgroup() -> None:
    choices = make_choices()
    assert (choices.may_read(7, 1), choices.may_read(7, 2), choices.may_read(7, 3)) == (False, True, False)
    choices.look({7: ProcessPlace(1, "/off")})
    assert not choices.may_read(7, 2), "its own choice holds, whoever made its socket"


def test_auto_reads_by_no_probes_where_there_are_no_turns() -> None:
    choices = make_choices(turns_need="Linux 6.10")
    choices.look({8: ProcessPlace(1, "/auto"), 9: ProcessPlace(1, "/full")})
    assert (choices.find(8).mode, choices.find(8).reason) == (ReadTls.OFF, WITHOUT_TURNS.format(need="Linux 6.10"))
    assert choices.find(9).mode is ReadTls.FULL
    assert choices.may_read(8, 0), "an agent of Java needs none"


def test_a_governed_budget_is_the_lesser() -> None:
    choices = make_choices()
    choices.look({8: ProcessPlace(1, "/auto"), 9: ProcessPlace(1, "/full")})
    choices.limit(500)
    assert [choices.find_budget(pid).calls_per_second for pid in (8, 9)] == [AUTO_CALLS_PER_SECOND, 500]
    assert [choices.is_lowered(pid) for pid in (8, 9)] == [False, True]
    choices.limit(100)
    assert [choices.is_lowered(pid) for pid in (8, 9)] == [True, True]
    assert [choices.find_budget(pid).calls_per_second for pid in (8, 9)] == [100, 100]


def test_the_coverage_has_mode_and_budget() -> None:
    choices = make_choices()
    choices.look({7: ProcessPlace(1, "/off"), 8: ProcessPlace(1, "/auto"), 9: ProcessPlace(1, "/full")})
    assert choices.describe(7) == ""
    assert choices.describe(8) == "read_tls is auto: at most 200 calls/s of a process and 2 % of its processor time."
    assert choices.describe(9) == "read_tls is full: at most 2,000 calls/s of a process."
    agents = [choices.describe_agent(pid) for pid in (7, 8, 9)]
    assert agents == ["", "read_tls is auto: at most 2,000 calls/s of a process.", choices.describe(9)]

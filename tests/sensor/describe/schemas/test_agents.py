"""What agents do with tools is counted: repeats and new tools. What pollers and agents at work do is not."""

from collections.abc import Iterable
from random import Random

import pytest

from sensor.describe.schemas import agents
from sensor.describe.schemas.agents import (
    ALL_TOOLS_MAX,
    CALLERS_MAX,
    FAN_OUT_NS,
    IDLE_NS,
    NEW_TOOLS_MIN,
    REPEATS_MIN,
    SESSIONS_MAX,
    TOOLS_MAX,
    AgentWatch,
    ToolUse,
)
from sensor.sensitive.kinds import PLACE_SHIFT, DataPlace, decode_number

START_NS = 1_700_000_000 * 10**9
STATUS = (1, 1)  # A tool and its arguments.


def play(
    uses: Iterable[tuple[float, tuple[int, int]]], *, watch: AgentWatch | None = None, caller: int = 1
) -> list[tuple[int, int]]:
    """Repeats and new tools as each use reports them; of a use the seconds since the last one come first."""
    watch, time_ns, told = watch or AgentWatch(), START_NS, []
    for waits, (tool, arguments) in uses:
        time_ns += round(waits * 10**9)
        codes = watch.see(7, caller, 0, [ToolUse(tool, arguments)], time_ns)
        numbers = {code >> PLACE_SHIFT: decode_number(code & 63) for code in codes}
        told.append((numbers.get(DataPlace.TOOL_REPEATS, 0), numbers.get(DataPlace.NEW_TOOLS, 0)))
    return told


def count_repeats(uses: Iterable[tuple[float, tuple[int, int]]]) -> int:
    """The most of a run."""
    return max(repeats for repeats, _ in play(uses))


@pytest.mark.parametrize("cycle", [1, 2, 3, 4])
@pytest.mark.parametrize("seconds", [0.1, 2, 6])
def test_a_loop_is_counted_however_many_calls_its_cycle_has(cycle: int, seconds: float) -> None:
    random = Random(cycle)
    loop = [(seconds * random.lognormvariate(0, 0.6), (number % cycle, 5)) for number in range(120)]
    assert count_repeats(loop) >= 32


def test_a_tight_loop_counts_however_even_it_is() -> None:
    assert count_repeats([(0.05, STATUS)] * 40) >= 32


@pytest.mark.parametrize("seconds", [1, 2, 10, 60])
def test_a_program_that_polls_at_a_steady_pace_is_not_a_loop(seconds: float) -> None:
    random = Random(int(seconds))
    steady = [(seconds + random.expovariate(40), STATUS) for _ in range(500)]
    # Now and then its host is busy.
    assert count_repeats([(one + (number % 20 == 0), use) for number, (one, use) in enumerate(steady)]) == 0


def test_a_program_that_waits_twice_as_long_each_time_is_not_a_loop() -> None:
    assert count_repeats([(min(2.0**number, 60), STATUS) for number in range(60)]) == 0


def test_whoever_does_something_else_between_is_not_in_a_loop() -> None:
    random = Random(1)
    work = [(random.expovariate(0.2), STATUS if number % 3 else (2, number)) for number in range(300)]
    assert count_repeats(work) == 0


def test_other_arguments_are_another_use() -> None:
    assert count_repeats([(0.1, (1, number)) for number in range(100)]) == 0


def test_a_pause_begins_anew() -> None:
    some = [(0.1, STATUS)] * REPEATS_MIN
    assert count_repeats(some * 2) > REPEATS_MIN
    assert count_repeats([*some, (IDLE_NS / 10**9, STATUS), *some[2:]]) == 0


def test_sessions_of_one_caller_are_counted_apart() -> None:
    watch = AgentWatch()
    codes = [watch.see(7, 1, number % 4, [ToolUse(*STATUS)], START_NS + number) for number in range(4 * REPEATS_MIN)]
    assert not any(codes)
    assert watch.see(7, 1, 0, [ToolUse(*STATUS)], START_NS + 99)


def test_tools_that_a_caller_did_not_use_before_are_counted() -> None:
    told = play([(1, (number, 0)) for number in range(1, 30)])
    assert told[NEW_TOOLS_MIN - 2] == (0, 0) and told[NEW_TOOLS_MIN - 1] == (0, NEW_TOOLS_MIN)
    assert told[-1][1] >= 27
    # Again the same tools, of which it knows all.
    watch = AgentWatch()
    play([(1, (number, 0)) for number in range(1, 30)], watch=watch)
    assert not any(map(any, play([(1, (number, 0)) for number in range(1, 30)], watch=watch)))


def test_tools_that_come_one_by_one_over_hours_are_no_fan_out() -> None:
    pause = 1.01 * FAN_OUT_NS / (NEW_TOOLS_MIN - 1) / 10**9
    assert not any(map(any, play([(pause, (number, 0)) for number in range(1, 60)])))


def test_tools_of_several_servers_count_together() -> None:
    watch = AgentWatch()
    codes = [watch.see(route, 1, 0, [ToolUse(3, 0)], START_NS) for route in range(1, NEW_TOOLS_MIN + 1)]
    assert [bool(one) for one in codes] == [False] * (NEW_TOOLS_MIN - 1) + [True]


def test_memory_is_bounded_whatever_callers_do() -> None:
    watch = AgentWatch()
    for caller in range(2 * SESSIONS_MAX):
        watch.see(7, caller, 0, [ToolUse(number, caller) for number in range(20)], START_NS)
    play([(0, (number, 0)) for number in range(3 * TOOLS_MAX)], watch=watch)
    assert len(watch._sessions) == SESSIONS_MAX and len(watch._callers) <= CALLERS_MAX
    held = [len(tools) for tools in watch._callers.values()]
    assert max(held) == TOOLS_MAX and sum(held) == watch._tools <= ALL_TOOLS_MAX
    assert all(len(session.last) <= agents.CYCLE_MAX for session in watch._sessions.values())

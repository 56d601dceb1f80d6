"""Says for each process whether its TLS is read, how much of it, and why.

`TlsChoices` keeps what holds for each process (sensor.core.read_tls) as of the last look, and its budget. In `auto` the
budget is small: who is read does not notice. A process's number may be used again, so what is known of it goes with its
time of start. Threads share it: what they read is replaced as a whole.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final

from sensor.capture.tls.duty import Budget
from sensor.capture.tls.processes import TICKS_PER_SECOND, ProcessPlace
from sensor.core.read_tls import ReadTls, TlsChoice

# In `auto`: calls a second of a process that are read whole, and the part of its processor time for breakpoints.
AUTO_CALLS_PER_SECOND: Final = 200
AUTO_CPU_RATIO: Final = 0.02
# Calls a second within a turn are at most so many times that: with more, other calls would wait for the sensor's work.
AUTO_TURN_FACTOR: Final = 2
# Turns in `auto` are fewer and longer than what may come at once allows: each switch stops the process for a moment.
AUTO_PERIOD_SECONDS: Final = 10.0
# Where limits are by process: those without one.
EVERYBODY_ELSE: Final = 0
UNKNOWN: Final = TlsChoice(mode=ReadTls.OFF, reason="It has just begun to be looked at.")
BUDGET: Final = "read_tls is {mode}: at most {calls:,} calls/s of a process"
# `auto` where a process cannot be read a part of the time.
WITHOUT_TURNS: Final = "read_tls is auto, which needs {need}. Set it to full to read without."


class TlsChoices:
    """What holds for each process as of the last look."""

    def __init__(
        self,
        setting: ReadTls,
        *,
        calls_per_second: int,
        calls_burst: int,
        find_choice: Callable[[str | None], TlsChoice] | None = None,
        find_path: Callable[[int], str | None] = lambda _: None,
        turns_need: str = "",
    ) -> None:
        """`calls_per_second` of a process in `full`, of which so many may come at once. `find_choice`: by a cgroup's
        path, None where that is not known; without it the setting holds everywhere. `find_path`: of a cgroup by its id.
        `turns_need`: what is missing to read a process a part of the time, as `TlsProgram.try_choosing` gives it."""
        self._find_path = find_path
        self._find_choice = find_choice or (lambda _: TlsChoice(mode=setting))
        self._calls_burst = calls_burst
        self._processes: Mapping[int, ProcessPlace] = {}
        self._choices: Mapping[int, TlsChoice] = {}
        self._setting = setting
        self.has_turns = not turns_need
        self._without_turns = TlsChoice(mode=ReadTls.OFF, reason=WITHOUT_TURNS.format(need=turns_need))
        self._most = calls_per_second
        self.limit(calls_per_second)

    def limit(self, calls_per_second: int) -> None:
        """Of a process in `full`, as governed. From any thread."""
        auto = Budget(
            calls_per_second=min(AUTO_CALLS_PER_SECOND, calls_per_second),
            cpu_ratio=AUTO_CPU_RATIO,
            period_seconds=AUTO_PERIOD_SECONDS,
            most_per_second=AUTO_TURN_FACTOR * min(AUTO_CALLS_PER_SECOND, calls_per_second),
        )
        full = Budget.of_burst(calls_per_second, self._calls_burst)
        self._budgets = {ReadTls.AUTO: auto, ReadTls.FULL: full, ReadTls.OFF: full}

    def look(self, processes: Mapping[int, ProcessPlace]) -> set[int]:
        """With the processes there are. Gives the numbers that stand for another process than
        before, and those that are gone."""
        before, self._processes = self._processes, processes
        changed = {pid for pid, one in before.items() if pid not in processes or processes[pid].start != one.start}
        self.refresh()
        return changed

    def refresh(self) -> None:
        """Takes up what labels and annotations say by now of the processes that were looked at. From any thread."""
        self._choices = {pid: self._find_choice(one.cgroup) for pid, one in self._processes.items()}

    def find(self, pid: int) -> TlsChoice:
        """What holds for a process that was looked at, by probes."""
        choice = self.find_wish(pid)
        if choice.mode is ReadTls.AUTO and not self.has_turns:
            return self._without_turns
        return choice

    def find_wish(self, pid: int) -> TlsChoice:
        """The same, whether probes can do so here or not."""
        return self._choices.get(pid, UNKNOWN)

    def find_cgroup(self, pid: int) -> str:
        """The path of a process's cgroup; that of the root where it is not known."""
        place = self._processes.get(pid)
        return place.cgroup if place is not None else "/"

    def find_start(self, pid: int) -> float:
        """When a process began, in seconds since boot; 0 where that is not known."""
        place = self._processes.get(pid)
        return place.start / TICKS_PER_SECOND if place is not None else 0.0

    @property
    def known(self) -> Collection[int]:
        """Processes that were looked at."""
        return self._choices.keys()

    def may_read(self, pid: int, cgroup_id: int) -> bool:
        """Whether what came of a process may be used: of one that nobody has looked at yet, by its cgroup."""
        return (self._choices.get(pid) or self._find_choice(self._find_path(cgroup_id))).mode is not ReadTls.OFF

    def find_budget(self, unit: int) -> Budget:
        """Of a process, and as in `auto` of a file whose processes have turns together (sensor.capture.tls.by_file)."""
        return self._budgets[self.find(unit).mode if unit > 0 else ReadTls.AUTO]

    def list_limits(self) -> Mapping[int, int]:
        """Most calls a second that are read of each process, as `TlsProgram.limit_each` takes them. A process that is
        not known yet has what the setting says."""
        most = {mode: budget.most_per_second or int(budget.calls_per_second) for mode, budget in self._budgets.items()}
        usual = most[self._setting]
        each = {pid: most[choice.mode] for pid, choice in self._choices.items()}
        return {EVERYBODY_ELSE: usual} | {pid: limit for pid, limit in each.items() if limit != usual}

    def count_modes(self) -> Mapping[ReadTls, int]:
        """Processes by what holds for them."""
        return Counter(self.find(pid).mode for pid in self._choices)

    def describe(self, pid: int) -> str:
        """Mode and budget of a process, for the coverage."""
        mode, budget = self.find(pid).mode, self.find_budget(pid)
        if mode is ReadTls.OFF:
            return ""
        cpu = "" if budget.cpu_ratio is None else f" and {budget.cpu_ratio * 100:g} % of its processor time"
        return BUDGET.format(mode=mode.value, calls=budget.calls_per_second) + f"{cpu}."

    def describe_agent(self, pid: int) -> str:
        """The same of a JVM, by its agent: it takes no breakpoint, so it has the budget of `full`."""
        mode = self.find_wish(pid).mode
        calls = self._budgets[ReadTls.FULL].calls_per_second
        return "" if mode is ReadTls.OFF else BUDGET.format(mode=mode.value, calls=calls) + "."

    def is_lowered(self, pid: int) -> bool:
        """Whether a process has less than its mode gives, for the sensor's own processor time."""
        usual = min(self._most, AUTO_CALLS_PER_SECOND) if self.find(pid).mode is ReadTls.AUTO else self._most
        return self.find_budget(pid).calls_per_second < usual

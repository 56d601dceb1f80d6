"""Counts what agents do with tools of MCP servers that are stuck or led astray: uses in, two numbers out.

**Repeats.** A use repeats if tool and arguments are those of one of the client's last CYCLE_MAX different uses, so a
cycle of a few tools counts too. Any other use begins anew, for whoever does something else gets on. A program that
polls a status asks at a steady pace: such a repeat takes one away, any other adds one. It is steady if it came PACE_NS
or more after the same use before it, and that time differs by at most PACE_PART from the median of the last ones.

**New tools.** How many tools a caller used for the first time within FAN_OUT_NS, at whatever server of this node.

Names and arguments are compared as keyed hashes, and neither leaves the node: only a number that is not small does
(sensor.sensitive.kinds). Not thread-safe, bounded, and never raises.
"""

from collections import OrderedDict
from collections.abc import Iterable
from statistics import median
from typing import Final

import msgspec

from common.bounded import BoundedDict
from sensor.core.keyed import fold
from sensor.sensitive.kinds import PLACE_SHIFT, DataPlace, encode_number

_SECOND_NS: Final = 1_000_000_000
CYCLE_MAX: Final = 4
IDLE_NS: Final = 300 * _SECOND_NS  # After it a client begins anew.
PACE_NS: Final = 9 * _SECOND_NS // 10  # People and programs poll each second at most.
PACE_PART: Final = 0.1
_PACE_LEAST_NS: Final = 3 * _SECOND_NS // 20  # What a busy host adds to a short pace.
_GAPS: Final = 8  # Of which the median is taken.
FAN_OUT_NS: Final = 300 * _SECOND_NS
# Smaller numbers are those of ordinary clients, and are not reported.
REPEATS_MIN: Final = 10
NEW_TOOLS_MIN: Final = 8
# The ones that called longest ago go, some 5 MB in all.
SESSIONS_MAX: Final = 4_096
CALLERS_MAX: Final = 2_048
TOOLS_MAX: Final = 128  # Of one caller; further ones are not counted,
ALL_TOOLS_MAX: Final = 16_384  # and of all.


class ToolUse(msgspec.Struct, frozen=True, gc=False):
    """Keyed hashes of a tool's name and of its arguments."""

    tool: int
    arguments: int


class _Use(msgspec.Struct, gc=False):
    """One of the last different uses of a session."""

    time_ns: int
    gaps: tuple[int, ...] = ()


class _Session(msgspec.Struct, gc=False):
    last: OrderedDict[int, _Use]  # By hash; the last one at the end.
    time_ns: int
    repeats: int = 0


class AgentWatch:
    """Sessions by server and caller, and the tools that each caller knows."""

    def __init__(self) -> None:
        self._sessions: BoundedDict[int, _Session] = BoundedDict(SESSIONS_MAX)
        self._callers: BoundedDict[int, dict[int, int]] = BoundedDict(CALLERS_MAX, self._drop)
        self._tools = 0

    def see(self, route_id: int, caller: int, session: int, uses: Iterable[ToolUse], time_ns: int) -> set[int]:
        """Codes of a call with these uses. `caller` and `session` are hashes of who called."""
        repeats = new = 0
        for use in uses:
            repeats = max(repeats, self._count_repeats(hash((route_id, caller, session)), use, time_ns))
            new = max(new, self._count_new(caller, fold(use.tool, route_id), time_ns))
        codes = set()
        for place, number, least in (
            (DataPlace.TOOL_REPEATS, repeats, REPEATS_MIN),
            (DataPlace.NEW_TOOLS, new, NEW_TOOLS_MIN),
        ):
            if number >= least:
                codes.add(place << PLACE_SHIFT | encode_number(number))
        return codes

    def _count_repeats(self, key: int, use: ToolUse, time_ns: int) -> int:
        """Repeats up to this use; 0 of any other use."""
        session = self._sessions.get(key)
        if session is None or abs(time_ns - session.time_ns) >= IDLE_NS:
            session = _Session(OrderedDict(), time_ns)
        self._sessions.renew(key, session)
        session.time_ns = max(session.time_ns, time_ns)
        name = fold(use.tool, use.arguments)
        known = session.last.get(name)
        if known is None:
            session.repeats = 0
            session.last[name] = _Use(time_ns)
            if len(session.last) > CYCLE_MAX:
                session.last.popitem(last=False)
            return 0
        gap = max(time_ns - known.time_ns, 0)
        if gap < PACE_NS or known.gaps:  # Of one gap alone nobody knows whether it is a pace.
            session.repeats = max(session.repeats + (-1 if _is_steady(gap, known.gaps) else 1), 0)
        session.last[name] = _Use(max(time_ns, known.time_ns), (*known.gaps[1 - _GAPS :], gap))
        session.last.move_to_end(name)
        return session.repeats

    def _count_new(self, caller: int, tool: int, time_ns: int) -> int:
        """Tools that are new to a caller, with this one; 0 where it knows this one."""
        known = self._callers.get(caller)
        if known is None:
            known = {}
        self._callers.renew(caller, known)
        if tool in known or len(known) >= TOOLS_MAX:
            return 0
        known[tool] = time_ns
        self._tools += 1
        while self._tools > ALL_TOOLS_MAX and len(self._callers) > 1:
            self._drop(*self._callers.popitem(last=False))
        return sum(abs(time_ns - first_ns) < FAN_OUT_NS for first_ns in known.values())

    def _drop(self, _: int, known: dict[int, int]) -> None:
        self._tools -= len(known)


def _is_steady(gap: int, before: tuple[int, ...]) -> bool:
    if gap < PACE_NS:
        return False
    pace = median(before)
    return abs(gap - pace) <= max(PACE_PART * pace, _PACE_LEAST_NS)

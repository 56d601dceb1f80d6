"""Counts who used which tools and prompts of a server of the Model Context Protocol: calls in, `McpUse`s out.

These name callers, so they are kept for about an hour after they were first reported. A name that a server does not
list was chosen by its caller: such names are one, so that nobody fills the place of others with names he invented.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import msgspec

from sensor.core.calls import Credentials, NamedEnds, PrincipalKind
from sensor.describe.schemas.mcp_calls import OTHER_ITEM, McpItemKind, McpUsed

MAX_USES: Final = 512  # Pairs of a caller and what it used, of one server.
MAX_USED: Final = 64  # Tools and prompts of one caller; further ones are one.
USE_NODES: Final = 4  # What a pair takes, in units of an argument of a tool.
_SECOND_NS: Final = 1_000_000_000
USES_NS: Final = 3_600 * _SECOND_NS
# Counts of callers that are known are reported at once in the first minute, and then so often.
_YOUNG_NS: Final = 60 * _SECOND_NS
USES_REFRESH_NS: Final = 300 * _SECOND_NS

_Caller = tuple[int, PrincipalKind, int, str, str]


def name_caller(caller: tuple[Credentials, NamedEnds]) -> _Caller:
    """All that is known of who called."""
    credentials, ends = caller
    return (
        credentials.principal,
        credentials.principal_kind,
        credentials.credential,
        ends.client_address,
        ends.client_workload,
    )


class McpUse(msgspec.Struct, frozen=True, kw_only=True):
    """Sampled calls of one caller to one tool or prompt; of `answered` the answer was read, and `errors` of these
    failed."""

    principal: int
    principal_kind: PrincipalKind
    credential: int
    client_address: str
    client_workload: str
    item_kind: McpItemKind
    name_hash: int
    calls: int = 0
    errors: int = 0
    answered: int = 0
    last_seen: int = 0


@dataclass(slots=True)
class McpUses:
    """Who used what of one server. Not thread-safe."""

    left_out: int = 0  # Uses that no bound let in.
    _has_news: bool = False  # Calls that were not reported.
    _began_ns: int | None = None  # When it was reported first,
    _reported_ns: int = 0  # and last.
    _uses: dict[tuple[_Caller, McpItemKind, int], McpUse] = field(default_factory=dict)
    _used: Counter[_Caller] = field(default_factory=Counter)

    @property
    def nodes(self) -> int:
        """What they take."""
        return USE_NODES * len(self._uses)

    def is_over(self, now_ns: int) -> bool:
        """Whether they have been reported for so long that others are to follow. Always asked by one clock."""
        return self._began_ns is not None and now_ns - self._began_ns >= USES_NS

    def is_due(self, now_ns: int) -> bool:
        """Whether calls wait to be reported. By the clock of `is_over`."""
        if not self._has_news or self._began_ns is None:
            return self._has_news
        age = now_ns - self._began_ns
        return age < _YOUNG_NS or age >= USES_NS or now_ns - self._reported_ns >= USES_REFRESH_NS

    def write(self, now_ns: int) -> tuple[McpUse, ...]:
        """As they may be reported now."""
        if self._began_ns is None:
            self._began_ns = now_ns
        self._reported_ns, self._has_news = now_ns, False
        return tuple(self._uses.values())

    def count(self, used: McpUsed, name_hash: int, caller: tuple[Credentials, NamedEnds], time_ns: int) -> bool:
        """A call of a tool, or for a prompt. Returns whether it is the first of its caller to it."""
        who = name_caller(caller)
        if (who, used.kind, name_hash) not in self._uses and self._used[who] >= MAX_USED:
            name_hash = OTHER_ITEM
        key = who, used.kind, name_hash
        known = self._uses.get(key)
        is_first = known is None
        self._has_news = True
        if known is None:
            if len(self._uses) >= MAX_USES:
                self.left_out += 1
                return False
            self._used[who] += 1
            known = McpUse(
                principal=who[0],
                principal_kind=who[1],
                credential=who[2],
                client_address=who[3],
                client_workload=who[4],
                item_kind=used.kind,
                name_hash=name_hash,
            )
        self._uses[key] = msgspec.structs.replace(
            known,
            calls=known.calls + 1,
            errors=known.errors + used.has_failed,
            answered=known.answered + used.is_answered,
            last_seen=time_ns // _SECOND_NS,
        )
        return is_first

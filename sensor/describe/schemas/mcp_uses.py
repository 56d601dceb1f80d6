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
from sensor.describe.schemas.uses import Caller, Uses, name_caller

MAX_USES: Final = 512  # Pairs of a caller and what it used, of one server.
MAX_USED: Final = 64  # Tools and prompts of one caller; further ones are one.
USE_NODES: Final = 4  # What a pair takes, in units of an argument of a tool.
_SECOND_NS: Final = 1_000_000_000


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
class McpUses(Uses):
    """Who used what of one server. Not thread-safe."""

    left_out: int = 0  # Uses that no bound let in.
    _uses: dict[tuple[Caller, McpItemKind, int], McpUse] = field(default_factory=dict)
    _used: Counter[Caller] = field(default_factory=Counter)

    @property
    def nodes(self) -> int:
        """What they take."""
        return USE_NODES * len(self._uses)

    def write(self, now_ns: int) -> tuple[McpUse, ...]:
        """As they may be reported now."""
        self.note_report(now_ns)
        return tuple(self._uses.values())

    def count(self, used: McpUsed, name_hash: int, caller: tuple[Credentials, NamedEnds], time_ns: int) -> bool:
        """A call of a tool, or for a prompt. Returns whether it is the first of its caller to it."""
        who = name_caller(*caller)
        if (who, used.kind, name_hash) not in self._uses and self._used[who] >= MAX_USED:
            name_hash = OTHER_ITEM
        key = who, used.kind, name_hash
        known = self._uses.get(key)
        is_first = known is None
        self.note_call()
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
